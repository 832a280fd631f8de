"""What does `popctl meter` cost on a backend where nothing happens, with an agent that listens to it?"""

from __future__ import annotations

import time

from tests.bench.__main__ import Figure
from tests.bench.agent_idle import cpu_s, rss_mb
from tests.bench.harness import pop

COMMAND = "python -m tests.bench meter_idle"
SETTLE_S, MEASURED_S = 5.0, 30.0


def measure() -> list[Figure]:
    """Return one row per figure."""
    with pop(metered=True) as rig:
        (meter,) = rig.meters
        time.sleep(SETTLE_S)
        begun_cpu_s, begun = cpu_s(meter.pid), time.monotonic()
        time.sleep(MEASURED_S)
        percent = 100 * (cpu_s(meter.pid) - begun_cpu_s) / (time.monotonic() - begun)
        memory_mb = rss_mb(meter.pid)
    return [_row("meter idle, CPU", percent, "% of a core"), _row("meter idle, memory", memory_mb, "MB RSS")]


def _row(name: str, value: float, unit: str) -> Figure:
    note = "a look every 2 s: VICI, /proc; charon watched; one agent listens"
    return {"name": name, "value": value, "unit": unit, "bound": None, "ok": True, "command": COMMAND, "note": note}


if __name__ == "__main__":
    for row in measure():
        print(row)
