"""The balancer's own hand in the guest: for one change, or as a process to be killed.

As a process it is `python -m tests.kernel.guest_hand NAMESPACE BACKEND`: keep that backend draining, and say
in one line what is in force.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import replace

from popctl.lb.nft import NftBalancer
from popctl.model.balancer import BalancerActual, Tables
from tests.balancers import VIP4, draining, forwards, rows, tables

_IPV4_ONLY = {number: replace(forward, ipv6=None) for number, forward in forwards(2).items()}
TWO = replace(tables(2, rows=rows(2, size=4096), vips=(VIP4,)), backends=_IPV4_ONLY)
FORGETFUL = replace(tables(2, rows=rows(2, size=4096), vips=(VIP4,), affinity=None), backends=_IPV4_ONLY)
_IN_FORCE_S = 20.0


def put_in_force(namespace: str, wanted: Tables) -> None:
    """Make the balancer of a namespace be so, keeping what it learnt, and leave it alone."""
    asyncio.run(_once(namespace, wanted))


async def _once(namespace: str, wanted: Tables) -> None:
    balancer = NftBalancer(netns=namespace)
    in_force = asyncio.Event()

    def on_actual(actual: BalancerActual) -> None:
        if actual.in_force:
            in_force.set()

    await balancer.set(wanted)
    running = asyncio.create_task(balancer.run(on_actual))
    try:
        await asyncio.wait_for(in_force.wait(), _IN_FORCE_S)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await balancer.close()


def _report(actual: BalancerActual) -> None:
    print(actual.in_force, actual.writes, actual.drift_repairs, flush=True)  # noqa: T201 - the test reads it


async def _for_ever(namespace: str, wanted: Tables) -> None:
    balancer = NftBalancer(netns=namespace)
    await balancer.set(wanted)
    await balancer.run(_report)


if __name__ == "__main__":
    asyncio.run(_for_ever(sys.argv[1], draining(TWO, int(sys.argv[2]))))
