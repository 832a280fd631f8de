"""A configuration without a balancer takes the earlier one off the host, once nobody is sent there any more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from popctl.agent.configured import Configured
from popctl.agent.events import TablesChanged
from popctl.agent.leftovers import keep_clean, remove_leftovers
from popctl.config.ids import record_path
from popctl.lb.balancer import KernelError
from popctl.model.balancer import BalancerActual, Marks
from popctl.model.pop import Pop
from popctl.model.route import Route, RouteKey, RouteTable, route_table
from popctl.wire.registry import Place, Record, decode
from tests import pops
from tests.eventually import eventually_async
from tests.unit.agent import api_rig

OLD = Place.of(Marks(priority=4000))
GONE = IPv4Network("203.0.113.0/24")


class Host:
    """What is removed, and how often it is refused."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.removed: list[tuple[tuple[int, ...], bool]] = []

    def remove(self, places: tuple[Marks, ...], tables: bool) -> int:  # noqa: FBT001 - as `Remove` says
        if self.refusals:
            self.refusals -= 1
            raise KernelError("nft", "busy")
        self.removed.append((tuple(one.priority for one in places), tables))
        return 3


def configured(pop: Pop, *places: Place) -> Configured:
    """Return a configuration that follows a balancer at these places."""
    return Configured(pop, "", Path("popctl.yaml"), Record(pop=pop.id, plan=None, marks=places))


def announced(pop: Pop, *more: IPv4Network) -> RouteTable:
    """Return the routes of the PoP's services, and others."""
    hop = next(iter(pop.neighbors[0].next_hops.values()))
    prefixes = [*pop.services[0].prefixes, *more]
    return route_table((RouteKey(pop.neighbors[0].address, one), Route(prefix=one, next_hop=hop)) for one in prefixes)


async def test_tables_and_rules_go_and_the_record_says_so(tmp_path: Path) -> None:
    pop, host = api_rig.small_pop(tmp_path), Host()
    async with api_rig.running(pop) as agent:
        await remove_leftovers(configured(pop, OLD), agent.loop, remove=host.remove)
    assert host.removed == [((4000,), True)]
    assert decode(record_path(pop).read_bytes()).marks == ()


async def test_the_part_lasts_when_its_work_is_done(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.running(pop) as agent:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await keep_clean(configured(pop), agent.loop)


async def test_nothing_is_looked_at_where_there_was_never_a_balancer(tmp_path: Path) -> None:
    pop, host = api_rig.small_pop(tmp_path), Host()
    async with api_rig.running(pop) as agent:
        await remove_leftovers(configured(pop), agent.loop, remove=host.remove)
    assert host.removed == []


async def test_rules_stay_while_a_route_of_a_service_that_is_gone_may_be_heard(tmp_path: Path) -> None:
    pop, host = api_rig.small_pop(tmp_path), Host()
    async with api_rig.running(pop) as agent:
        agent.speaker.proves = False
        agent.speaker.report(replace(agent.speaker.actual, routes=announced(pop, GONE)))
        await eventually_async(lambda: GONE in {key.prefix for key in agent.world.view().actual.routes})
        task = asyncio.create_task(remove_leftovers(configured(pop, OLD), agent.loop, remove=host.remove))
        await agent.loop.until(lambda loop: loop.decision is not None)
        assert host.removed == []
        agent.speaker.report(replace(agent.speaker.actual, routes=route_table(), pending=frozenset()))
        await task
    assert host.removed == [((4000,), True)]


async def test_a_balancer_that_moved_leaves_its_old_place_and_keeps_its_tables(tmp_path: Path) -> None:
    bare, host = api_rig.small_pop(tmp_path), Host()
    pop = pops.balanced(bare)
    assert pop.tables
    here = Place.of(pop.tables.marks)
    async with api_rig.running(pop) as agent:
        task = asyncio.create_task(remove_leftovers(configured(pop, OLD, here), agent.loop, remove=host.remove))
        agent.loop.put(TablesChanged(BalancerActual(in_force=True)))
        await task
    assert host.removed == [((4000,), False)]
    assert decode(record_path(pop).read_bytes()).marks == (here,)
