"""100,000 generated schedules of failures, partitions, stale reads, late messages, restarts and clock jumps.

At no time may a controller leave fewer PoPs than the floor (invariant 3). Schedule n is made from seed n, and from
nothing else. A schedule that breaks the floor ends the run with its story, shrunk.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor

from tests.bench.__main__ import Figure
from tests.property.guard_schedule import Sweep, sweep

COMMAND = "python -m tests.bench guard"
SCHEDULES = 100_000
_BATCH = 2_500


def run(first: int, count: int) -> Sweep:
    """Run the schedules of the seeds from `first` on, on all cores."""
    batches = [range(begin, min(begin + _BATCH, first + count)) for begin in range(first, first + count, _BATCH)]
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        found = list(workers.map(sweep, batches))
    return Sweep(sum(one.withdraws for one in found), sum(one.held for one in found))


def measure(first: int = 0, count: int = SCHEDULES) -> list[Figure]:
    """Return one row: reaching it means that no schedule broke the floor."""
    began_at = time.monotonic()
    found = run(first, count)
    note = f"seeds {first} to {first + count - 1}: {found.withdraws} withdraws, {found.held} times held"
    print(f"     {note}, {time.monotonic() - began_at:.0f} s")
    row: Figure = {
        "name": "guard: schedules without a broken floor",
        "value": count,
        "unit": "",
        "bound": None,
        "ok": count >= SCHEDULES or first > 0,
        "command": COMMAND,
        "note": note,
    }
    return [row]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=SCHEDULES)
    options = parser.parse_args()
    measure(options.first, options.count)
