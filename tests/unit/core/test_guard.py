"""May this PoP withdraw: one row per rule."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from popctl.core.guard import Cause, Permission, Withdrawal, common_cause, floor_refusal, judge, wants_standing
from popctl.model.fleet import (
    FleetView,
    FloorPolicy,
    Member,
    Permit,
    PermitState,
    Stance,
)
from popctl.model.instant import NEVER
from popctl.model.load import PopLoad, Resource
from popctl.model.reason import Reason
from tests.fleet_agents import GOOD, SERVICE, bad, member

NOW = 1000.0
POLICY = FloorPolicy(minimum_announcing=1)
FAILING = Withdrawal(
    pop="a", region="eu", service=SERVICE, cause=Cause.HEALTH, carried=True, bad_since=NOW - 1, stage="ike"
)


def fleet(
    *members: tuple[str, Member], connected: bool = True, age_s: float = 1.0, permit: PermitState | None = None
) -> FleetView:
    own = None if permit is None else Permit(service=SERVICE, state=permit, since=NOW - 0.5)
    return FleetView(
        members=dict(members),
        permits={} if own is None else {SERVICE: own},
        connected=connected,
        current_at=NOW - age_s,
    )


def answer(wanted: Withdrawal, view: FleetView, policy: FloorPolicy | None = POLICY) -> tuple[Permission, Reason]:
    ruling = judge(wanted, policy, view, NOW)
    return ruling.permission, ruling.reason


ASKED = Permit(service=SERVICE, state=PermitState.ASKED, since=NOW)
A, B, C = ("a", member("a")), ("b", member("b")), ("c", member("c"))
B_BAD = ("b", member("b", service=bad(NOW - 2, stage="ike")))
B_LEFT = ("b", member("b", stance=Stance.PERMIT))


def test_without_a_fleet_nobody_is_asked() -> None:
    assert answer(FAILING, FleetView(), None) == (Permission.ALLOW, Reason.SINGLE_POP)


def test_what_is_not_announced_needs_no_permit() -> None:
    assert answer(replace(FAILING, carried=False), FleetView()) == (Permission.ALLOW, Reason.NOT_ANNOUNCED)


def test_a_withdraw_waits_for_its_permit_and_no_longer_than_its_bound() -> None:
    ruling = judge(FAILING, POLICY, fleet(A, B), NOW)
    assert (ruling.permission, ruling.ask) == (Permission.NEED_PERMIT, True)
    assert ruling.wake_at == NOW + POLICY.permit_wait_s
    late = judge(FAILING, POLICY, fleet(A, B, permit=PermitState.ASKED), NOW + 1)
    assert (late.permission, late.reason) == (Permission.HOLD, Reason.PERMIT_PENDING)
    assert late.ask


def test_a_held_permit_and_others_that_serve_allow_it() -> None:
    ruling = judge(FAILING, POLICY, fleet(A, B, permit=PermitState.HELD), NOW)
    assert (ruling.permission, ruling.reason) == (Permission.ALLOW, Reason.PERMITTED)
    assert ruling.ask, "a permit is kept as long as the service stays out"


@pytest.mark.parametrize("others", [(), (B_BAD,), (B_LEFT,)], ids=["nobody", "bad", "may leave"])
def test_a_held_permit_is_not_used_when_nobody_serves_any_more(others: tuple[tuple[str, Member], ...]) -> None:
    elsewhere = replace(FAILING, stage="l2tp")
    view = fleet(A, C, permit=PermitState.HELD)
    view = replace(view, members=dict((A, *others)))
    # The share of bad PoPs is another rule.
    assert answer(elsewhere, view, replace(POLICY, common_cause_share=1.0)) == (Permission.HOLD, Reason.FLEET_FLOOR)


def test_a_refused_permit_holds_with_the_reason_of_the_store_and_keeps_asking() -> None:
    view = fleet(A, B, permit=PermitState.REFUSED)
    permit = replace(view.permits[SERVICE], reason=Reason.REGION_FLOOR)
    ruling = judge(FAILING, POLICY, replace(view, permits={SERVICE: permit}), NOW)
    assert (ruling.permission, ruling.reason, ruling.ask) == (Permission.HOLD, Reason.REGION_FLOOR, True)


def test_a_view_that_is_too_old_says_nothing_about_others() -> None:
    view = fleet(A, B, age_s=POLICY.view_age_bound_s + 1, permit=PermitState.HELD)
    assert answer(FAILING, view) == (Permission.HOLD, Reason.FLEET_VIEW_STALE)
    assert answer(FAILING, replace(view, connected=False))[0] is Permission.HOLD


def test_without_the_store_a_time_out_proves_nothing() -> None:
    view = fleet(A, B, connected=False)
    assert answer(FAILING, view) == (Permission.HOLD, Reason.FLEET_UNREACHABLE)


def test_without_the_store_certainty_needs_a_permit_taken_ahead() -> None:
    certain = replace(FAILING, certain=True)
    assert answer(certain, fleet(A, B, connected=False)) == (Permission.HOLD, Reason.FLEET_UNREACHABLE)
    ahead = fleet(A, B, connected=False, permit=PermitState.HELD)
    old = {SERVICE: replace(ahead.permits[SERVICE], since=NOW - 3600)}
    assert answer(certain, replace(ahead, permits=old)) == (Permission.ALLOW, Reason.LOCAL_CERTAINTY)
    assert answer(FAILING, replace(ahead, permits=old)) == (Permission.HOLD, Reason.FLEET_UNREACHABLE)


def test_a_permit_granted_just_before_the_store_went_away_may_be_used() -> None:
    view = fleet(A, B, connected=False, permit=PermitState.HELD)
    assert answer(FAILING, view) == (Permission.ALLOW, Reason.PERMITTED)


def test_certainty_without_anybody_who_serves_stays() -> None:
    view = fleet(A, connected=False, permit=PermitState.HELD)
    assert answer(replace(FAILING, certain=True), view) == (Permission.HOLD, Reason.FLEET_FLOOR)


def test_force_waits_for_the_store_only_so_long_and_asks_no_floor() -> None:
    forced = replace(FAILING, cause=Cause.OPERATOR, forced=True)
    assert answer(forced, fleet(A)) == (Permission.NEED_PERMIT, Reason.PERMIT_PENDING)
    assert answer(forced, fleet(A, permit=PermitState.HELD)) == (Permission.ALLOW, Reason.FORCED)
    assert answer(forced, fleet(connected=False)) == (Permission.ALLOW, Reason.FORCED)
    asked = replace(fleet(A), permits={SERVICE: replace(ASKED, since=NOW - 0.5, forced=True)})
    assert answer(forced, asked) == (Permission.NEED_PERMIT, Reason.PERMIT_PENDING)
    assert judge(forced, POLICY, asked, NOW + 0.5).permission is Permission.ALLOW


@pytest.mark.parametrize("state", [PermitState.ASKED, PermitState.REFUSED])
def test_a_permit_that_was_wanted_before_tells_nobody_of_the_force(state: PermitState) -> None:
    forced = replace(FAILING, cause=Cause.OPERATOR, forced=True)
    ruling = judge(forced, POLICY, fleet(A, permit=state), NOW + 3600 - 1)
    assert (ruling.permission, ruling.reason) == (Permission.NEED_PERMIT, Reason.PERMIT_PENDING)
    assert ruling.wake_at == NOW + 3600 - 1 + POLICY.permit_wait_s


def test_an_order_of_an_operator_is_no_common_cause() -> None:
    ordered = replace(FAILING, cause=Cause.OPERATOR)
    view = fleet(A, B_BAD, C, permit=PermitState.HELD)
    assert answer(ordered, view, replace(POLICY, common_cause_share=0.1)) == (Permission.ALLOW, Reason.PERMITTED)


# Common cause.


def sick(count: int, of: int, *, since: float = NOW - 2, stage: str = "l2tp") -> FleetView:
    """Return a view of `of` PoPs, of which `count` others than `a` are bad."""
    names = [f"p{number}" for number in range(of - 1)]
    members = {
        name: member(name, service=bad(since, stage=stage) if number < count else GOOD)
        for number, name in enumerate(names)
    }
    return FleetView(members={"a": member("a"), **members}, connected=True, current_at=NOW)


@pytest.mark.parametrize(
    ("others", "of", "frozen"),
    [(1, 10, False), (2, 10, True), (0, 2, False), (1, 2, True), (0, 100, False), (19, 100, False), (20, 100, True)],
)
def test_more_than_the_share_turning_bad_together_is_a_common_cause(others: int, of: int, *, frozen: bool) -> None:
    policy = replace(POLICY, common_cause_share=0.2)
    found = common_cause(FAILING, policy, sick(others, of))
    assert found is (Reason.COMMON_CAUSE if frozen else None)


def test_pops_that_turned_bad_long_before_are_another_cause() -> None:
    policy = replace(POLICY, common_cause_share=0.2, common_cause_window_s=60.0)
    assert common_cause(FAILING, policy, sick(5, 10, since=NOW - 120)) is None
    assert common_cause(FAILING, policy, sick(5, 10, since=NOW - 50)) is Reason.COMMON_CAUSE


def test_a_common_cause_does_not_end_by_waiting() -> None:
    policy = replace(POLICY, common_cause_share=0.2, common_cause_window_s=60.0)
    view = replace(sick(5, 10, since=NOW - 3600), current_at=NOW)
    assert common_cause(replace(FAILING, bad_since=NOW - 3590), policy, view) is Reason.COMMON_CAUSE


def test_the_same_stage_failing_everywhere_is_a_common_cause_whenever_it_began() -> None:
    policy = replace(POLICY, common_cause_share=1.0)
    view = sick(4, 5, since=NOW - 7200, stage="ike")
    assert common_cause(FAILING, policy, view) is Reason.SAME_STAGE_EVERYWHERE
    assert common_cause(replace(FAILING, stage="l2tp"), policy, view) is None


def test_a_common_cause_freezes_although_a_permit_is_held_and_does_not_ask_for_one() -> None:
    view = sick(3, 10)
    ruling = judge(FAILING, POLICY, view, NOW)
    assert (ruling.permission, ruling.reason, ruling.ask) == (Permission.HOLD, Reason.COMMON_CAUSE, False)
    held = {SERVICE: Permit(service=SERVICE, state=PermitState.HELD, since=NOW)}
    assert judge(FAILING, POLICY, replace(view, permits=held), NOW).permission is Permission.HOLD


def test_local_certainty_outranks_a_common_cause_while_others_serve() -> None:
    held = {SERVICE: Permit(service=SERVICE, state=PermitState.HELD, since=NOW)}
    certain = replace(FAILING, certain=True)
    assert judge(certain, POLICY, replace(sick(3, 10), permits=held), NOW).permission is Permission.ALLOW
    assert judge(certain, POLICY, replace(sick(9, 10), permits=held), NOW).reason is Reason.COMMON_CAUSE


# The floor.


def refusal(policy: FloorPolicy, *members: tuple[str, Member]) -> Reason | None:
    return floor_refusal(policy, SERVICE, "a", "eu", dict(members))


def test_the_floor_counts_only_pops_on_duty_that_serve() -> None:
    two = FloorPolicy(minimum_announcing=2)
    assert refusal(two, A, B, C) is None
    for gone in (
        B_BAD,
        B_LEFT,
        ("b", member("b", stance=Stance.OUT)),
        ("b", member("b", service=bad(announced=False))),
    ):
        assert refusal(two, A, gone, C) is Reason.FLEET_FLOOR


def test_a_region_keeps_its_own_minimum() -> None:
    policy = FloorPolicy(minimum_announcing=1, minimum_per_region={"eu": 1})
    abroad = ("b", member("b", region="us"))
    assert refusal(policy, A, abroad) is Reason.REGION_FLOOR
    assert refusal(policy, A, abroad, C) is None
    assert floor_refusal(policy, SERVICE, "b", "us", dict((A, abroad))) is None


def using(name: str, sessions: float | None, capacity: float | None) -> tuple[str, Member]:
    plain = member(name)
    used = {} if sessions is None else {Resource.SESSIONS: sessions}
    limits = {} if capacity is None else {Resource.SESSIONS: capacity}
    load = PopLoad(level=0, announcing=True, used=used, peak=used, capacity=limits, at=NOW)
    report = replace(plain.record.report, load=load)
    return name, replace(plain, record=replace(plain.record, report=report))


def test_a_pop_whose_record_is_gone_is_missing_from_the_demand() -> None:
    policy = FloorPolicy(minimum_capacity_ratio=1.0)
    others = (using("b", 300.0, 500.0), using("c", 100.0, 500.0))
    assert refusal(policy, using("a", 700.0, 1000.0), *others) is Reason.CAPACITY_FLOOR
    assert refusal(policy, *others) is Reason.CAPACITY_UNKNOWN
    assert refusal(FloorPolicy(), *others) is None


@pytest.mark.parametrize(
    ("capacity", "load", "found"),
    [(300.0, 100.0, None), (239.0, 100.0, Reason.CAPACITY_FLOOR), (240.0, 100.0, None), (None, 100.0, None)],
)
def test_those_left_must_carry_the_demand_on_all(capacity: float | None, load: float, found: Reason | None) -> None:
    policy = FloorPolicy(minimum_capacity_ratio=1.2)
    assert refusal(policy, using("a", load, 1000.0), using("b", 100.0, capacity)) is found


def test_an_unknown_load_is_not_zero() -> None:
    policy = FloorPolicy(minimum_capacity_ratio=1.2)
    assert refusal(policy, using("a", None, 1.0), using("b", 1.0, 100.0)) is Reason.CAPACITY_UNKNOWN
    assert refusal(policy, A, using("b", 1.0, 100.0)) is Reason.CAPACITY_UNKNOWN
    assert refusal(policy, using("a", 1.0, 1.0), B) is Reason.CAPACITY_UNKNOWN
    assert refusal(policy, using("a", 1.0, None), using("b", 1.0, 100.0)) is None


# Permits ahead of need.


def stands(view: FleetView, pop: str = "a", policy: FloorPolicy = POLICY) -> bool:
    return wants_standing(GOOD, pop, "eu", policy, view, NOW)


def test_one_of_two_holds_a_permit_ahead_of_need() -> None:
    assert stands(fleet(A, B), "a")
    assert not stands(fleet(A, B), "b")
    ready = ("a", member("a", stance=Stance.PERMIT))
    assert stands(fleet(ready, B, permit=PermitState.HELD), "a")
    assert not stands(fleet(ready, B), "b")


def test_a_share_of_what_the_floor_can_spare_is_held_ahead() -> None:
    names = [f"p{number}" for number in range(6)]
    policy = FloorPolicy(minimum_announcing=2, standing_share=0.5)
    members = {name: member(name, stance=Stance.PERMIT if name in ("p0", "p1") else Stance.DUTY) for name in names}
    view = FleetView(members=members, connected=True, current_at=NOW)
    assert [name for name in names if stands(view, name, policy)] == ["p0", "p1"]
    fewer = replace(view, members={name: members[name] for name in names[:4]})
    assert [name for name in names[:4] if stands(fewer, name, policy)] == ["p0"]


def test_a_permit_ahead_of_need_is_given_back_as_soon_as_somebody_asks() -> None:
    ready = ("a", member("a", stance=Stance.PERMIT))
    asking = ("b", member("b", service=bad(), asking=True))
    assert not stands(fleet(ready, asking, C, permit=PermitState.HELD))


def test_without_the_store_what_is_held_is_kept_and_nothing_is_asked() -> None:
    assert stands(fleet(A, B, connected=False, permit=PermitState.HELD))
    assert not stands(fleet(A, B, connected=False))


def test_a_pop_that_does_not_serve_holds_nothing_ahead() -> None:
    assert not wants_standing(bad(), "a", "eu", POLICY, fleet(A, B), NOW)


@pytest.mark.parametrize("ratio", [None, 1.2], ids=["pops", "capacity"])
def test_a_thousand_pops_are_judged_in_a_millisecond(ratio: float | None) -> None:
    policy = replace(POLICY, minimum_capacity_ratio=ratio)
    amounts = dict.fromkeys(Resource, 1.0)
    load = PopLoad(level=0, announcing=True, used=amounts, peak=amounts, capacity=dict.fromkeys(Resource, 9.0), at=NOW)
    members = {}
    for name in ("a", *(f"p{number}" for number in range(999))):
        one = member(name, service=bad(NOW) if name.startswith("p") and int(name[1:]) % 7 == 0 else GOOD)
        members[name] = replace(one, record=replace(one.record, report=replace(one.record.report, load=load)))
    held = {SERVICE: Permit(service=SERVICE, state=PermitState.HELD, since=NOW)}
    view = FleetView(members=members, permits=held, connected=True, current_at=NOW)

    def once() -> float:
        began = time.process_time()
        assert judge(FAILING, policy, view, NOW).wake_at is not NEVER
        wants_standing(GOOD, "a", "eu", policy, view, NOW)
        return time.process_time() - began

    # The best of several: what the code costs, not what else the machine did.
    assert min(once() for _ in range(20)) < 0.001


def test_after_an_outage_the_others_are_heard_first() -> None:
    view = replace(fleet(A, B, permit=PermitState.HELD), settled_at=NOW + 3)
    ruling = judge(FAILING, POLICY, view, NOW)
    assert (ruling.permission, ruling.reason, ruling.wake_at) == (Permission.HOLD, Reason.FLEET_SETTLING, NOW + 3)
    assert judge(FAILING, POLICY, view, NOW + 3).permission is Permission.ALLOW
    assert answer(replace(FAILING, cause=Cause.OPERATOR), view)[0] is Permission.ALLOW
    assert answer(replace(FAILING, certain=True), view)[0] is Permission.ALLOW


def test_a_permit_taken_ahead_was_not_granted_for_a_time_out() -> None:
    view = fleet(A, B, connected=False, permit=PermitState.HELD)
    just_taken = {SERVICE: replace(view.permits[SERVICE], since=FAILING.bad_since - 1)}
    assert answer(FAILING, replace(view, permits=just_taken)) == (Permission.HOLD, Reason.FLEET_UNREACHABLE)
