"""An edge of a PoP and its upstream router, both real, and an agent's speaker on top."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from popctl.bgp.exabgp import ExaBgpSpeaker
from popctl.model.desired import Actual
from popctl.model.route import RouteKey, RouteTable, route_table
from tests.eventually import eventually_async
from tests.peers.bird import Bird
from tests.peers.exabgp import CHECKOUT, KEY4, KEY6, LAUNCHED, ROUTE4, ROUTE6, ExaBgp, edge_and_router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from popctl.model.pop import Lease, Pop
    from tests.peers.netns import TwoHosts

BOTH = route_table([(KEY4, ROUTE4), (KEY6, ROUTE6)])
NOTHING = route_table()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """ExaBGP with relay on one side of the wire, BIRD on the other."""

    hosts: TwoHosts
    bird: Bird
    exabgp: ExaBgp


@contextmanager
def edge(
    *,
    lease: Lease | None = None,
    hold_s: int = 9,
    command: Sequence[str] = LAUNCHED,
    edits: Mapping[str, str] | None = None,
    router_restarts_gracefully: bool = False,
) -> Iterator[Edge]:
    """Start both; `command` and `edits` as in `ExaBgp`."""
    with (
        edge_and_router() as hosts,
        Bird(hosts.server, hold_s=hold_s, restarts_gracefully=router_restarts_gracefully) as bird,
        ExaBgp(hosts.client, lease=lease, command=command, edits=edits) as exabgp,
    ):
        yield Edge(hosts=hosts, bird=bird, exabgp=exabgp)


@dataclass(slots=True)
class Spoken:
    """A running speaker and all that it reported."""

    speaker: ExaBgpSpeaker
    actuals: list[Actual] = field(default_factory=list)

    @property
    def actual(self) -> Actual:
        """The last report."""
        return self.actuals[-1] if self.actuals else Actual()

    async def inherited(self, *, sessions: bool = True) -> None:
        """Wait for the end of the take-over and, unless told otherwise, for all sessions."""
        await eventually_async(lambda: self.actual.inherited and (not sessions or all(self.actual.sessions.values())))

    async def set_and_prove(self, routes: RouteTable) -> None:
        """Set a table and wait until it is proven."""
        await self.speaker.set(routes)
        await eventually_async(lambda: self.proven(routes))

    def proven(self, routes: RouteTable) -> bool:
        """Whether exactly `routes` are proven and nothing is pending."""
        actual = self.actual
        return actual.inherited and dict(actual.routes) == dict(routes) and not actual.pending

    def has(self, key: RouteKey) -> bool:
        """Whether a route is proven."""
        return key in self.actual.routes


@asynccontextmanager
async def speaking(pop: Pop, *, alive: Callable[[], bool] = lambda: True) -> AsyncIterator[Spoken]:
    """Run a speaker; at the end it is cancelled, which leaves routes and session alone."""
    spoken = Spoken(ExaBgpSpeaker(pop, alive=alive))
    task = asyncio.create_task(spoken.speaker.run(spoken.actuals.append))
    try:
        yield spoken
    finally:
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, Exception):
            raise result


@contextmanager
def agent_process(exabgp: ExaBgp) -> Iterator[subprocess.Popen[bytes]]:
    """Start an agent of its own process, which announces `BOTH`; for tests that kill or stop it."""
    argv = [sys.executable, "-m", "tests.peers.bgp_agent", str(exabgp.directory), str(exabgp.pop.lease.duration_s)]
    with (exabgp.directory / "agent.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=CHECKOUT, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)
