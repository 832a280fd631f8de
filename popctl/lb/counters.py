"""Reads the balancer's counters from the kernel. Reading changes nothing and takes no lock of the hand's.

Over netlink: the program nft reads all 65,536 elements of every map before it says how often a rule was met.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

from popctl.lb.namespace import enter
from popctl.lb.watch import Watch
from popctl.wire.nft import TABLE
from popctl.wire.nft_counters import Counters, parse_counters


async def read_counters(*, netns: str | None = None) -> Counters:
    """Return all counters of this host or of a named network namespace; none when there is no table of ours.

    Raises:
        KernelError: the kernel does not answer.
        WireError: it answers something else.
    """
    with ThreadPoolExecutor(1, "counters", partial(enter, netns) if netns else None) as worker:
        return await asyncio.get_running_loop().run_in_executor(worker, read_counters_here)


def read_counters_here() -> Counters:
    """Return all counters of this thread's network namespace; blocks for a few milliseconds.

    Raises:
        KernelError: the kernel does not answer.
        WireError: it answers something else.
    """
    with closing(Watch(TABLE)) as watch:
        return parse_counters(watch.counters())
