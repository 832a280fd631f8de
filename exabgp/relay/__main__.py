"""The process that ExaBGP runs: one BGP daemon on stdin and stdout, one popctl agent on a unix socket.

It owns the lease. While an agent renews it, commands go to ExaBGP one at a time and everything ExaBGP says goes
back. When it runs out, all routes are withdrawn; what cannot be proven withdrawn goes with ExaBGP itself, because the
closed session is the one withdraw that always works. It never decides what to announce, and never sends what the
allowlist does not name. Standard library only, `time.monotonic` only.

Usage: python3 -I relay RELAY.JSON, where `relay` is this folder. In the order of the data: `daemon`, `relay`, `agent`;
`allowlist` and `guard` keep it honest, `purge` ends it.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from allowlist import Config
from console import quit_now
from guard import start_guard
from relay import Relay


def main() -> NoReturn:
    """Run until ExaBGP is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = Config.load(sys.argv[1])
        guard_fd = start_guard(config)
        relay = Relay(config, guard_fd)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        quit_now(f"cannot start: {error!r}")
    try:
        relay.run()
    except BrokenPipeError:
        quit_now("the guard is gone")
    finally:
        relay.abandon()


if __name__ == "__main__":
    main()
