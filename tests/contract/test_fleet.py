"""What a fleet promises its agents: the same story over the twin in memory and over a real etcd."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import pytest

from popctl.fleet.client import StoreFleet, Timeouts
from popctl.fleet.etcd import EtcdLine, EtcdSettings
from popctl.fleet.memory import MemoryHub, MemoryLine
from popctl.fleet.target import Pace
from popctl.model.fleet import FleetView, FleetWish, FloorPolicy, PermitState, Stance
from tests.eventually import eventually_async
from tests.fleet_agents import GOOD, SERVICE, bad, report, running
from tests.peers.etcd import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from popctl.fleet.line import Line

_NUMBERS = count()
PACE = Pace(quiet_s=0.2, refresh_s=1.0)
Make: TypeAlias = "Callable[..., StoreFleet]"
POLICY = FloorPolicy(minimum_announcing=1, standing_share=0.0, settle_s=0.0)
VPN = frozenset((SERVICE,))


@pytest.fixture(scope="module")
def etcd() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.peer)])
def line(request: pytest.FixtureRequest) -> Callable[[str], Line]:
    if request.param == "memory":
        hub = MemoryHub()
        return lambda pop: MemoryLine(pop, hub, lease_ttl_s=2.0)
    cluster: Cluster = request.getfixturevalue("etcd")
    fleet = f"fleet-{next(_NUMBERS)}"
    return lambda pop: EtcdLine(pop, EtcdSettings(fleet=fleet, endpoints=cluster.urls, lease_ttl_s=2.0))


@pytest.fixture
def make(line: Callable[[str], Line]) -> Make:
    def fleet(pop: str, *, policy: FloorPolicy = POLICY, incarnation: str = "", **more: object) -> StoreFleet:
        timeouts = Timeouts(lease_ttl_s=2.0)
        return StoreFleet(pop, incarnation or f"{pop}-1", line(pop), policy, pace=PACE, timeouts=timeouts, **more)

    return fleet


class Watcher:
    """Keeps every view of one PoP."""

    def __init__(self, fleet: StoreFleet) -> None:
        self.fleet = fleet
        self.views: list[FleetView] = [FleetView()]

    @property
    def view(self) -> FleetView:
        return self.views[-1]

    def permit(self) -> PermitState | None:
        permit = self.view.permits.get(SERVICE)
        return None if permit is None else permit.state

    def stance(self, pop: str) -> Stance | None:
        known = self.view.members.get(pop)
        return None if known is None else known.record.stance(SERVICE)

    async def sees(self, pop: str, stance: Stance | None) -> None:
        await eventually_async(lambda: self.stance(pop) is stance)

    async def gets(self, state: PermitState | None) -> None:
        await eventually_async(lambda: self.permit() is state)


@asynccontextmanager
async def run(fleet: StoreFleet) -> AsyncIterator[Watcher]:
    watcher = Watcher(fleet)
    task = asyncio.create_task(fleet.run(watcher.views.append))
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_one_pop_publishes_the_others_see(make: Make) -> None:
    a, b = make("a"), make("b")
    a.set(FleetWish(report=report("a")))
    b.set(FleetWish(report=report("b")))
    async with run(a) as at_a, run(b) as at_b:
        await at_a.sees("b", Stance.DUTY)
        await at_b.sees("a", Stance.DUTY)
        assert at_b.view.connected
        a.set(FleetWish(report=report("a", replace(GOOD, announced=()))))
        await at_b.sees("a", Stance.OUT)


async def test_a_permit_is_granted_while_another_pop_serves(make: Make) -> None:
    a, b = make("a"), make("b")
    a.set(FleetWish(report=report("a")))
    b.set(FleetWish(report=report("b")))
    async with run(a) as at_a, run(b) as at_b:
        await at_a.sees("b", Stance.DUTY)
        await at_b.sees("a", Stance.DUTY)
        a.set(FleetWish(report=report("a", bad()), permits=VPN))
        await at_a.gets(PermitState.HELD)
        await at_b.sees("a", Stance.PERMIT)
        b.set(FleetWish(report=report("b", bad()), permits=VPN))
        await at_b.gets(PermitState.REFUSED)
        await eventually_async(lambda: at_a.view.members["b"].record.asking == VPN)


async def test_of_two_that_ask_at_once_one_is_refused(make: Make) -> None:
    a, b = make("a"), make("b")
    a.set(FleetWish(report=report("a")))
    b.set(FleetWish(report=report("b")))
    async with run(a) as at_a, run(b) as at_b:
        await at_a.sees("b", Stance.DUTY)
        await at_b.sees("a", Stance.DUTY)
        for name, fleet in (("a", a), ("b", b)):
            fleet.set(FleetWish(report=report(name, bad()), permits=VPN))
        await eventually_async(lambda: {at_a.permit(), at_b.permit()} == {PermitState.HELD, PermitState.REFUSED})


async def test_a_refused_permit_is_granted_when_another_pop_comes_back(make: Make) -> None:
    a, b = make("a"), make("b")
    a.set(FleetWish(report=report("a", bad()), permits=VPN))
    async with run(a) as at_a:
        await at_a.gets(PermitState.REFUSED)
        b.set(FleetWish(report=report("b")))
        async with run(b):
            await at_a.gets(PermitState.HELD)


async def test_a_permit_is_gone_from_the_view_before_set_returns(make: Make) -> None:
    a, b = make("a"), make("b")
    a.set(FleetWish(report=report("a", bad()), permits=VPN))
    b.set(FleetWish(report=report("b")))
    async with run(a) as at_a, run(b) as at_b:
        await at_a.gets(PermitState.HELD)
        a.set(FleetWish(report=report("a")))
        assert at_a.permit() is None
        await at_b.sees("a", Stance.DUTY)


async def test_a_forced_permit_is_not_refused_by_a_floor(make: Make) -> None:
    a = make("a")
    a.set(FleetWish(report=report("a")))
    async with run(a) as at_a:
        await at_a.sees("a", Stance.DUTY)
        a.set(FleetWish(report=report("a"), permits=VPN, forced=VPN))
        await at_a.gets(PermitState.HELD)


async def test_a_pop_that_falls_silent_is_lost_after_its_lease(make: Make) -> None:
    a, b = make("a"), make("b")
    a.set(FleetWish(report=report("a")))
    b.set(FleetWish(report=report("b")))
    async with run(b) as at_b:
        async with run(a):
            await at_b.sees("a", Stance.DUTY)
        await at_b.sees("a", None)
        assert "a" in at_b.view.lost


async def test_a_pop_that_leaves_in_good_order_is_lost_at_once(make: Make) -> None:
    a, b = make("a"), make("b")
    a.set(FleetWish(report=report("a")))
    b.set(FleetWish(report=report("b")))
    async with run(b) as at_b:
        async with run(a):
            await at_b.sees("a", Stance.DUTY)
        await a.release()
        await eventually_async(lambda: at_b.stance("a") is None, within_s=1.0)


async def test_an_agent_that_no_longer_decides_is_not_counted_on(make: Make) -> None:
    alive = [True]
    a, b = make("a", alive=lambda: alive[0]), make("b")
    a.set(FleetWish(report=report("a")))
    b.set(FleetWish(report=report("b")))
    async with run(a), run(b) as at_b:
        await at_b.sees("a", Stance.DUTY)
        alive[0] = False
        await at_b.sees("a", None)
        alive[0] = True
        await at_b.sees("a", Stance.DUTY)


async def test_a_restarted_agent_takes_its_record_over_without_the_old_permit(make: Make) -> None:
    first, b = make("a"), make("b")
    first.set(FleetWish(report=report("a", bad()), permits=VPN))
    b.set(FleetWish(report=report("b")))
    async with run(b) as at_b:
        async with run(first) as at_first:
            await at_first.gets(PermitState.HELD)
        second = make("a", incarnation="a-2")
        second.set(FleetWish(report=report("a", incarnation="a-2")))
        async with run(second) as at_second:
            await at_b.sees("a", Stance.DUTY)
            assert at_second.view.permits == {}
            assert at_b.view.members["a"].record.report.incarnation == "a-2"


async def test_of_two_agents_of_one_name_the_older_falls_silent(make: Make) -> None:
    older, newer = make("a"), make("a", incarnation="a-2")
    older.set(FleetWish(report=report("a")))
    newer.set(FleetWish(report=report("a", incarnation="a-2")))
    async with run(older) as at_older:
        await at_older.sees("a", Stance.DUTY)
        async with run(newer) as at_newer:
            await eventually_async(lambda: "another agent" in at_older.view.problem)
            assert not at_older.view.connected
            assert at_newer.view.connected
        await eventually_async(lambda: at_older.view.connected)


async def test_a_quiet_fleet_writes_no_more_than_its_pace(make: Make) -> None:
    a = make("a")
    a.set(FleetWish(report=report("a")))
    async with run(a) as at_a:
        await at_a.sees("a", Stance.DUTY)
        began, writes = asyncio.get_running_loop().time(), a.writes
        for healthy in range(1000):
            a.set(FleetWish(report=report("a", replace(GOOD, healthy=healthy))))
            await asyncio.sleep(0)
        await eventually_async(lambda: at_a.view.members["a"].record.report.services[SERVICE].healthy == 999)
        took_s = asyncio.get_running_loop().time() - began
        assert a.writes - writes <= took_s / PACE.quiet_s + 1


async def test_the_view_stays_current_while_nothing_happens(make: Make) -> None:
    a = make("a")
    a.set(FleetWish(report=report("a")))
    async with run(a) as at_a:
        await at_a.sees("a", Stance.DUTY)
        proven = at_a.view.current_at
        await eventually_async(lambda: at_a.view.current_at > proven)


async def test_a_permit_ahead_of_need_is_given_back_when_somebody_needs_room(make: Make) -> None:
    policy = replace(POLICY, standing_share=1.0, common_cause_share=1.0)
    async with running(lambda name: make(name, policy=policy), policy, "a", "b") as agents:
        a, b = agents["a"], agents["b"]
        await eventually_async(lambda: b.stance("a") is Stance.PERMIT and b.stance("b") is Stance.DUTY)
        b.loses_backends()
        await eventually_async(lambda: not b.announced)
        await eventually_async(lambda: b.stance("a") is Stance.DUTY)
        assert a.announced
        b.recovers()
        await eventually_async(lambda: b.announced and a.stance("a") is Stance.PERMIT)
