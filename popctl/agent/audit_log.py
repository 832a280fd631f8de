"""The audit file: a line for each order, taken or refused, chained and synced. The codec is `popctl.wire.audit`."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from popctl.agent.api_peer import RateLimit
from popctl.model.instant import Instant
from popctl.wire import audit
from popctl.wire.audit_api import AuditTail, tail

_LOG = structlog.get_logger("popctl.audit")

_MODE: Final = 0o600
_LONGEST_LINE_BYTES: Final = 2**20
"""Far more than before and after of every order of a PoP."""
_REFUSALS_PER_S: Final = 1.0
_REFUSALS_AT_ONCE: Final = 60.0
_REMEMBERED_CALLERS: Final = 1024


class AuditLog:
    """Writes one line at a time. It never stands in the way of an order that is in force already."""

    def __init__(self, path: Path, *, wall: Callable[[], float], monotonic: Callable[[], Instant]) -> None:
        self.path = path
        self.failures = 0
        """Lines that could not be written."""
        self._wall = wall
        self._one_at_a_time = asyncio.Lock()
        self._refusals = RateLimit(monotonic, rate_per_s=_REFUSALS_PER_S, burst=_REFUSALS_AT_ONCE)
        self._left_out: dict[str, int] = {}

    async def order(self, owner: str, reason: str, details: Mapping[str, Any]) -> bool:
        """Write that an order was taken; False if the file could not be written."""
        entry = {"unix_s": self._wall(), "owner": owner, "reason": reason, **details}
        _LOG.info("order", **entry)
        return await self._write(entry)

    async def refusal(self, key: str, owner: str, reason: str | None, details: Mapping[str, Any]) -> None:
        """Write that an order was refused.

        One caller fills no disk: beyond a rate its refusals are counted, and the count stands in its next line.
        """
        if not self._refusals.admit(key):
            if len(self._left_out) < _REMEMBERED_CALLERS:
                self._left_out[key] = self._left_out.get(key, 0) + 1
            return
        entry: dict[str, Any] = {"unix_s": self._wall(), "owner": owner, "reason": reason, "action": "refused"}
        entry |= details
        left_out = self._left_out.pop(key, 0)
        if left_out:
            entry["left_out"] = left_out
        _LOG.warning("order refused", **{name: value for name, value in entry.items() if name != "before"})
        await self._write(entry)

    async def last(self, count: int) -> AuditTail:
        """Return the last lines, for people."""
        return await asyncio.to_thread(_last, self.path, count)

    async def _write(self, entry: Mapping[str, Any]) -> bool:
        # Two writers at once would chain to the same line.
        async with self._one_at_a_time:
            written = await asyncio.to_thread(_append, self.path, entry)
        self.failures += not written
        return written


def _last(path: Path, count: int) -> AuditTail:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(size - _LONGEST_LINE_BYTES, 0)
            file.seek(begin)
            # The first one may be the end of a line.
            lines = file.read().splitlines()[1 if begin else 0 :]
    except FileNotFoundError:
        lines = []
    return tail(lines[-count:])


def _append(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            # `popctl doctor --fix` writes here too: two lines may not name the same one before them.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _append_durably(descriptor, entry)
        finally:
            os.close(descriptor)
    except OSError as error:
        _LOG.error("audit file not written", path=str(path), error=error.strerror)
        return False
    return True


def _append_durably(descriptor: int, entry: Mapping[str, Any]) -> None:
    size = os.fstat(descriptor).st_size
    begin = max(size - _LONGEST_LINE_BYTES, 0)
    found = os.pread(descriptor, size - begin, begin)
    # What a crash left unfinished stays as it is, on a line of its own: it must not swallow this one.
    mend = b"" if not found or found.endswith(b"\n") else b"\n"
    line = mend + audit.encode(entry, found.rstrip(b"\n").rpartition(b"\n")[2])
    try:
        _write_durably(descriptor, line)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _write_durably(descriptor: int, line: bytes) -> None:
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)
