"""What does an agent cost that has nothing to do but watch four healthy gateways?"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.bench.__main__ import Figure
from tests.bench.harness import pop

COMMAND = "python -m tests.bench agent_idle"
BACKENDS = 4
SETTLE_S, MEASURED_S = 5.0, 20.0
CPU_BOUND_PERCENT, RSS_BOUND_MB = 1.0, 80.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process, its children included (proc(5): fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Memory of a process that is in use now."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure() -> list[Figure]:
    """Return one row per figure."""
    with pop(backends=BACKENDS) as rig:
        time.sleep(SETTLE_S)
        begun_cpu_s, begun = cpu_s(rig.agent.pid), time.monotonic()
        time.sleep(MEASURED_S)
        percent = 100 * (cpu_s(rig.agent.pid) - begun_cpu_s) / (time.monotonic() - begun)
        memory_mb = rss_mb(rig.agent.pid)
    return [
        _row("agent idle, CPU", percent, "% of a core", CPU_BOUND_PERCENT),
        _row("agent idle, memory", memory_mb, "MB RSS", RSS_BOUND_MB),
    ]


def _row(name: str, value: float, unit: str, bound: float) -> Figure:
    note = f"{BACKENDS} backends with four probes each, profile default, BGP session up"
    within = value <= bound
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "bound": bound,
        "ok": within,
        "command": COMMAND,
        "note": note,
    }


if __name__ == "__main__":
    for row in measure():
        print(row)
