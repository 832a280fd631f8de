"""The Fleet over a line to a store: sessions, the lease, the clock. The ledger keeps the books."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import structlog

from popctl.fleet.errors import StoreError, WatchEndedError
from popctl.fleet.ledger import Ledger
from popctl.fleet.line import Snapshot
from popctl.fleet.target import Pace
from popctl.model.instant import NEVER, Instant

if TYPE_CHECKING:
    from popctl.fleet.fleet import OnView
    from popctl.fleet.line import Line
    from popctl.model.fleet import FleetWish, FloorPolicy

_LOG = structlog.get_logger(__name__)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
_TICK_S = 0.5
"""The longest nap of the writer, and how often the watch is looked after."""
_SHORTEST_NAP_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long what may take."""

    lease_ttl_s: float = 10.0
    """A PoP that falls silent is gone from the fleet after this."""
    request_s: float = 2.0
    echo_s: float = 3.0
    """An own write that does not come back on the watch within this time means that the watch is dead."""


class StoreFleet:
    """Implements `Fleet`. One `run` at a time."""

    def __init__(
        self,
        pop: str,
        incarnation: str,
        line: Line,
        policy: FloorPolicy,
        *,
        pace: Pace | None = None,
        timeouts: Timeouts | None = None,
        clock: Callable[[], Instant] = time.monotonic,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        """`alive` is asked before every write and renewal: an agent that no longer decides must not be counted on."""
        self._line = line
        self._timeouts = timeouts or Timeouts()
        self._ledger = Ledger(pop, incarnation, policy, pace)
        self._clock = clock
        self._alive = alive
        self._on_view: OnView | None = None
        self._wake = asyncio.Event()
        # PoPs that lost the same store come back one after another, each at its own pace.
        self._patience = 0.5 + crc32(incarnation.encode()) / 2**32
        self.writes = 0
        """Transactions sent."""

    def set(self, wish: FleetWish) -> None:
        """Make `wish` the wanted state; what it gives up is reported as given up before this returns."""
        now = self._clock()
        before = self._ledger.permits()
        self._ledger.wish(wish, now)
        self._wake.set()
        if self._ledger.permits() != before:
            self._report()

    async def run(self, on_view: OnView) -> None:
        """Hold the line until cancelled."""
        if self._on_view is not None:
            raise RuntimeError("run() is already running")
        self._on_view = on_view
        wait_s = _FIRST_WAIT_S
        try:
            while True:
                began_at = self._clock()
                try:
                    # In a task of its own, because a task group whose part failed leaves its task with a request to
                    # cancel. On Python 3.11.2 (Debian 12) the next time-out in such a task is taken for the end of the
                    # task: the PoP would be out of its fleet, silently and for good.
                    await asyncio.create_task(self._session(), name="fleet session")
                except* StoreError as errors:
                    self._complain(_first(errors))
                finally:
                    with suppress(StoreError):
                        await self._line.close()
                self._report()
                # A session that lasted is not punished for what ended it.
                wait_s = _FIRST_WAIT_S if self._clock() > began_at + _LONGEST_WAIT_S else wait_s * 2
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S) * self._patience)
        finally:
            self._on_view = None
            self._ledger.disconnected("stopped", self._clock())

    async def release(self) -> None:
        """End the lease, after `run` has ended. The end of the agent does not wait for member after member."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(2 * self._timeouts.request_s):
                await self._line.open()
                await self._line.revoke()
        with suppress(StoreError):
            await self._line.close()

    # -------------------------------------------------------------------------------------------------------- inside

    async def _session(self) -> None:
        await self._line.open()
        asked_at = self._clock()
        snapshot = await self._line.read()
        self._ledger.connected(snapshot, asked_at=asked_at, now=self._clock())
        self._report()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(snapshot.revision))
            tasks.create_task(self._keep_alive())
            tasks.create_task(self._write())

    async def _watch(self, after: int) -> None:
        async for changes in self._line.watch(after):
            self._ledger.changed(changes, self._clock())
            self._wake.set()
            self._report()
        raise WatchEndedError("the watch ended")

    async def _keep_alive(self) -> None:
        renew_at = self._clock() + self._timeouts.lease_ttl_s / 3
        while True:
            now = self._clock()
            if now > self._ledger.unechoed_since + self._timeouts.echo_s:
                raise WatchEndedError("own writes do not come back on the watch")
            if now >= renew_at and self._alive():
                renew_at = now + self._timeouts.lease_ttl_s / 3
                await self._line.keep_alive()
            await asyncio.sleep(min(_TICK_S, self._timeouts.lease_ttl_s / 6))

    async def _write(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock()
            alive = self._alive()
            write = self._ledger.next_write(now) if alive else None
            if write is None:
                wake_at = self._ledger.wake_at() if alive else NEVER
                await self._nap(max(min(wake_at - now, _TICK_S), _SHORTEST_NAP_S))
                continue
            self.writes += 1
            result = await self._line.commit(write)
            if isinstance(result, Snapshot):
                self._ledger.refused(result, now=self._clock())
            else:
                self._ledger.written(result, self._clock())
            self._report()

    async def _nap(self, most_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._wake.wait()

    def _complain(self, error: StoreError) -> None:
        problem = str(error)
        if problem != self._ledger.problem:
            _LOG.warning("no connection to the fleet's store", error=problem)
        self._ledger.disconnected(problem, self._clock())

    def _report(self) -> None:
        if self._on_view is not None:
            self._on_view(self._ledger.view(self._clock()))


def _first(errors: BaseExceptionGroup[StoreError]) -> StoreError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, StoreError):
        raise error
    return error
