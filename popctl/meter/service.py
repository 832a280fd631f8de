"""The meter at work: look, publish, watch, until told to stop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from popctl.listen.serve import Bounds, serving
from popctl.meter.app import build
from popctl.meter.hub import Hub
from popctl.model.instant import Instant
from popctl.model.listen import Endpoint
from popctl.model.meter import DaemonWatch
from popctl.model.pop import ViciEndpoint
from popctl.senses.meter import Meter
from popctl.senses.meter_host import HostMeter
from popctl.senses.meter_l2tp import L2tpMeter
from popctl.senses.meter_vici import ViciMeter
from popctl.senses.watch_daemons import DaemonWatcher

BOUNDS = Bounds(connections=32)
"""Agents hold one connection each; half of them may stream."""


_GLANCE_EVERY_S = 0.5
"""Long enough for shares of time that mean something, and a sixth of a millisecond of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to measure and where to tell it."""

    endpoint: Endpoint
    vici: ViciEndpoint | None = None
    xl2tpd_control: Path | None = None
    l2tp: bool = False
    interfaces: tuple[str, ...] | None = None
    """None: those with a device behind them."""
    daemons: tuple[DaemonWatch, ...] = ()
    interval_s: float = 2.0
    bulk_bit_s: float = 5e6


def build_meter(settings: Settings, watcher: DaemonWatcher, clock: Callable[[], Instant]) -> Meter:
    """Return the meter of this host."""
    vici = None if settings.vici is None else ViciMeter(settings.vici, clock=clock, bulk_bit_s=settings.bulk_bit_s)
    wants_l2tp = settings.l2tp or settings.xl2tpd_control is not None
    return Meter(
        HostMeter(interfaces=settings.interfaces),
        between=HostMeter(interfaces=settings.interfaces),
        clock=clock,
        vici=vici,
        l2tp=L2tpMeter(clock=clock, control=settings.xl2tpd_control) if wants_l2tp else None,
        daemons=lambda: watcher.daemons,
    )


async def run(settings: Settings, *, clock: Callable[[], Instant] = time.monotonic) -> None:
    """Serve until cancelled.

    Raises:
        ListenError: the endpoint cannot be used.
    """
    hub = Hub(clock=clock, interval_s=settings.interval_s)
    watcher = DaemonWatcher(settings.daemons, hub.changed)
    meter = build_meter(settings, watcher, clock)
    async with serving(build(hub), settings.endpoint, BOUNDS):
        watcher.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(look(meter, hub, settings.interval_s), name="look")
                group.create_task(_walk(meter), name="walk")
        finally:
            watcher.close()
            meter.close()
            hub.close()


async def look(meter: Meter, hub: Hub, interval_s: float) -> None:
    """Measure and tell at every interval, and at once when a symptom of overload appears in between."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        hub.measured(await meter.read())
        # A look that came early or took too long moves those after it, so that they never bunch up.
        due = max(min(due, loop.time()) + interval_s, loop.time())
        while loop.time() < due:
            await asyncio.sleep(min(due - loop.time(), _GLANCE_EVERY_S))
            if meter.glance():
                break


async def _walk(meter: Meter) -> None:
    while True:
        pause_s = await meter.walk_sas()
        if pause_s == math.inf:
            return
        await asyncio.sleep(pause_s)
