"""A balancer process of its own, to be killed: `python -m tests.peers.lb_agent NAMESPACE BACKENDS`."""

from __future__ import annotations

import asyncio
import sys

from popctl.lb.nft import NftBalancer
from popctl.model.balancer import BalancerActual
from tests.balancers import rows, tables


def report(actual: BalancerActual) -> None:
    """Say in one line what is in force."""
    print(actual.in_force, actual.writes, actual.drift_repairs, flush=True)  # noqa: T201 - the test reads it


async def main(namespace: str, backends: int) -> None:
    """Keep the tables in force for ever."""
    balancer = NftBalancer(netns=namespace, audit_s=0.2)
    await balancer.set(tables(backends, rows=rows(backends, size=512)))
    await balancer.run(report)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
