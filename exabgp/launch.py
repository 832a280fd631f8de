"""ExaBGP with timers that no change of the wall clock reaches.

ExaBGP 5 counts hold, keepalive and reconnect times with `time.time`. A clock that is set forward by more than the hold
time makes it close every session; one that is set back keeps it from sending KEEPALIVE until every router has closed
its own. So `time.time` becomes, in this process alone and before ExaBGP is loaded, the wall clock of the start plus
the time that has passed since. ExaBGP's log goes on telling the time of the wall.

Usage: python3 -I launch.py server EXABGP.CONF, with the words and the environment of the command `exabgp`.
"""

from __future__ import annotations

import runpy
import time


def steady_clock() -> None:
    """Replace `time.time` by a clock that only goes on."""
    origin_s = time.time() - time.monotonic()
    time.time = lambda: origin_s + time.monotonic()


if __name__ == "__main__":
    steady_clock()
    runpy.run_module("exabgp", run_name="__main__", alter_sys=True)
