"""What the balancer is told, and when, while backends fail, drain and come back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from popctl.agent.events import IntentsChanged
from popctl.core import reconcile
from popctl.model.desired import BackendDecision, Place
from popctl.model.fleet import FloorPolicy
from popctl.model.floor import FleetSettings
from popctl.model.observation import DrainEnd, IntentKind
from popctl.model.reason import Reason
from popctl.model.route import RouteKey, RouteTable, route_table
from tests import pops
from tests.timeline.story import Story

BOTH = frozenset({1, 2})
NONE: frozenset[int] = frozenset()


def carried() -> RouteTable:
    """Return the route that an earlier agent left in ExaBGP."""
    story = Story(pops.pop())
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=20.0)
    story.run_to(20.0)
    return story.orders[-1][1]


def running(**more: object) -> Story:
    """Return a PoP whose agent was restarted: announced, both backends alive in the kernel."""
    return Story(pops.balanced(pops.pop()), inherited=carried(), kernel_alive=BOTH, **more)  # type: ignore[arg-type]


def place(story: Story, backend: int) -> BackendDecision:
    assert story.decision is not None
    return next(one for one in story.decision.desired.backends if one.backend == backend)


def test_a_new_pop_is_announced_only_after_its_tables_are_in_force() -> None:
    story = Story(pops.balanced(pops.pop()), lag_s=0.5)
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=30.0)
    story.run_to(30.0)
    in_force_at = next(at for at, tables in story.tables if tables.alive == BOTH) + 0.5
    announced_at = next(at for at, routes in story.orders if any(pops.VIP in key.prefix for key in routes))
    assert announced_at >= in_force_at


def test_a_pop_whose_balancer_never_works_never_announces_the_balanced_prefix() -> None:
    story = Story(pops.balanced(pops.pop()), balancer_works=False)
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=60.0)
    story.run_to(60.0)
    prefixes = {key.prefix for _, routes in story.orders for key in routes}
    assert prefixes == {pops.VIP6}, "the other prefix has no VIP of the balancer"


def test_a_restart_orders_the_tables_that_the_kernel_has_before_any_probe_has_answered() -> None:
    story = running()
    story.run_to(0.5)
    assert [tables.alive for _, tables in story.tables] == [BOTH]
    assert [routes for _, routes in story.orders] == [carried()]


def test_nothing_is_ordered_before_the_kernel_was_read() -> None:
    story = running(kernel_read_at=5.0)
    story.run_to(4.9)
    assert story.tables == []
    assert [routes for _, routes in story.orders] == [carried()], "what is out there stays"
    story.run_to(5.0)
    assert [tables.alive for _, tables in story.tables] == [BOTH]


def test_a_flap_of_one_backend_changes_one_element_and_back() -> None:
    story = running()
    story.passes(1, begin=0.0, end=60.0)
    story.passes(2, begin=0.0, end=20.0)
    story.refuses(2, begin=20.0, end=30.0)
    story.passes(2, begin=30.0, end=60.0)
    story.run_to(60.0)
    assert [sorted(tables.alive) for _, tables in story.tables] == [[1, 2], [1], [1, 2]]
    assert all(tables.services is story.tables[0][1].services for _, tables in story.tables)


def test_what_is_not_known_stays_where_it_was() -> None:
    """A prober that is late says nothing about a backend."""
    story = running()
    story.passes(1, begin=0.0, end=120.0)
    story.passes(2, begin=0.0, end=10.0)
    story.run_to(100.0)
    assert place(story, 2) == BackendDecision(backend=2, alive=True, draining=False, cut=False, reason=Reason.STALE)
    assert len(story.tables) == 1


def test_the_last_backends_stay_when_all_are_down_and_leave_when_another_is_back() -> None:
    story = running()
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=10.0)
    story.refuses(1, begin=10.0, end=60.0)
    story.refuses(2, begin=20.0, end=40.0)
    story.run_to(30.0)
    assert place(story, 2).reason is Reason.LAST_ALIVE
    assert place(story, 1).alive is False
    story.passes(2, begin=40.0, end=60.0)
    story.run_to(60.0)
    assert place(story, 2).reason is Reason.RISEN
    assert [sorted(tables.alive) for _, tables in story.tables] == [[1, 2], [2]]


def test_a_drain_is_one_element_and_an_undrain_takes_it_back() -> None:
    story = running()
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=60.0)
    story.orders_drain(20.0, "b2")
    story.takes_back(40.0, IntentKind.DRAIN, "b2")
    story.run_to(60.0)
    assert [(sorted(t.alive), sorted(t.draining)) for _, t in story.tables] == [
        ([1, 2], []),
        ([1, 2], [2]),
        ([1, 2], []),
    ]
    assert story.ended == []


def test_at_its_deadline_a_drain_that_cuts_leaves_the_balancer_first_and_ends_its_sas_then() -> None:
    story = running()
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=60.0)
    story.orders_drain(20.0, "b2", for_s=10.0, then=DrainEnd.CUT)
    story.run_to(60.0)
    cut_at, tables = story.tables[-1]
    assert (cut_at, tables.alive, tables.draining) == (30.0, {1}, {2})
    assert place(story, 2) == BackendDecision(backend=2, alive=False, draining=True, cut=True, reason=Reason.CUT)
    ((ended_at, ended),) = story.ended
    assert ended == {2}
    assert ended_at == pytest.approx(cut_at + story.lag_s)


def test_an_undrain_after_the_cut_takes_the_backend_back_and_ends_no_more_sas() -> None:
    story = running()
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=60.0)
    story.orders_drain(20.0, "b2", for_s=10.0, then=DrainEnd.CUT)
    story.takes_back(40.0, IntentKind.DRAIN, "b2")
    story.run_to(60.0)
    assert [(at, sorted(t.alive), sorted(t.draining)) for at, t in story.tables[-2:]] == [
        (30.0, [1], [2]),
        (40.0, [1, 2], []),
    ]
    assert place(story, 2).place is Place.ALIVE
    assert [ended for _, ended in story.ended] == [{2}, NONE]


def test_at_its_deadline_a_drain_that_waits_goes_on() -> None:
    story = running()
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=60.0)
    story.orders_drain(20.0, "b2", for_s=10.0)
    story.run_to(60.0)
    assert (story.tables[-1][1].alive, story.tables[-1][1].draining) == (BOTH, {2})


def test_the_last_backend_that_is_drained_by_force_serves_until_its_route_is_gone() -> None:
    """Routes before tables on the way down: whoever still comes in the meantime is served."""
    story = running(lag_s=1.0)
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=60.0)
    story.orders_drain(20.0, "b1")
    story.orders_drain(30.0, "b2")
    story.run_to(60.0)
    withdrawn_at = next(at for at, routes in story.orders if not routes)
    drained_at = next(at for at, tables in story.tables if tables.draining == BOTH)
    assert withdrawn_at == 30.0
    assert drained_at == 31.0


def test_a_withdraw_that_refuses_new_sas_closes_the_balancer_while_the_route_is_still_there() -> None:
    story = running(lag_s=1.0)
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=90.0)
    story.orders_withdraw(20.0, drain_s=30.0, refuse_new=True)
    story.takes_back(60.0, IntentKind.WITHDRAW, "vpn")
    story.run_to(25.0)
    closed = BackendDecision(backend=1, alive=True, draining=True, cut=False, reason=Reason.REFUSES_NEW)
    assert place(story, 1) == closed
    assert story.orders[-1][1], "it drains: the route is there, at a lower preference"
    story.run_to(90.0)
    moves = [(at, tables.alive, tables.draining) for at, tables in story.tables]
    assert moves == [(0.0, BOTH, NONE), (20.0, BOTH, BOTH), (60.0, BOTH, NONE)]
    assert [at for at, routes in story.orders if not routes] == [50.0]
    assert next(at for at, routes in story.orders if routes and at > 50.0) > 60.0, "the balancer is open first"


def test_without_being_told_so_a_withdraw_refuses_nobody() -> None:
    story = running()
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=60.0)
    story.orders_withdraw(20.0, drain_s=30.0)
    story.run_to(60.0)
    assert [tables.draining for _, tables in story.tables] == [NONE]


def test_a_withdraw_that_the_guard_holds_refuses_nobody() -> None:
    """Without the store nobody knows who else serves: this PoP may be the last one that new clients have."""
    fleet = FleetSettings(name="test", region="eu", endpoints=("http://192.0.2.5:2379",), floor=FloorPolicy())
    configured = pops.balanced(replace(pops.pop(), fleet=fleet))
    story = Story(configured, inherited=carried(), kernel_alive=BOTH)
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=90.0)
    story.orders_withdraw(20.0, drain_s=30.0, refuse_new=True)
    story.run_to(90.0)
    assert story.decision is not None
    assert [one.held for one in story.decision.desired.services] == [True]
    assert story.orders[-1][1], "held: the route stays"
    assert [tables.draining for _, tables in story.tables] == [NONE]


def test_what_an_earlier_configuration_announced_is_withdrawn_before_the_balancer_forgets_it() -> None:
    key, route = next(iter(carried().items()))
    gone = ip_network("203.0.113.0/24")
    old = RouteKey(key.neighbor, gone)
    table = route_table([*carried().items(), (old, replace(route, prefix=gone))])
    story = Story(pops.balanced(pops.pop()), inherited=table, kernel_alive=BOTH, lag_s=1.0)
    story.run_to(10.0)
    assert [at for at, _ in story.orders] == [0.0]
    assert [at for at, _ in story.tables] == [1.0]


def test_orders_that_may_be_forgotten_move_nothing() -> None:
    story = running()
    story.happens(0.0, IntentsChanged((), corrupt=True))
    story.run_to(5.0)
    assert story.tables == []


def test_the_same_tables_are_not_ordered_twice() -> None:
    story = running()
    for backend in (1, 2):
        story.passes(backend, begin=0.0, end=60.0)
    story.run_to(60.0)
    assert len(story.tables) == 1
    assert story.decision is not None
    view = story.world.view()
    ordered = reconcile.Ordered(routes=story.orders[-1][1], tables=story.tables[-1][1])
    assert reconcile.plan(story.decision.desired, view.actual, ordered, view.balancer) == ()
