"""The agent as it ships, with one fault: its loop waits for as long as there is a file `hang` beside its configuration.

Everything else in the process goes on: that is what a lease and a watchdog must not take for life.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from popctl.agent import loop
from tests.eventually import eventually_async

_turn = loop.Loop.turn


async def turn(self: loop.Loop) -> None:
    hang = Path(sys.argv[1]).with_name("hang")
    await eventually_async(lambda: not hang.exists(), within_s=60)
    await _turn(self)


if __name__ == "__main__":
    loop.Loop.turn = turn  # type: ignore[method-assign] # the fault
    runpy.run_module("popctl.agent", run_name="__main__", alter_sys=True)
