"""Fleets of agents on real etcd: what happens when PoPs, members and agents die at the wrong moment."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from popctl.fleet.client import StoreFleet, Timeouts
from popctl.fleet.errors import StoreError
from popctl.fleet.etcd import EtcdLine, EtcdSettings, TlsFiles
from popctl.fleet.target import Pace
from popctl.model.fleet import FleetView, FleetWish, FloorPolicy, PermitState, Stance
from popctl.model.reason import Reason
from tests.eventually import eventually_async
from tests.fleet_agents import SERVICE, Agent, bad, report, running
from tests.peers.certificates import Authority
from tests.peers.etcd import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.peer

PLACE = "/popctl/v1/peers"
PACE = Pace(quiet_s=0.2, refresh_s=1.0)
ALONE = FloorPolicy(minimum_announcing=1, standing_share=0.0, common_cause_share=1.0, settle_s=0.0)
VPN = frozenset((SERVICE,))
FLEET_HOLDS = {
    Reason.FLEET_FLOOR,
    Reason.COMMON_CAUSE,
    Reason.SAME_STAGE_EVERYWHERE,
    Reason.FLEET_UNREACHABLE,
    Reason.FLEET_VIEW_STALE,
    Reason.PERMIT_PENDING,
}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as one:
        yield one


@pytest.fixture
def three() -> Iterator[Cluster]:
    with Cluster(3) as members:
        yield members


def fleets(
    cluster: Cluster, policy: FloorPolicy, *, ttl_s: float = 3.0, request_s: float = 1.0
) -> Callable[[str], StoreFleet]:
    """Return what makes the fleet of one PoP; each PoP begins with another member."""

    def make(pop: str) -> StoreFleet:
        turn = ord(pop[0]) % len(cluster.urls)
        urls = cluster.urls[turn:] + cluster.urls[:turn]
        settings = EtcdSettings(fleet="peers", endpoints=urls, lease_ttl_s=ttl_s, request_s=request_s)
        timeouts = Timeouts(lease_ttl_s=ttl_s, request_s=request_s)
        return StoreFleet(pop, f"{pop}-1", EtcdLine(pop, settings), policy, pace=PACE, timeouts=timeouts)

    return make


def announcing(agents: dict[str, Agent]) -> set[str]:
    return {name for name, agent in agents.items() if agent.announced}


async def all_on_duty(agents: dict[str, Agent]) -> None:
    await eventually_async(
        lambda: all(agent.stance(name) in (Stance.DUTY, Stance.PERMIT) for agent in agents.values() for name in agents)
    )


async def test_two_pops_that_lose_all_backends_at_the_same_moment_never_both_leave(cluster: Cluster) -> None:
    async with running(fleets(cluster, ALONE), ALONE, "a", "b") as agents:
        await all_on_duty(agents)
        for agent in agents.values():
            agent.loses_backends(certain=True)
        await eventually_async(lambda: any(agent.held for agent in agents.values()))
        await eventually_async(lambda: len(agents["a"].view.members) == 2 and _settled(agents))
        assert announcing(agents)
        held = [agent for agent in agents.values() if agent.announced]
        assert all(agent.held and agent.ruling and agent.ruling.reason in FLEET_HOLDS for agent in held)


def _settled(agents: dict[str, Agent]) -> bool:
    """Whether every agent has heard what the others last said of themselves."""
    return all(
        not agent.view.members[name].record.report.services[SERVICE].good
        for agent in agents.values()
        for name in agents
    )


async def test_the_second_pop_to_lose_its_backends_is_held_until_the_first_is_back(cluster: Cluster) -> None:
    async with running(fleets(cluster, ALONE), ALONE, "a", "b") as agents:
        a, b = agents["a"], agents["b"]
        await all_on_duty(agents)
        a.loses_backends(stage="ike")
        await eventually_async(lambda: not a.announced)
        b.loses_backends(stage="l2tp")
        await eventually_async(lambda: b.held)
        assert b.announced
        a.recovers()
        await eventually_async(lambda: not b.announced)
        assert a.announced


async def test_etcd_stops_and_then_all_probes_time_out(cluster: Cluster) -> None:
    policy = FloorPolicy(minimum_announcing=1, settle_s=3.0)
    async with running(fleets(cluster, policy), policy, "a", "b", "c") as agents:
        await all_on_duty(agents)
        cluster.one.stop()
        await eventually_async(lambda: not any(agent.view.connected for agent in agents.values()))
        for agent in agents.values():
            began = monotonic()
            agent.loses_backends()
            assert monotonic() - began < 0.1, "the loop must not wait for the store"
        await eventually_async(lambda: all(agent.held for agent in agents.values()))
        assert announcing(agents) == {"a", "b", "c"}
        assert {agent.ruling.reason for agent in agents.values() if agent.ruling} == {Reason.FLEET_UNREACHABLE}
        cluster.one.start()
        # The store comes back with what was true before. Nobody believes that before the others have spoken.
        shared = {Reason.SAME_STAGE_EVERYWHERE}
        await eventually_async(
            lambda: {agent.ruling.reason for agent in agents.values() if agent.ruling} == shared, within_s=20.0
        )
        assert announcing(agents) == {"a", "b", "c"}
        assert all(Reason.FLEET_SETTLING in agent.rulings for agent in agents.values())


async def test_without_etcd_only_certainty_with_a_permit_taken_ahead_leaves(cluster: Cluster) -> None:
    policy = replace(ALONE, standing_share=0.5)
    async with running(fleets(cluster, policy), policy, "a", "b", "c") as agents:
        # Who holds the one permit is open: while the fleet gathers, it may change hands once.
        holder = await eventually_async(lambda: _settled_holder(agents))
        others = set(agents) - {holder}
        cluster.one.kill()
        await eventually_async(lambda: not any(agent.view.connected for agent in agents.values()))
        for agent in agents.values():
            agent.loses_backends(certain=True)
        await eventually_async(lambda: not agents[holder].announced)
        assert agents[holder].ruling is not None
        assert {Reason.LOCAL_CERTAINTY, Reason.PERMITTED} & set(agents[holder].rulings)
        assert announcing(agents) == others
        assert all(agents[pop].held for pop in others)


def _settled_holder(agents: dict[str, Agent]) -> str:
    """Return who holds the one permit by its own books and in the eyes of all; nobody if that is not settled."""
    holders = [
        name
        for name, agent in agents.items()
        if (permit := agent.view.permits.get(SERVICE)) and permit.state is PermitState.HELD
    ]
    seen = {frozenset(pop for pop in agents if agent.stance(pop) is Stance.PERMIT) for agent in agents.values()}
    return holders[0] if len(holders) == 1 and seen == {frozenset(holders)} else ""


@pytest.mark.parametrize("late_s", [0.0, 0.005], ids=["before the answer", "just after"])
async def test_the_leader_is_killed_during_a_withdraw(three: Cluster, late_s: float) -> None:
    policy = FloorPolicy(minimum_announcing=2, standing_share=0.0, settle_s=0.0)
    async with running(fleets(three, policy), policy, "a", "b", "c") as agents:
        a = agents["a"]
        await all_on_duty(agents)
        leader = three.leader()
        a.loses_backends()
        asyncio.get_running_loop().call_later(late_s, leader.kill)
        await eventually_async(lambda: not a.announced, within_s=20.0)
        assert announcing(agents) == {"b", "c"}
        agents["b"].loses_backends(stage="l2tp")
        await eventually_async(lambda: agents["b"].held, within_s=20.0)
        assert announcing(agents) == {"b", "c"}
        # With two of three members it goes on: the permit comes back, and the next one is granted.
        a.recovers()
        await eventually_async(lambda: announcing(agents) == {"a", "c"}, within_s=20.0)


async def test_a_line_opens_at_the_first_member_that_answers(three: Cluster) -> None:
    dead, hung, well = three.members
    dead.kill()
    settings = EtcdSettings(fleet="peers", endpoints=three.urls, lease_ttl_s=3.0, request_s=2.0)
    line = EtcdLine("a", settings)
    hung.freeze()
    try:
        # One of three answers, and has no majority: it says so, or does not answer in time either.
        with pytest.raises(StoreError):
            await line.open()
    finally:
        hung.thaw()
    try:
        await line.open()
        assert line.endpoint in (hung.url, well.url)
        assert (await line.read()).entries == {}
    finally:
        await line.close()


async def test_an_agent_is_killed_between_permit_and_withdraw(cluster: Cluster) -> None:
    make = fleets(cluster, ALONE, ttl_s=2.0)
    async with running(make, ALONE, "b") as others:
        b = others["b"]
        killed = make("a")
        views: list[FleetView] = [FleetView()]
        killed.set(FleetWish(report=report("a")))
        task = asyncio.create_task(killed.run(views.append))
        await eventually_async(lambda: "b" in views[-1].members and b.stance("a") is Stance.DUTY)
        killed.set(FleetWish(report=report("a", bad()), permits=VPN))
        await eventually_async(
            lambda: SERVICE in views[-1].permits and views[-1].permits[SERVICE].state is PermitState.HELD
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # `a` still announces, and nobody may count on that.
        b.loses_backends()
        await eventually_async(lambda: b.held)
        assert b.announced
        await eventually_async(lambda: b.stance("a") is None)
        assert b.held, "a permit that ended with its holder makes no room"
        async with running(make, ALONE, "a") as again:
            await eventually_async(lambda: not b.announced)
            assert again["a"].announced


async def test_a_store_that_hangs_blocks_nobody_and_is_found_again(cluster: Cluster) -> None:
    async with running(fleets(cluster, ALONE, request_s=0.5), ALONE, "a", "b") as agents:
        await all_on_duty(agents)
        cluster.one.freeze()
        try:
            await eventually_async(lambda: not any(agent.view.connected for agent in agents.values()))
            assert "within 0.5 s" in agents["a"].view.problem
        finally:
            cluster.one.thaw()
        await eventually_async(lambda: all(agent.view.connected for agent in agents.values()), within_s=20.0)
        await all_on_duty(agents)


async def test_a_compaction_goes_unnoticed(cluster: Cluster) -> None:
    async with running(fleets(cluster, ALONE), ALONE, "a", "b") as agents:
        await all_on_duty(agents)
        revision = agents["a"].view.revision
        await asyncio.to_thread(cluster.one.ask, "kv/compaction", revision=str(revision))
        agents["a"].loses_backends()
        await eventually_async(lambda: agents["b"].stance("a") is Stance.PERMIT)


async def test_a_record_that_cannot_be_read_disturbs_nobody(cluster: Cluster) -> None:
    make = fleets(cluster, ALONE)
    async with running(make, ALONE, "a", "b") as agents:
        await all_on_duty(agents)
        strange = {key: b64encode(text.encode()).decode() for key, text in (("key", f"{PLACE}/pop/z"), ("value", "?"))}
        await asyncio.to_thread(cluster.one.ask, "kv/put", **strange)
        agents["a"].loses_backends()
        await eventually_async(lambda: not agents["a"].announced)
        assert "z" not in agents["b"].view.members


async def test_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.server(), authority.client("a")
    with Cluster(tls=server) as cluster:
        settings = EtcdSettings(fleet="tls", endpoints=cluster.urls, tls=client, lease_ttl_s=3.0)
        fleet = StoreFleet("a", "a-1", EtcdLine("a", settings), ALONE)
        agent = Agent("a", fleet, ALONE)
        agent.turn()
        task = asyncio.create_task(fleet.run(agent.on_view))
        await eventually_async(lambda: agent.stance("a") is Stance.DUTY)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        stranger = Authority(tmp_path / "other").client("a")
        for wrong in (TlsFiles(ca=client.ca, certificate=stranger.certificate, key=stranger.key), None):
            fleet = StoreFleet("a", "a-1", EtcdLine("a", replace(settings, tls=wrong)), ALONE)
            agent = Agent("a", fleet, ALONE)
            task = asyncio.create_task(fleet.run(agent.on_view))
            await eventually_async(lambda seen=agent: seen.view.problem)
            assert not agent.view.connected
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
