"""The client between agent and store: it never waits, never raises, and goes on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from math import inf

import pytest

from popctl.fleet.client import StoreFleet, Timeouts
from popctl.fleet.memory import MemoryHub, MemoryLine
from popctl.fleet.single import SingleFleet
from popctl.fleet.store import MemoryStore, StoreBreachError
from popctl.fleet.target import Pace
from popctl.model.fleet import FleetView, FleetWish, FloorPolicy, Stance
from popctl.model.load import PopLoad, Resource
from tests.eventually import eventually_async
from tests.fleet_agents import SERVICE, report

POLICY = FloorPolicy()


async def test_a_store_that_is_down_is_a_problem_in_the_view_and_nothing_else() -> None:
    hub = MemoryHub()
    hub.down = True
    fleet = StoreFleet("a", "a-1", MemoryLine("a", hub, request_s=0.01), POLICY)
    views = [FleetView()]
    began = time.monotonic()
    fleet.set(FleetWish(report=report("a")))
    assert time.monotonic() - began < 0.1
    task = asyncio.create_task(fleet.run(views.append))
    await eventually_async(lambda: "no answer" in views[-1].problem)
    hub.down = False
    await eventually_async(lambda: "a" in views[-1].members)
    assert views[-1].connected
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_figure_that_cannot_be_told_is_a_problem_in_the_view_and_ends_nothing() -> None:
    fleet = StoreFleet("a", "a-1", MemoryLine("a", MemoryHub()), POLICY, pace=Pace(quiet_s=0.02, refresh_s=0.05))
    views = [FleetView()]
    load = PopLoad(level=0, announcing=True, used={Resource.BITS: inf}, peak={}, capacity={}, at=0.0)
    fleet.set(FleetWish(report=replace(report("a"), load=load)))
    task = asyncio.create_task(fleet.run(views.append))
    await eventually_async(lambda: "figure" in views[-1].problem)
    fleet.set(FleetWish(report=report("a")))
    await eventually_async(lambda: views[-1].connected and "a" in views[-1].members)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_watch_that_went_silent_is_found_by_the_missing_echo() -> None:
    hub = MemoryHub()
    line = MemoryLine("a", hub, request_s=0.01)
    fleet = StoreFleet(
        "a",
        "a-1",
        _Deaf(line),
        POLICY,
        pace=Pace(quiet_s=0.05, refresh_s=0.1),
        timeouts=Timeouts(lease_ttl_s=1.0, echo_s=0.2),
    )
    views = [FleetView()]
    fleet.set(FleetWish(report=report("a")))
    task = asyncio.create_task(fleet.run(views.append))
    await eventually_async(lambda: "do not come back" in views[-1].problem)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class _Deaf:
    """A line whose watch hears nothing, while requests still work: a half-open connection."""

    def __init__(self, line: MemoryLine) -> None:
        self._line = line
        for name in ("open", "close", "read", "commit", "keep_alive", "revoke"):
            setattr(self, name, getattr(line, name))

    async def watch(self, after: int):  # noqa: ANN202 - as in Line
        async for changes in self._line.watch(after):
            if not changes:
                yield changes


async def test_a_session_that_failed_leaves_no_request_to_cancel_behind() -> None:
    """On Python 3.11.2 such a request makes the next time-out end the fleet, silently; newer ones forgive it."""
    hub = MemoryHub()
    line = MemoryLine("a", hub, request_s=0.01)
    fleet = StoreFleet("a", "a-1", line, POLICY, pace=Pace(quiet_s=0.02, refresh_s=0.05))
    views = [FleetView()]
    fleet.set(FleetWish(report=report("a")))
    task = asyncio.create_task(fleet.run(views.append))
    await eventually_async(lambda: "a" in views[-1].members)
    line.cut = True
    await eventually_async(lambda: "no answer" in views[-1].problem)
    assert task.cancelling() == 0
    line.cut = False
    await eventually_async(lambda: views[-1].connected)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_run_is_for_one_at_a_time() -> None:
    fleet = StoreFleet("a", "a-1", MemoryLine("a", MemoryHub()), POLICY)
    task = asyncio.create_task(fleet.run(lambda _: None))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await fleet.run(lambda _: None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_run_can_follow_run_and_keeps_its_record() -> None:
    fleet = StoreFleet("a", "a-1", MemoryLine("a", MemoryHub()), POLICY)
    fleet.set(FleetWish(report=report("a")))
    for _ in range(2):
        views = [FleetView()]
        task = asyncio.create_task(fleet.run(views.append))
        await eventually_async(lambda seen=views: "a" in seen[-1].members and seen[-1].connected)
        assert views[-1].members["a"].record.stance(SERVICE) is Stance.DUTY
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_leaving_the_fleet_waits_for_no_store_longer_than_two_requests() -> None:
    hub = MemoryHub()
    hub.down = True
    timeouts = Timeouts(lease_ttl_s=1.0, request_s=0.01)
    fleet = StoreFleet("a", "a-1", MemoryLine("a", hub, request_s=60.0), POLICY, timeouts=timeouts)
    began = time.monotonic()
    await fleet.release()
    assert time.monotonic() - began < 10.0


async def test_a_pop_without_a_fleet_waits_for_nothing() -> None:
    fleet = SingleFleet()
    fleet.set(FleetWish(report=report("a")))
    views: list[FleetView] = []
    task = asyncio.create_task(fleet.run(views.append))
    await asyncio.sleep(0)
    await fleet.release()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert views == []


def test_the_twin_refuses_what_etcd_could_not_mean() -> None:
    store: MemoryStore[bytes] = MemoryStore()
    lease = store.grant(1.0, 0.0)
    with pytest.raises(StoreBreachError):
        store.commit("", b"", lease, replaces=0)
