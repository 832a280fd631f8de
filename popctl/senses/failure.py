"""The one table that says what an error means for a probe: the backend's fault, or ours."""

from __future__ import annotations

import errno
import os
from typing import Final

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.senses.prober import Result, failed, unknown

LATE_S: Final = 0.1
"""A step this much later than planned shows a host too busy to judge others."""

_DETAIL_CHARACTERS: Final = 200

_MEANING: Final = {
    errno.ECONNREFUSED: (Outcome.FAIL, Reason.REFUSED),
    errno.ECONNRESET: (Outcome.FAIL, Reason.REFUSED),
    errno.EPIPE: (Outcome.FAIL, Reason.REFUSED),
    errno.EHOSTUNREACH: (Outcome.FAIL, Reason.UNREACHABLE),
    errno.ENETUNREACH: (Outcome.FAIL, Reason.UNREACHABLE),
    errno.EHOSTDOWN: (Outcome.FAIL, Reason.UNREACHABLE),
    errno.ENETDOWN: (Outcome.FAIL, Reason.UNREACHABLE),
    errno.ENOPROTOOPT: (Outcome.FAIL, Reason.UNREACHABLE),  # how Linux reports ICMP protocol unreachable
    errno.ETIMEDOUT: (Outcome.FAIL, Reason.TIMED_OUT),
    errno.EPERM: (Outcome.UNKNOWN, Reason.NO_PERMISSION),
    errno.EACCES: (Outcome.UNKNOWN, Reason.NO_PERMISSION),
    errno.EAGAIN: (Outcome.UNKNOWN, Reason.OVERLOADED),
    errno.EMFILE: (Outcome.UNKNOWN, Reason.OVERLOADED),
    errno.ENFILE: (Outcome.UNKNOWN, Reason.OVERLOADED),
    errno.ENOBUFS: (Outcome.UNKNOWN, Reason.OVERLOADED),
    errno.ENOMEM: (Outcome.UNKNOWN, Reason.OVERLOADED),
}
_BROKEN: Final = (Outcome.UNKNOWN, Reason.PROBE_ERROR)
"""Everything else: a wrong source address, a missing program, a bug of ours."""


def result_of(error: BaseException) -> Result:
    """Say what `error`, raised while a probe ran, tells about the backend; mostly nothing."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        return Result(*_BROKEN, printable(f"{type(error).__name__}: {error}"))
    name = errno.errorcode.get(number, type(error).__name__)
    return Result(*_MEANING.get(number, _BROKEN), f"{name}: {os.strerror(number)}")


def timed_out(*, late_s: float, detail: str = "") -> Result:
    """Judge a deadline that passed without an answer, noticed `late_s` after it was due."""
    if late_s > LATE_S:
        return unknown(Reason.OVERLOADED, f"noticed {late_s:.3f} s late")
    return failed(Reason.TIMED_OUT, detail)


def printable(text: str) -> str:
    """Return `text` on one line, without control characters, bounded: it came from outside."""
    return "".join(c if c.isprintable() else " " for c in text[:_DETAIL_CHARACTERS]).strip()
