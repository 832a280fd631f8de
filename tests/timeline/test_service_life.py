"""The life of a service: warm-up, failure, unknown, flaps, orders, restart, stop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from popctl.agent.events import ActualChanged, IntentsChanged, ServicesRestored
from popctl.core.decide import route_for
from popctl.model.desired import Actual
from popctl.model.observation import IntentKind, Outcome
from popctl.model.past import Past, ServicePast
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.model.route import GRACEFUL_SHUTDOWN, RouteKey, RouteTable, route_table
from tests.pops import ROUTER, TIMING, VIP4, VIP6, backend, ike, neighbor, pop
from tests.timeline.story import CONNECTED, Story

NORMAL, WITHDRAWN, SHUTDOWN = Announce.NORMAL, Announce.WITHDRAWN, Announce.GRACEFUL_SHUTDOWN


def carried() -> RouteTable:
    """What ExaBGP carries after an agent that announced normally is gone."""
    return route_table(
        (RouteKey(ROUTER, prefix), route_for(prefix, neighbor(), Announce.NORMAL, 65010)) for prefix in (VIP4, VIP6)
    )


def test_a_fresh_pop_announces_only_after_rise_and_warm_up() -> None:
    story = Story(pop())
    story.passes(1, begin=0.5, end=60)
    story.expect(2.4, WITHDRAWN, Reason.TOO_FEW_KNOWN)
    story.expect(2.6, WITHDRAWN, Reason.WARMING_UP)
    story.expect(12.4, WITHDRAWN, Reason.WARMING_UP)
    story.expect(12.6, NORMAL, Reason.HEALTHY)
    assert set(story.orders[-1][1]) == {RouteKey(ROUTER, VIP4), RouteKey(ROUTER, VIP6)}


def test_a_failure_during_warm_up_starts_it_anew() -> None:
    story = Story(pop(backends=(backend(1),)))
    story.passes(1, begin=0, end=8)
    story.hangs(1, begin=8, end=11)
    story.passes(1, begin=11, end=60)
    story.run_to(22.9)
    assert story.transitions == [(0.0, "withdrawn")]
    story.expect(23.0, NORMAL, Reason.HEALTHY)


def test_one_refusal_of_the_last_backend_withdraws_at_once() -> None:
    story = Story(pop(backends=(backend(1),)))
    story.passes(1, begin=0, end=30)
    story.refuses(1, begin=30.25, end=31)
    story.expect(30.2, NORMAL, Reason.HEALTHY)
    story.expect(30.25, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_silence_withdraws_only_after_fall_outcomes() -> None:
    story = Story(pop(backends=(backend(1, ike()),)))
    story.passes(1, begin=0, end=30)
    story.hangs(1, begin=30, end=33)
    story.expect(31.9, NORMAL, Reason.HEALTHY)
    story.expect(32.0, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_a_lost_packet_now_and_then_changes_nothing() -> None:
    story = Story(pop(backends=(backend(1, ike()),)))
    story.passes(1, begin=0, end=100)
    story.hangs(1, begin=20.1, end=100, every=2.0)
    story.run_to(99)
    assert story.transitions == [(0.0, "withdrawn"), (12.0, "normal")]


def test_one_failed_probe_takes_the_backend_although_the_others_pass() -> None:
    """IKE, NAT-T and L2TP of one client end at one place."""
    story = Story(pop(backends=(backend(1),)))
    story.passes(1, begin=0, end=30)
    for at in range(30, 40):
        story.probe(at, 1, Outcome.PASS, Reason.ANSWERED, "ike")
    story.hangs(1, begin=30, end=40, only=("l2tp",))
    story.expect(32.0, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_the_second_backend_keeps_the_prefix_announced() -> None:
    story = Story(pop())
    story.passes(1, begin=0, end=30)
    story.passes(2, begin=0, end=60)
    story.refuses(1, begin=30, end=60)
    story.run_to(59)
    assert story.transitions == [(0.0, "withdrawn"), (12.0, "normal")]
    assert story.service(59).healthy == 1


def test_fewer_than_the_minimum_withdraws() -> None:
    story = Story(pop(minimum_healthy=2))
    story.passes(1, begin=0, end=60)
    story.passes(2, begin=0, end=30)
    story.refuses(2, begin=30, end=60)
    story.expect(30.0, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_when_our_own_probing_fails_what_is_announced_is_held_and_then_leaves() -> None:
    """Unknown is not down; but nobody may be promised a service for ever that nobody has seen."""
    story = Story(pop())
    story.passes(1, begin=0, end=30)
    for at in range(30, 90):
        story.probe(at, 1, Outcome.UNKNOWN, Reason.OVERLOADED)
    story.expect(33.9, NORMAL, Reason.HEALTHY)
    story.expect(34.0, NORMAL, Reason.HELD_UNKNOWN)
    story.expect(63.9, NORMAL, Reason.HELD_UNKNOWN)
    story.expect(64.0, WITHDRAWN, Reason.TOO_FEW_KNOWN)


def test_unknown_that_ends_in_time_is_seen_by_no_router() -> None:
    story = Story(pop())
    story.passes(1, begin=0, end=30)
    story.passes(1, begin=50, end=90)
    story.run_to(89)
    assert [announce for _, announce in story.transitions] == ["withdrawn", "normal"]


def test_a_failure_after_a_long_silence_does_not_revive_what_was_believed_before_it() -> None:
    story = Story(pop(backends=(backend(1, ike()),)))
    story.passes(1, begin=0, end=30)
    story.probe(60, 1, Outcome.FAIL, Reason.TIMED_OUT)
    story.expect(59.9, NORMAL, Reason.HELD_UNKNOWN)
    story.expect(60.1, NORMAL, Reason.HELD_UNKNOWN)
    assert story.service(60.1).healthy == 0


def test_what_is_not_known_and_not_announced_any_more_is_not_announced_again() -> None:
    """The agent hung for longer than its lease: the relay withdrew, and nobody has looked at the backends since."""
    story = Story(pop(backends=(backend(1, ike()),)))
    story.passes(1, begin=0, end=30)
    story.happens(40, ActualChanged(Actual()))
    story.happens(41, ActualChanged(CONNECTED))
    story.hangs(1, begin=41, end=60)
    story.expect(39.9, NORMAL, Reason.HELD_UNKNOWN)
    story.expect(40.0, WITHDRAWN, Reason.TOO_FEW_KNOWN)
    story.expect(41.0, WITHDRAWN, Reason.TOO_FEW_KNOWN)
    story.expect(50.0, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_exabgp_that_comes_back_is_told_at_once_while_the_backends_are_known_to_work() -> None:
    story = Story(pop(backends=(backend(1, ike()),)))
    story.passes(1, begin=0, end=60)
    story.happens(30.5, ActualChanged(Actual()))
    story.happens(35.5, ActualChanged(CONNECTED))
    story.run_to(59)
    assert [announce for _, announce in story.transitions] == ["withdrawn", "normal"]


def test_a_fall_is_followed_by_a_hold_down_that_doubles() -> None:
    story = Story(pop(backends=(backend(1, ike()),)))
    begin = 0.0
    for fall in (20.0, 60.0, 120.0):
        story.passes(1, begin=begin, end=fall)
        story.refuses(1, begin=fall, end=fall + 1)
        begin = fall + 1
    story.passes(1, begin=begin, end=400)
    story.run_to(399)
    returns = [at for at, announce in story.transitions if announce == "normal"]
    assert returns == [12.0, 35.0, 90.0, 180.0], "15 s after 20, 30 s after 60, 60 s after 120"


def test_a_restart_does_not_end_a_hold_down() -> None:
    story = Story(pop(backends=(backend(1, ike()),)))
    begin = 0.0
    for fall in (20.0, 60.0, 120.0):
        story.passes(1, begin=begin, end=fall)
        story.refuses(1, begin=fall, end=fall + 1)
        begin = fall + 1
    story.run_to(130.0)
    again = Story(story.pop, now=130.0, connects_at=130.0)
    again.happens(130.0, ServicesRestored(story.world.past))
    again.passes(1, begin=130.0, end=400)
    again.expect(179.9, WITHDRAWN, Reason.FLAP_HOLD_DOWN)
    again.expect(180.0, NORMAL, Reason.HEALTHY)


def test_what_is_remembered_of_services_that_are_not_configured_any_more_is_forgotten() -> None:
    story = Story(pop(), inherited=carried())
    story.happens(0.0, ServicesRestored(Past({"gone": ServicePast(flaps=(-5.0,))})))
    story.run_to(1.0)
    assert "gone" not in story.world.past.services


def test_a_pop_that_was_bad_leaves_only_when_it_is_found_bad_again() -> None:
    story = Story(pop(backends=(backend(1, ike()),)), inherited=carried())
    story.happens(0.0, ServicesRestored(Past({"vpn": ServicePast(bad_since=-20.0)})))
    story.expect(2.0, NORMAL, Reason.HELD_UNKNOWN)
    story.passes(1, begin=2.5, end=60)
    story.run_to(59)
    assert story.transitions == [(0.0, "normal")]
    assert story.world.past.services == {}


def test_attributes_that_changed_with_a_reload_do_not_hide_how_far_a_service_had_been_lowered() -> None:
    router = neighbor()
    changed = {rung: replace(one, med=77) for rung, one in router.attributes.items()}
    story = Story(pop(neighbors=(replace(router, attributes=changed),)), inherited=carried())
    story.happens(0.0, ServicesRestored(Past({"vpn": ServicePast(lowered=Announce.DEPREFERRED)})))
    story.expect(1.0, Announce.DEPREFERRED, Reason.HELD_UNKNOWN)


def test_what_routers_have_beats_what_a_file_says_of_it() -> None:
    story = Story(pop(), inherited=carried())
    story.happens(0.0, ServicesRestored(Past({"vpn": ServicePast(lowered=SHUTDOWN)})))
    story.expect(1.0, NORMAL, Reason.HELD_UNKNOWN)


def test_the_reason_during_a_hold_down_says_so() -> None:
    story = Story(pop(backends=(backend(1, ike()),)))
    story.passes(1, begin=0, end=20)
    story.refuses(1, begin=20, end=21)
    story.passes(1, begin=21, end=60)
    story.expect(32.9, WITHDRAWN, Reason.WARMING_UP)
    story.expect(33.1, WITHDRAWN, Reason.FLAP_HOLD_DOWN)


def test_a_restart_with_healthy_backends_orders_the_very_same_routes() -> None:
    """No router may notice that the agent was restarted."""
    story = Story(pop(), inherited=carried(), connects_at=0.2)
    story.passes(1, begin=0, end=60)
    story.run_to(59)
    assert [routes for _, routes in story.orders] == [carried()]
    assert story.transitions[-1] == (0.2, "normal")


def test_a_restart_while_the_backends_are_dead_withdraws_as_soon_as_that_is_known() -> None:
    story = Story(pop(backends=(backend(1, ike()),)), inherited=carried(), connects_at=0.2)
    story.hangs(1, begin=0.5, end=60)
    story.expect(2.4, NORMAL, Reason.HELD_UNKNOWN)
    story.expect(2.5, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_nothing_is_ordered_before_the_inherited_routes_were_read() -> None:
    story = Story(pop(), inherited=carried(), connects_at=20.0)
    story.passes(1, begin=0, end=60)
    story.run_to(19.9)
    assert story.orders == []
    story.run_to(59)
    assert [routes for _, routes in story.orders] == [carried()]


def test_an_operators_withdraw_beats_health() -> None:
    story = Story(pop())
    story.passes(1, begin=0, end=60)
    story.orders_withdraw(30.0)
    story.expect(30.0, WITHDRAWN, Reason.OPERATOR_WITHDRAW)
    story.expect(59.0, WITHDRAWN, Reason.OPERATOR_WITHDRAW)


def test_a_withdraw_with_drain_shuts_down_gracefully_first() -> None:
    story = Story(pop())
    story.passes(1, begin=0, end=90)
    story.orders_withdraw(30.0, drain_s=20.0)
    story.expect(30.0, SHUTDOWN, Reason.OPERATOR_DRAIN)
    (_, routes) = story.orders[-1]
    assert all(GRACEFUL_SHUTDOWN in route.communities for route in routes.values())
    story.expect(49.9, SHUTDOWN, Reason.OPERATOR_DRAIN)
    story.expect(50.0, WITHDRAWN, Reason.OPERATOR_WITHDRAW)


def test_a_backend_that_dies_during_a_drain_ends_it_early() -> None:
    story = Story(pop(backends=(backend(1, ike()),)))
    story.passes(1, begin=0, end=35)
    story.orders_withdraw(30.0, drain_s=20.0)
    story.refuses(1, begin=35, end=40)
    story.expect(35.0, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_a_withdraw_taken_back_returns_through_warm_up() -> None:
    story = Story(pop())
    story.passes(1, begin=0, end=90)
    story.orders_withdraw(30.0)
    story.takes_back(40.0, IntentKind.WITHDRAW, "vpn")
    story.expect(40.0, WITHDRAWN, Reason.WARMING_UP)
    story.expect(50.0, NORMAL, Reason.HEALTHY)


def test_a_persisted_withdraw_survives_a_restart_over_routes_that_are_still_out() -> None:
    story = Story(pop(), inherited=carried(), connects_at=1.0)
    story.passes(1, begin=0, end=90)
    story.orders_withdraw(0.0)
    story.run_to(89)
    assert [dict(routes) for _, routes in story.orders] == [{}]


def test_a_drained_backend_counts_for_nothing() -> None:
    story = Story(pop(minimum_healthy=2))
    story.passes(1, begin=0, end=60)
    story.passes(2, begin=0, end=60)
    story.orders_drain(30.0, "b2")
    story.expect(30.0, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_a_drained_backend_that_is_unknown_is_not_hoped_for() -> None:
    story = Story(pop(backends=(backend(1, ike()), backend(2, ike()))))
    story.passes(1, begin=0, end=30)
    story.orders_drain(20.0, "b2")
    story.refuses(1, begin=30, end=31)
    story.expect(30.0, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_stop_withdraws_after_the_stop_drain() -> None:
    story = Story(pop(timing=replace(TIMING, stop_drain_s=5.0)))
    story.passes(1, begin=0, end=60)
    story.stops(30.0)
    story.expect(30.0, SHUTDOWN, Reason.STOPPING)
    story.expect(35.0, WITHDRAWN, Reason.STOPPING)


def test_a_service_that_is_out_stays_out_when_the_agent_stops() -> None:
    story = Story(pop(timing=replace(TIMING, stop_drain_s=5.0)))
    story.refuses(1, begin=0, end=30)
    story.stops(10.0)
    story.run_to(29)
    assert {announce for _, announce in story.transitions} == {"withdrawn"}


@pytest.mark.parametrize(("serve", "announce"), [(False, WITHDRAWN), (True, NORMAL)])
def test_a_corrupt_state_file_keeps_the_pop_out_unless_configured(*, serve: bool, announce: Announce) -> None:
    story = Story(pop(start_without_state=serve), inherited=carried())
    story.happens(0.0, IntentsChanged((), corrupt=True))
    story.passes(1, begin=0, end=60)
    assert story.service(59).announce is announce
    if not serve:
        story.expect(59, WITHDRAWN, Reason.STATE_FILE_CORRUPT)
