"""A service that should leave and may not: what routers were told stays, over restarts, second orders and a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from popctl.agent.events import FleetChanged, IntentsChanged
from popctl.core.decide import route_for
from popctl.model.fleet import FleetView, Permit, PermitState
from popctl.model.floor import FleetSettings
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Announce, Attributes, Pop
from popctl.model.reason import Reason
from popctl.model.route import RouteKey, RouteTable, route_table
from tests.pops import ROUTER, VIP4, VIP6, backend, ike, neighbor, pop
from tests.timeline.story import Story

NORMAL, DEPREFERRED, SHUTDOWN = Announce.NORMAL, Announce.DEPREFERRED, Announce.GRACEFUL_SHUTDOWN
SETTINGS = FleetSettings(name="test", region="eu", endpoints=("http://192.0.2.5:2379",))
POP = replace(pop(backends=(backend(1, ike()), backend(2, ike()))), name="ams", fleet=SETTINGS)
REFUSED = Permit(service="vpn", state=PermitState.REFUSED, since=0.0, reason=Reason.FLEET_FLOOR)
END = 400.0


def refused(begin: float = 0.0, *, of: Pop = POP, inherited: RouteTable | None = None) -> Story:
    """A PoP that the fleet lets go nowhere, and whose view of it never ages."""
    story = Story(of, inherited=inherited or {}, now=begin, connects_at=begin)
    story.happens(begin, FleetChanged(FleetView(connected=True, current_at=END, permits={"vpn": REFUSED})))
    return story


def serving(until: float = END) -> Story:
    story = refused()
    for number in (1, 2):
        story.passes(number, begin=0.1, end=until)
    return story


def carried(rung: Announce, med: int | None = None) -> RouteTable:
    router = neighbor()
    if med is not None:
        attributes = {one: replace(known, med=med) for one, known in router.attributes.items()}
        router = replace(router, attributes=attributes)
    return route_table((RouteKey(ROUTER, prefix), route_for(prefix, router, rung, 65010)) for prefix in (VIP4, VIP6))


def order(at: float, *, drain_s: float = 0.0) -> IntentsChanged:
    intent = Intent(
        kind=IntentKind.WITHDRAW,
        target="vpn",
        reason="router swap",
        owner="amy",
        created_unix_s=at,
        drain_s=drain_s,
        drain_until=at + drain_s if drain_s else 0.0,
    )
    return IntentsChanged((intent,))


def rungs(story: Story, since: float) -> list[str]:
    return [rung for at, rung in story.transitions if at >= since]


@pytest.mark.parametrize("rung", [DEPREFERRED, SHUTDOWN])
def test_a_restart_of_a_held_pop_with_dead_backends_orders_the_very_same_routes(rung: Announce) -> None:
    story = refused(inherited=carried(rung))
    for number in (1, 2):
        story.hangs(number, begin=0.1, end=60.0)
    story.run_to(59.0)
    assert [routes for _, routes in story.orders] == [carried(rung)]
    assert story.service(59.0).held


def test_a_restart_of_a_pop_that_is_held_by_order_orders_the_very_same_routes() -> None:
    story = serving()
    story.happens(100.0, order(100.0))
    story.run_to(150.0)
    held = story.world.view().actual.routes
    assert held == carried(DEPREFERRED)
    again = refused(150.0, inherited=held)
    again.happens(150.0, order(100.0))
    for number in (1, 2):
        again.passes(number, begin=150.1, end=200.0)
    again.expect(199.0, DEPREFERRED, Reason.FLEET_FLOOR)
    assert [routes for _, routes in again.orders] == [held]


def test_a_pop_that_was_held_is_announced_normally_as_soon_as_it_is_known_to_be_good() -> None:
    story = refused(inherited=carried(DEPREFERRED))
    for number in (1, 2):
        story.passes(number, begin=0.1, end=60.0)
    story.expect(2.0, DEPREFERRED, Reason.HELD_UNKNOWN)
    assert not story.service(2.0).held, "nobody has refused it anything yet"
    story.expect(2.1, NORMAL, Reason.HEALTHY)


def test_routes_with_attributes_that_are_not_configured_any_more_are_taken_for_normal() -> None:
    """A reload with another MED must not lower every service until its backends are known."""
    story = refused(inherited=carried(NORMAL, med=77))
    story.expect(1.0, NORMAL, Reason.HELD_UNKNOWN)


def test_rungs_with_the_same_attributes_are_taken_for_the_mildest() -> None:
    plain = Attributes()
    router = replace(neighbor(), attributes=dict.fromkeys((NORMAL, DEPREFERRED, SHUTDOWN), plain))
    routes = route_table(
        (RouteKey(ROUTER, prefix), route_for(prefix, router, NORMAL, 65010)) for prefix in (VIP4, VIP6)
    )
    story = refused(of=replace(POP, neighbors=(router,)), inherited=routes)
    story.expect(1.0, NORMAL, Reason.HELD_UNKNOWN)


def _extended(story: Story) -> None:
    story.happens(201.0, order(201.0))


def _in_a_hurry(story: Story) -> None:
    story.happens(130.0, order(130.0))


def _stopped(story: Story) -> None:
    story.stops(130.0)


@pytest.mark.parametrize("then", [_extended, _in_a_hurry, _stopped])
def test_a_drained_service_that_is_held_is_never_announced_milder_again(then: Callable[[Story], None]) -> None:
    story = serving()
    story.happens(100.0, order(100.0, drain_s=60.0))
    then(story)
    story.run_to(300.0)
    assert rungs(story, 100.0) == ["graceful-shutdown"]
    assert story.service(300.0).held


def test_a_drained_service_whose_order_is_lifted_in_an_outage_stays_where_it_is() -> None:
    story = serving(until=110.0)
    story.happens(100.0, order(100.0, drain_s=60.0))
    for number in (1, 2):
        story.hangs(number, begin=110.1, end=END)
    story.happens(200.0, IntentsChanged(()))
    story.run_to(300.0)
    assert rungs(story, 100.0) == ["graceful-shutdown"]


def test_a_drained_service_whose_order_is_lifted_while_it_is_good_is_announced_normally_at_once() -> None:
    story = serving()
    story.happens(100.0, order(100.0, drain_s=60.0))
    story.happens(200.0, IntentsChanged(()))
    story.expect(200.0, NORMAL, Reason.HEALTHY)
