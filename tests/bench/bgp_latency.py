"""How fast a decision reaches the router, and how late after its lease a dead agent's route is gone. Real daemons."""

from __future__ import annotations

import asyncio
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from popctl.model.pop import Lease
from popctl.model.route import route_table
from tests.eventually import eventually, eventually_async
from tests.peers.bgp_edge import BOTH, NOTHING, Edge, Spoken, agent_process, edge, speaking
from tests.peers.bird import Control
from tests.peers.exabgp import KEY4, ROUTE4

if TYPE_CHECKING:
    from popctl.model.route import RouteTable

COMMAND = "python -m tests.bench bgp_latency"
CHANGES = 400
P99_BOUND_MS = 10.0
DEATHS = 3
LEASE_S = 0.5
OVERRUN_BOUND_S = 1.0


def measure() -> list[dict[str, Any]]:
    """Return the figures; needs root, ExaBGP and BIRD."""
    times_ms = asyncio.run(_changes())
    p99 = quantiles(times_ms, n=100)[98]
    overrun_s = max(_overruns())
    note = f"{CHANGES} alternating announcements and withdraws of one prefix, one after the other"
    return [
        _figure("BGP: set() to BIRD's table, p50", median(times_ms), "ms", None, note),
        _figure("BGP: set() to BIRD's table, p99", p99, "ms", P99_BOUND_MS, note),
        _figure("BGP: set() to BIRD's table, longest", max(times_ms), "ms", None, note),
        _figure(
            "BGP: killed agent's routes gone, after the end of its lease",
            overrun_s,
            "s",
            OVERRUN_BOUND_S,
            f"longest of {DEATHS}, lease {LEASE_S} s; the last renewal is up to a third of the lease before the kill",
        ),
    ]


def _figure(name: str, value: float, unit: str, bound: float | None, note: str) -> dict[str, Any]:
    ok = bound is None or value <= bound
    return {"name": name, "value": value, "unit": unit, "bound": bound, "ok": ok, "command": COMMAND, "note": note}


async def _changes() -> list[float]:
    present = route_table([(KEY4, ROUTE4)])
    with edge() as e, Control(e.bird) as control:
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited()
            await _warm_up(e, spoken, present)
            times = []
            for number in range(CHANGES):
                wanted = NOTHING if number % 2 else present
                started = time.perf_counter()
                await spoken.speaker.set(wanted)
                # Asked from this very thread: whatever set() left to the event loop would never happen.
                _wait(control, present=bool(wanted))
                times.append((time.perf_counter() - started) * 1000)
                await eventually_async(lambda wanted=wanted: spoken.proven(wanted), every_s=0.002)  # type: ignore[misc]
            return times


async def _warm_up(e: Edge, spoken: Spoken, present: RouteTable) -> None:
    for wanted in (present, NOTHING):
        await spoken.set_and_prove(wanted)
        eventually(lambda wanted=wanted: e.bird.has(KEY4.prefix) is bool(wanted))  # type: ignore[misc]


def _wait(control: Control, *, present: bool) -> None:
    # Asking without a pause would take a core from those who are measured; this adds up to half a millisecond.
    question = f"show route {KEY4.prefix}"
    eventually(lambda: ("unicast" in control.ask(question)) is present, every_s=0.0005)


def _overruns() -> list[float]:
    """Return, per death, the seconds from the latest possible end of the lease to the route's end."""
    overruns = []
    for _ in range(DEATHS):
        with edge(lease=Lease(duration_s=LEASE_S)) as e, agent_process(e.exabgp) as agent:
            eventually(lambda e=e: len(e.bird.routes()) == len(BOTH))  # type: ignore[misc]
            agent.kill()
            killed = time.perf_counter()
            eventually(lambda e=e: not e.bird.routes(), every_s=0.005)  # type: ignore[misc]
            overruns.append(time.perf_counter() - killed - LEASE_S)
    return overruns
