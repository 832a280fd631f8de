"""The meter of a backend on the agent's own host: the same events, without a connection between."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from popctl.senses.meter_events import Emit, MeterEvents
from popctl.senses.watch_daemons import DaemonWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from popctl.model.instant import Instant
    from popctl.model.meter import DaemonWatch
    from popctl.senses.meter import Meter


class LocalMeter:
    """Looks and watches in this event loop."""

    def __init__(
        self,
        backend: int,
        meter: Meter,
        daemons: Iterable[DaemonWatch],
        emit: Emit,
        *,
        clock: Callable[[], Instant],
        interval_s: float = 2.0,
    ) -> None:
        """Prepare. `emit` is called in the event loop and must not block."""
        self._meter = meter
        self._events = MeterEvents(backend, emit)
        self._clock = clock
        self._interval_s = interval_s
        self._watcher = DaemonWatcher(daemons, lambda daemon: self._events.daemon(daemon, clock()))

    async def run(self) -> None:
        """Measure until cancelled."""
        self._watcher.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look())
                group.create_task(self._walk())
        finally:
            self._watcher.close()
            self._meter.close()

    async def _look(self) -> None:
        while True:
            self._events.measured(await self._meter.read(), self._clock())
            await asyncio.sleep(self._interval_s)

    async def _walk(self) -> None:
        while True:
            pause_s = await self._meter.walk_sas()
            if pause_s == math.inf:
                return
            await asyncio.sleep(pause_s)
