"""The one place that turns a meter's failure into data: which source, and why it tells nothing."""

from __future__ import annotations

import errno
from typing import Final

from popctl.model.meter import Unread
from popctl.model.reason import Reason
from popctl.senses.failure import printable
from popctl.wire.errors import WireError

_MEANING: Final = {
    errno.ENOENT: Reason.NO_SOURCE,
    errno.ENOTDIR: Reason.NO_SOURCE,
    errno.ENXIO: Reason.NO_SOURCE,  # a fifo that nobody reads
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.ECONNRESET: Reason.REFUSED,
    errno.EPIPE: Reason.REFUSED,
    errno.EACCES: Reason.NO_PERMISSION,
    errno.EPERM: Reason.NO_PERMISSION,
    errno.EAGAIN: Reason.OVERLOADED,
    errno.ETIMEDOUT: Reason.TIMED_OUT,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.ENETUNREACH: Reason.UNREACHABLE,
}


def unread(error: BaseException) -> Unread:
    """Say what `error`, raised while a source was read, tells."""
    detail = printable(f"{type(error).__name__}: {error}")
    match error:
        case WireError():
            return Unread(reason=Reason.GARBAGE, detail=detail)
        case OSError(errno=number) if number in _MEANING:
            return Unread(reason=_MEANING[number], detail=detail)
        case TimeoutError():
            return Unread(reason=Reason.TIMED_OUT, detail=detail)
        case EOFError():  # asyncio.IncompleteReadError is one
            return Unread(reason=Reason.REFUSED, detail="the connection was closed")
        case _:
            return Unread(reason=Reason.PROBE_ERROR, detail=detail)
