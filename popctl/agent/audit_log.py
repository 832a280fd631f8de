"""The audit file: a line for each order, taken or refused, chained and synced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from popctl.agent.api_peer import RateLimit
from popctl.audit import file
from popctl.model.instant import Instant
from popctl.wire.audit_api import AuditTail

_LOG = structlog.get_logger("popctl.audit")

_REFUSALS_PER_S: Final = 1.0 / 3600.0
_REFUSALS_AT_ONCE: Final = 60.0
_REMEMBERED_CALLERS: Final = 1024
_STRANGERS: Final = "(no certificate)"
SHOWN_ORDERS: Final = 20
"""Orders in force that the line of a refusal names."""


class Refusals:
    """Which refusals of a caller are worth a line of their own: the first ones, and then one an hour."""

    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._rate = RateLimit(clock, rate_per_s=_REFUSALS_PER_S, burst=_REFUSALS_AT_ONCE)
        self._left_out: dict[str, int] = {}

    def take(self, key: str) -> int | None:
        """Count a refusal of the caller; return how many before it have no line, or None if it gets none either."""
        if self._rate.admit(key):
            return self._left_out.pop(key, 0)
        if key in self._left_out or len(self._left_out) < _REMEMBERED_CALLERS:
            self._left_out[key] = self._left_out.get(key, 0) + 1
        return None


class AuditLog:
    """Writes one line at a time. It never stands in the way of an order that is in force already."""

    def __init__(self, path: Path, *, wall: Callable[[], float], monotonic: Callable[[], Instant]) -> None:
        self.path = path
        self.failures = 0
        """Lines that could not be written."""
        self._wall = wall
        self._one_at_a_time = asyncio.Lock()
        self._refusals = Refusals(monotonic)

    async def order(self, owner: str, reason: str, details: Mapping[str, Any]) -> bool:
        """Write that an order was taken; False if the file could not be written."""
        entry = {"unix_s": self._wall(), "owner": owner, "reason": reason, **details}
        _LOG.info("order", **entry)
        return await self._write(entry)

    async def refusal(self, key: str, owner: str, reason: str | None, details: Mapping[str, Any]) -> None:
        """Write that an order was refused.

        One caller fills no disk: after 60 lines it gets one an hour, which counts in `left_out` what came in between.
        """
        left_out = self._refusals.take(key)
        if left_out is None:
            return
        entry: dict[str, Any] = {"unix_s": self._wall(), "owner": owner, "reason": reason, "action": "refused"}
        entry |= details
        if left_out:
            entry["left_out"] = left_out
        _LOG.warning("order refused", **{name: value for name, value in entry.items() if name != "before"})
        await self._write(entry)

    async def stranger(self, host: str, problem: str, standing: list[str]) -> None:
        """Write that somebody without a good certificate was refused, whatever was wanted: there was no request yet.

        All of them count as one caller: addresses are free.
        """
        details = {
            "request": "TLS handshake",
            "asked": None,
            "status": None,
            "code": "no-certificate",
            "refusal": problem,
            "before": standing[:SHOWN_ORDERS],
            "orders": len(standing),
        }
        await self.refusal(_STRANGERS, f"address:{host}", None, details)

    async def last(self, count: int) -> AuditTail:
        """Return the last lines, for people."""
        return await asyncio.to_thread(file.last, self.path, count)

    async def _write(self, entry: Mapping[str, Any]) -> bool:
        # Two writers at once would chain to the same line.
        async with self._one_at_a_time:
            written = await asyncio.to_thread(_append, self.path, entry)
        self.failures += not written
        return written


def _append(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        file.append(path, entry, create=True)
    except OSError as error:
        _LOG.error("audit file not written", path=str(path), error=error.strerror)
        return False
    return True
