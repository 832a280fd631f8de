"""A Python script whose wall clock a test can set: `python -P shifted_clock.py SHIFT SCRIPT WORDS...`.

The file SHIFT holds the seconds by which the clock of the script is wrong; it is read at every look at the clock.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

DAY_S = 86400.0


class ShiftedClock:
    """The test's end: the words that start a script under the clock, and the hand on that clock."""

    def __init__(self, directory: Path) -> None:
        self._shift = directory / "clock-shift"
        self.set(0.0)

    def command(self, script: Path) -> tuple[str, ...]:
        """Return the words that run `script` under this clock."""
        return (sys.executable, "-P", __file__, str(self._shift), str(script))

    def set(self, shift_s: float) -> None:
        """Put the clock `shift_s` from the truth, in one step."""
        written = self._shift.with_suffix(".new")
        written.write_text(str(shift_s))
        written.replace(self._shift)


def _run(shift: Path, script: str) -> None:
    wall = time.time
    time.time = lambda: wall() + float(shift.read_text())
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _, _shift, *sys.argv = sys.argv
    _run(Path(_shift), sys.argv[0])
