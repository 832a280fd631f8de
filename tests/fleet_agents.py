"""PoPs of a fleet for tests: an agent's side of the story, with a real guard and no routers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from time import monotonic
from typing import TYPE_CHECKING

from popctl.core import guard
from popctl.core.guard import Cause, Permission, Ruling, Withdrawal
from popctl.model.fleet import FleetView, FleetWish, FloorPolicy, Member, PopReport, Record, ServiceReport, Stance
from popctl.model.instant import NEVER
from popctl.model.pop import Announce
from popctl.model.reason import Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from popctl.fleet.client import StoreFleet
    from popctl.fleet.fleet import Fleet

SERVICE = "vpn"
PREFIX = ip_network("198.51.100.0/24")
GOOD = ServiceReport(
    service=SERVICE,
    announce=Announce.NORMAL,
    announced=(PREFIX,),
    healthy=2,
    needed=1,
    good=True,
    reason=Reason.HEALTHY,
)


def report(pop: str, service: ServiceReport = GOOD, *, region: str = "eu", incarnation: str = "") -> PopReport:
    return PopReport(pop=pop, region=region, services={service.service: service}, incarnation=incarnation or f"{pop}-1")


def member(
    pop: str, *, stance: Stance = Stance.DUTY, service: ServiceReport = GOOD, region: str = "eu", asking: bool = False
) -> Member:
    record = Record(
        report=report(pop, service, region=region),
        stances={service.service: stance},
        asking=frozenset((service.service,)) if asking else frozenset(),
    )
    return Member(record=record, heard_at=0.0, created=1, modified=1)


def bad(since: float = 0.0, *, stage: str = "ike", certain: bool = False, announced: bool = True) -> ServiceReport:
    return replace(
        GOOD,
        good=False,
        healthy=0,
        bad_since=since,
        stage=stage,
        certain=certain,
        reason=Reason.TOO_FEW_BACKENDS,
        announced=(PREFIX,) if announced else (),
    )


@dataclass
class Agent:
    """What the loop of an agent does with a fleet: judge from the newest view, wish, apply."""

    name: str
    fleet: Fleet
    policy: FloorPolicy
    view: FleetView = field(default_factory=FleetView)
    announced: bool = True
    bad: ServiceReport | None = None
    ruling: Ruling | None = None
    frozen: bool = False
    """The process was killed: it hears and does nothing any more."""
    rulings: list[Reason] = field(default_factory=list)
    history: list[tuple[float, bool]] = field(default_factory=list)

    def on_view(self, view: FleetView) -> None:
        self.view = view
        asyncio.get_running_loop().call_soon(self.turn)

    def loses_backends(self, *, stage: str = "ike", certain: bool = False) -> None:
        self.bad = bad(monotonic(), stage=stage, certain=certain)
        self.turn()

    def recovers(self) -> None:
        self.bad = None
        self.turn()

    def turn(self) -> None:
        if self.frozen:
            return
        service = replace(self.bad or GOOD, announced=(PREFIX,) if self.announced else ())
        permits, standing, leave = False, False, False
        if self.bad is not None:
            now = monotonic()
            self.ruling = guard.judge(self._withdrawal(self.bad), self.policy, self.view, now)
            if now < self.ruling.wake_at < NEVER:
                asyncio.get_running_loop().call_later(self.ruling.wake_at - now + 0.001, self.turn)
            if not self.rulings or self.rulings[-1] is not self.ruling.reason:
                self.rulings.append(self.ruling.reason)
            permits = self.ruling.ask
            leave = self.announced and self.ruling.permission is Permission.ALLOW
        elif self.announced:
            permits = standing = guard.wants_standing(service, self.name, "eu", self.policy, self.view, monotonic())
        named = frozenset((SERVICE,))
        self.fleet.set(
            FleetWish(
                report=report(self.name, service),
                permits=named if permits else frozenset(),
                standing=named if standing else frozenset(),
            )
        )
        announced = self.bad is None or (self.announced and not leave)
        if announced != self.announced:
            self.announced = announced
            self.history.append((monotonic(), announced))
            asyncio.get_running_loop().call_soon(self.turn)

    def _withdrawal(self, service: ServiceReport) -> Withdrawal:
        return Withdrawal(
            pop=self.name,
            region="eu",
            service=SERVICE,
            cause=Cause.HEALTH,
            carried=self.announced,
            bad_since=service.bad_since or 0.0,
            stage=service.stage,
            certain=service.certain,
        )

    def stance(self, pop: str) -> Stance | None:
        known = self.view.members.get(pop)
        return None if known is None else known.record.stance(SERVICE)

    @property
    def held(self) -> bool:
        return self.ruling is not None and self.ruling.permission is Permission.HOLD


@asynccontextmanager
async def running(
    make: Callable[[str], StoreFleet], policy: FloorPolicy, *names: str
) -> AsyncIterator[dict[str, Agent]]:
    """Run agents, each with a fleet of its own from `make`."""
    agents = {name: Agent(name, make(name), policy) for name in names}
    tasks = []
    try:
        for agent in agents.values():
            agent.turn()
            tasks.append(asyncio.create_task(agent.fleet.run(agent.on_view)))
        yield agents
        assert not any(task.done() for task in tasks), "a fleet ended by itself"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
