"""What the meter knows now, and everybody who wants to hear of it: one snapshot, many held connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from popctl.wire.meter_api import DaemonChanged, Hello, Measured, encode_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.model.instant import Instant
    from popctl.model.meter import Daemon, Snapshot

MAX_BEHIND: Final = 64
"""A listener that is so many lines behind is cut off: it will find the present when it comes back."""


class Listener:
    """One held connection: lines wait here until they are written."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    def tell(self, line: bytes) -> None:
        """Queue a line; one that is too far behind is told to end."""
        if self._lines.qsize() >= MAX_BEHIND:
            self.end()
        else:
            self._lines.put_nowait(line)

    def end(self) -> None:
        """Let the connection end after what is queued."""
        self._lines.put_nowait(None)

    async def next(self) -> bytes | None:
        """Return the next line; None when the connection is to end."""
        return await self._lines.get()


class Hub:
    """Holds the latest snapshot and hands every line to every listener."""

    def __init__(self, *, clock: Callable[[], Instant], interval_s: float) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._latest: tuple[Instant, Snapshot] | None = None
        self._daemons: dict[str, Daemon] = {}
        self._listeners: set[Listener] = set()

    @property
    def listeners(self) -> int:
        """How many are connected."""
        return len(self._listeners)

    def latest(self) -> Measured | None:
        """Return the latest snapshot with its age; None before the first."""
        if self._latest is None:
            return None
        at, snapshot = self._latest
        return Measured(snapshot=snapshot, age_s=max(self._clock() - at, 0.0))

    def daemons(self) -> tuple[Daemon, ...]:
        """Return what is known of the watched daemons."""
        return tuple(self._daemons.values())

    def measured(self, snapshot: Snapshot) -> None:
        """Take a new snapshot and tell everybody."""
        self._latest = (self._clock(), snapshot)
        self._tell(encode_line(Measured(snapshot=snapshot, age_s=0.0)))

    def changed(self, daemon: Daemon) -> None:
        """Take what happened to a daemon and tell everybody."""
        self._daemons[daemon.name] = daemon
        self._tell(encode_line(DaemonChanged(daemon=daemon, age_s=0.0)))

    def join(self) -> Listener:
        """Begin to listen: the present first, then whatever happens."""
        listener = Listener()
        listener.tell(encode_line(Hello(interval_s=self._interval_s, daemons=self.daemons())))
        latest = self.latest()
        if latest is not None:
            listener.tell(encode_line(latest))
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop listening."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """End all connections."""
        for listener in tuple(self._listeners):
            listener.end()

    def _tell(self, line: bytes) -> None:
        for listener in self._listeners:
            listener.tell(line)
