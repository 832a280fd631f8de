"""How much of one core does an agent cost? A thousand backends, IKE and L2TP each, every second.

All that a probe result passes on its way is there: schedule, sockets, codecs, the loop's queue, World, decisions,
journal on a disk, metrics. Only ExaBGP is the in-memory twin: nothing is announced here.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from popctl.agent.api_recent import LastSeen
from popctl.agent.events import ActualChanged
from popctl.agent.journal import Journal
from popctl.agent.loop import Loop
from popctl.agent.metrics import Metrics
from popctl.agent.world import World
from popctl.bgp.memory import MemorySpeaker
from popctl.model.observation import Observation, Outcome
from popctl.model.pop import Backend
from popctl.model.probe import Cadence, IkeLiveness, L2tp, ProbeSpec, Thresholds
from popctl.senses.runner import Senses
from popctl.wire.exchanges import exchange_for
from tests.pops import pop

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKENDS = 1000
WARM_UP_S = 3.0
MEASURED_S = 10.0
CPU_BOUND_PERCENT = 25.0
IKE_PORT, L2TP_PORT = 20500, 21701
COMMAND = "python -m tests.bench probe_load"

_THRESHOLDS = Thresholds(rise=3, fall=3, fall_refused=1, stale_after_s=5.0)
_CADENCE = Cadence(interval_s=1.0, jitter=0.1, timeout_s=0.8, retry_s=0.2)


def backends() -> Iterator[Backend]:
    """Return a thousand gateways on 127.1.0.0/16."""
    probes = (
        ProbeSpec(name="ike", method=IkeLiveness(version=2, port=IKE_PORT), cadence=_CADENCE, thresholds=_THRESHOLDS),
        ProbeSpec(name="l2tp", method=L2tp(port=L2TP_PORT, secret=None), cadence=_CADENCE, thresholds=_THRESHOLDS),
    )
    for number in range(1, BACKENDS + 1):
        address = IPv4Address("127.1.0.0") + number
        yield Backend(id=number, name=f"b{number}", address=address, weight=100, probes=probes)


async def probe(folder: Path) -> dict[str, float]:
    """Probe for a while and return what it took and what came of it."""
    seen = dict.fromkeys(Outcome, 0)
    rtts: list[float] = []

    def emit(observation: Observation) -> None:
        seen[observation.outcome] += 1
        if observation.rtt_s is not None:
            rtts.append(observation.rtt_s)
        loop.put(observation)

    site = pop(backends=tuple(backends()))
    world = World(site)
    speaker = MemorySpeaker(site)
    journal = Journal(folder / "journal", world=world, config_text="", source="bench", wall_clock=time.time)
    metrics = Metrics(pop=site, world=world, clock=time.monotonic, version="bench")
    loop = Loop(world, speaker, time.monotonic, (journal, metrics, LastSeen()))
    journal.open(time.monotonic())
    senses = Senses(
        site,
        emit,
        exchange_for=exchange_for,
        clock=time.monotonic,
        entropy=os.urandom,
        rng=random.Random(1),
    )
    parts = (senses.run(), loop.run(), speaker.run(lambda actual: loop.put(ActualChanged(actual))))
    running = [asyncio.create_task(part) for part in parts]
    await asyncio.wait(running, timeout=WARM_UP_S)
    runs, missed = senses.stats().runs, senses.stats().missed_total
    failures = seen[Outcome.FAIL] + seen[Outcome.UNKNOWN]
    rtts.clear()
    began, cpu = time.monotonic(), time.process_time()
    await asyncio.wait(running, timeout=MEASURED_S)
    took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    stats = senses.stats()
    for part in running:
        part.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    journal.close()
    rtts.sort()
    return {
        "rate": (stats.runs - runs) / took_s,
        "cpu_percent": 100 * cpu_s / took_s,
        "missed": stats.missed_total - missed,
        "not_passed": seen[Outcome.FAIL] + seen[Outcome.UNKNOWN] - failures,
        "lag_p99_ms": 1000 * stats.loop_lag_p99_s,
        "rtt_p50_ms": 1000 * rtts[len(rtts) // 2] if rtts else 0.0,
        "rtt_p99_ms": 1000 * rtts[len(rtts) * 99 // 100] if rtts else 0.0,
    }


def measure() -> list[dict[str, object]]:
    """Return one row per figure; `ok` compares it with its bound."""
    cpus = sorted(os.sched_getaffinity(0))
    argv = [sys.executable, "-m", "tests.bench.responder", str(IKE_PORT), str(L2TP_PORT), str(cpus[-1])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as responder:
        try:
            if responder.stdout is None or responder.stdout.readline() != "ready\n":
                raise RuntimeError("the responder does not start")
            os.sched_setaffinity(0, {cpus[0]})
            with tempfile.TemporaryDirectory() as folder:
                found = asyncio.run(probe(Path(folder)))
        finally:
            os.sched_setaffinity(0, cpus)
            responder.kill()
    rate = found["rate"]
    return [
        _row("probes per second", rate, "1/s", bound=None, ok=rate >= 0.95 * 2 * BACKENDS),
        _row("agent with 1,000 backends, CPU", found["cpu_percent"], "% of a core", bound=CPU_BOUND_PERCENT),
        _row("agent with 1,000 backends, missed slots", found["missed"], "", bound=0.0),
        _row("probes, not passed", found["not_passed"], "", bound=0.0),
        _row("agent with 1,000 backends, loop lag p99", found["lag_p99_ms"], "ms", bound=50.0),
        _row("probes, round trip p50", found["rtt_p50_ms"], "ms", bound=None),
        _row("probes, round trip p99", found["rtt_p99_ms"], "ms", bound=None),
    ]


def _row(name: str, value: float, unit: str, *, bound: float | None, ok: bool = True) -> dict[str, object]:
    within = bound is None or value <= bound
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "bound": bound,
        "ok": ok and within,
        "command": COMMAND,
    }


if __name__ == "__main__":
    for row in measure():
        print(row)
