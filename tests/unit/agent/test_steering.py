"""The balancer's part of the agent: real rows from their own process, the twin in memory as the kernel."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from popctl.agent.events import Event, TablesChanged, TablesInherited
from popctl.agent.rows import RowsError, services_with_rows
from popctl.agent.sa_watch import SaWatch
from popctl.agent.steering import Steering
from popctl.core.rendezvous import build
from popctl.core.seeds import recipes
from popctl.lb.memory import MemoryBalancer, MemoryKernel
from popctl.model.balancer import ROWS, BalancerActual, Tables
from popctl.model.pop import Pop
from popctl.model.secret import Secret
from tests import pops
from tests.eventually import eventually_async


@dataclass
class Rig:
    """One part, the kernel below it, and what it told the loop."""

    pop: Pop
    kernel: MemoryKernel = field(default_factory=MemoryKernel)
    events: list[Event] = field(default_factory=list)

    def tables(self, *alive: int) -> Tables:
        assert self.pop.tables is not None
        return replace(self.pop.tables, alive=frozenset(alive))

    def actual(self) -> BalancerActual:
        told = [event.actual for event in self.events if isinstance(event, TablesChanged)]
        return told[-1] if told else BalancerActual()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Steering]:
        watch = SaWatch(self.pop, time.monotonic)
        steering = Steering(self.pop, MemoryBalancer(self.kernel), self.events.append, watch)
        task = asyncio.create_task(steering.run())
        try:
            yield steering
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def rig() -> Rig:
    return Rig(pops.balanced(pops.pop()))


async def test_rows_come_from_their_own_process_and_are_those_of_the_library() -> None:
    pop = replace(pops.balanced(pops.pop()), row_key=Secret("key"))
    (service,) = await services_with_rows(pop)
    (recipe,) = recipes(pop)
    assert service.rows == build(recipe.weights, recipe.seed)
    assert (service.rows.count, service.rows.members) == (ROWS, {1, 2})
    assert service.seed != 0


async def test_two_balancers_of_a_pop_draw_the_same_and_another_key_draws_otherwise() -> None:
    pop = pops.balanced(pops.pop())
    here, there = await asyncio.gather(services_with_rows(pop), services_with_rows(pop))
    (other,) = await services_with_rows(replace(pop, row_key=Secret("another")))
    assert here == there
    assert (other.rows == here[0].rows, other.seed == here[0].seed) == (False, False)


async def test_the_loop_hears_what_the_kernel_holds_before_anything_is_ordered() -> None:
    one = rig()
    one.kernel.tables = one.tables(2)
    async with one.running():
        await eventually_async(lambda: one.events)
    assert one.events == [TablesInherited(frozenset({2}))]
    assert one.kernel.tables == one.tables(2)


async def test_an_order_reaches_the_kernel_with_whole_rows_and_comes_back_as_proven() -> None:
    one = rig()
    async with one.running() as steering:
        steering.order_tables(one.tables(1, 2))
        await eventually_async(lambda: one.actual().in_force)
        assert one.kernel.tables is not None
        assert one.kernel.tables.services[0].rows.count == ROWS
        steering.order_tables(one.tables(1))
        await eventually_async(lambda: one.actual().alive == {1})
    assert one.actual().elements_changed == 1


async def test_orders_given_while_rows_are_built_are_not_lost_and_only_the_last_counts() -> None:
    one = rig()
    async with one.running() as steering:
        steering.order_tables(one.tables(1))
        steering.order_tables(one.tables(2))
        await eventually_async(lambda: one.actual().in_force)
    assert one.actual().alive == {2}
    assert one.actual().writes == 1


async def test_a_restart_changes_nothing_in_the_kernel() -> None:
    one = rig()
    async with one.running() as steering:
        steering.order_tables(one.tables(1, 2))
        await eventually_async(lambda: one.actual().in_force)
    before, one.events = one.kernel.tables, []
    async with one.running() as steering:
        steering.order_tables(one.tables(1, 2))
        await eventually_async(lambda: one.actual().in_force)
    assert one.actual().writes == 0
    assert one.kernel.tables == before


async def test_what_the_host_refuses_is_told_and_tried_again_until_it_is_mended() -> None:
    one = rig()
    one.kernel.addresses = frozenset({pops.VIP})
    async with one.running() as steering:
        steering.order_tables(one.tables(1, 2))
        await eventually_async(lambda: "is an address of this host" in one.actual().problem)
        assert one.kernel.tables is None
        assert not one.actual().in_force
        one.kernel.addresses = frozenset()
        await eventually_async(lambda: one.actual().in_force, within_s=10)
    assert one.actual().problem == ""


async def test_a_host_that_cannot_start_a_process_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = rig()
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(RowsError, match=r"rows were not built: .*/nowhere/python"):
            await services_with_rows(one.pop)
        async with one.running() as steering:
            await eventually_async(lambda: "/nowhere/python" in one.actual().problem)
            broken.undo()
            steering.order_tables(one.tables(1, 2))
            await eventually_async(lambda: one.actual().in_force, within_s=20)
