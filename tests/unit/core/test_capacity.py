"""Steering by load over time: watermarks, dwell, verification, roll-back, the floor without a gate, permits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from popctl.core import capacity, damping, gate
from popctl.model.capacity import CALM, Distrust, LoadPolicy, LoadState
from popctl.model.load import Resource, Tightness
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from tests.fleets import LADDER, Fleet, Users

POLICIES = capacity.Policies()
NEAR_0 = Users(60, (0, 60))
MOVABLE = Users(40, (0, 10))


def _fleet(*, room: int = 200) -> Fleet:
    """PoP 0 carries 100 of 100; one level up, 40 of them go to PoP 1."""
    return Fleet(capacities=[100, room], users=[NEAR_0, MOVABLE, Users(10, (90, 0))])


def test_a_ramp_with_room_next_door_sheds_one_level_after_three_ticks_and_no_more() -> None:
    fleet = _fleet()
    assert fleet.live(0.0, 3600.0, 5.0) == [(15.0, 0, 0, 1)]
    assert fleet.sessions(fleet.levels) == [60, 50]


def test_a_ramp_without_room_next_door_sheds_nothing_and_says_so() -> None:
    fleet = _fleet(room=55)
    assert not fleet.live(0.0, 3600.0, 5.0)
    choice = fleet.turn(0, 3600.0)
    assert (choice.level, choice.reason, choice.rungs.others) == (0, Reason.NO_ROOM, Announce.NORMAL)


def test_load_comes_back_one_step_at_a_time_later_than_it_went_and_only_when_cool() -> None:
    fleet = _fleet()
    fleet.live(0.0, 600.0, 5.0)
    fleet.users = [replace(NEAR_0, sessions=30), replace(MOVABLE, sessions=20), Users(10, (90, 0))]
    steps = fleet.live(600.0, 3600.0, 5.0)
    assert steps == [(735.0, 0, 1, 0)], "three dwells after the step of second 15"
    assert fleet.sessions(fleet.levels) == [50, 10]


def test_load_that_would_come_back_hot_stays_away() -> None:
    fleet = _fleet()
    fleet.live(0.0, 600.0, 5.0)
    fleet.users = [replace(NEAR_0, sessions=40), MOVABLE, Users(10, (90, 0))]
    assert not fleet.live(600.0, 7200.0, 15.0)
    assert fleet.turn(0, 7200.0).reason is Reason.NOT_COOL_ENOUGH


def test_a_short_peak_starts_nothing() -> None:
    fleet = _fleet()
    hot = fleet.turn(0, 0.0)
    assert (hot.reason, hot.until) == (Reason.HOT, 15.0)
    fleet.users = [replace(NEAR_0, sessions=10), MOVABLE]
    assert fleet.turn(0, 10.0).state == CALM
    fleet.users = [NEAR_0, MOVABLE]
    assert fleet.turn(0, 20.0).until == 35.0


def test_while_a_step_is_unverified_nothing_follows_and_the_others_are_told() -> None:
    fleet = _fleet()
    fleet.live(0.0, 20.0, 5.0)
    fleet.users = [replace(NEAR_0, sessions=300), MOVABLE]
    choice = fleet.turn(0, 100.0)
    assert (choice.level, choice.reason, choice.until) == (1, Reason.SHED_LOAD, 255.0)
    assert choice.state.settling


def test_a_useless_step_is_taken_back_and_its_row_not_believed() -> None:
    fleet = _fleet()
    fleet.users = [NEAR_0, replace(MOVABLE, distances=(0, 10))]
    fleet.live(0.0, 20.0, 5.0)
    # What the playbook said would move comes back by other routes: PoP 0 stays as full as it was.
    fleet.users = [NEAR_0, replace(MOVABLE, distances=(0, 95)), Users(10, (90, 0))]
    steps = fleet.live(20.0, 300.0, 5.0)
    assert steps == [(255.0, 0, 1, 0)]
    choice = fleet.turn(0, 300.0)
    assert choice.state.reason is Reason.ROLLED_BACK
    assert choice.state.distrusted == (Distrust(before=0, after=1, until=255.0 + 480.0, times=1),)
    later = fleet.turn(0, 520.0)
    assert (later.reason, later.until) == (Reason.ROW_NOT_BELIEVED, 735.0)


def test_a_step_that_surprises_its_receiver_is_taken_back() -> None:
    fleet = _fleet(room=100)
    fleet.live(0.0, 20.0, 5.0)
    fleet.users = [replace(NEAR_0, sessions=20), replace(MOVABLE, sessions=60), Users(49, (90, 0))]
    assert fleet.live(20.0, 300.0, 5.0) == [(255.0, 0, 1, 0)]


def test_a_step_that_surprises_its_receiver_is_kept_when_there_is_even_less_room_where_it_came_from() -> None:
    fleet = _fleet(room=100)
    fleet.live(0.0, 20.0, 5.0)
    fleet.users = [replace(NEAR_0, sessions=20), replace(MOVABLE, sessions=99), Users(10, (90, 0))]
    assert fleet.live(20.0, 300.0, 5.0) == []
    choice = fleet.turn(0, 300.0)
    assert (choice.level, choice.state.pending) == (1, None)
    assert choice.state.distrusted == (Distrust(before=0, after=1, until=255.0 + 480.0, times=1),)


def test_demand_that_grows_after_a_step_does_not_make_it_look_useless() -> None:
    fleet = _fleet()
    fleet.live(0.0, 20.0, 5.0)
    fleet.users = [replace(NEAR_0, sessions=NEAR_0.sessions + MOVABLE.sessions), MOVABLE]
    assert fleet.live(20.0, 300.0, 5.0) == [(255.0, 0, 1, 2)]  # not back, but on: it is still hot


def test_a_step_that_nobody_can_verify_is_kept_and_its_row_not_believed() -> None:
    fleet = _fleet()
    fleet.live(0.0, 20.0, 5.0)
    for now, unverified in ((300.0, True), (255.0 + 4 * 240.0, False)):
        inputs = fleet.inputs(0, now)
        blind = replace(inputs, case=replace(inputs.case, fleet=None))
        choice = capacity.choose(fleet.states[0], blind, POLICIES, now)
        assert (choice.level, choice.reason) == (1, Reason.FLEET_VIEW_STALE)
        assert choice.state.settling is unverified
    assert choice.state.distrusted[0].times == 1


def _blind(at_least: float, floor: int, state: LoadState, now: float, *, exact: bool = True) -> capacity.Choice:
    found = Tightness(at_least=at_least, resource=Resource.SESSIONS, missing=None if exact else Reason.STALE)
    case = gate.Case(pop="p0", ladder=LADDER, playbook=None, playbook_age_s=0.0, fleet=None)
    policies = capacity.Policies(load=LoadPolicy(floor=floor))
    return capacity.choose(state, capacity.Inputs(tightness=found, case=case), policies, now)


HOT = replace(CALM, hot_since=0.0)


def test_without_a_playbook_and_with_no_floor_nothing_moves_and_the_reason_says_why() -> None:
    assert _blind(2.0, 0, HOT, 100.0).reason is Reason.NO_PLAYBOOK
    assert _blind(2.0, 0, HOT, 100.0).level == 0


def test_without_a_playbook_the_floor_is_reached_and_never_passed() -> None:
    first = _blind(1.0, 1, HOT, 100.0)
    assert (first.level, first.reason) == (1, Reason.SHED_UNGATED)
    second = _blind(1.0, 1, first.state, 1000.0)
    assert (second.level, second.reason) == (1, Reason.NO_PLAYBOOK)


def test_without_a_playbook_mere_heat_moves_nothing() -> None:
    assert _blind(0.9, 1, HOT, 100.0).level == 0


def test_each_step_without_a_gate_makes_the_next_return_later() -> None:
    state, now, waits = HOT, 0.0, []
    for _ in range(4):
        shed = _blind(1.0, 1, replace(state, hot_since=now), now + 20.0)
        assert shed.level == 1
        now = shed.state.since
        settled = _blind(0.1, 1, shed.state, now + 240.0)
        waits.append(settled.until - now)
        back = _blind(0.1, 1, settled.state, settled.until)
        assert (back.level, back.reason) == (0, Reason.RECOVERED)
        state, now = _blind(0.1, 1, back.state, settled.until + 240.0).state, settled.until + 240.0
    assert waits == [720.0, 1440.0, 2880.0, 3600.0]


def test_a_level_beyond_the_floor_is_kept_when_the_gate_goes_blind() -> None:
    assert _blind(0.0, 1, LoadState(level=2, reason=Reason.SHED_LOAD), 1e6).reason is Reason.NO_PLAYBOOK
    assert _blind(0.0, 1, LoadState(level=2, reason=Reason.SHED_LOAD), 1e6).level == 2


def test_a_level_is_kept_while_the_own_load_is_not_known() -> None:
    choice = _blind(0.0, 1, LoadState(level=1, reason=Reason.SHED_UNGATED), 1e6, exact=False)
    assert (choice.level, choice.reason) == (1, Reason.STALE)


def test_a_step_waits_for_the_fleets_permit_and_says_what_it_would_be() -> None:
    fleet = _fleet()
    hot = replace(CALM, hot_since=0.0)
    inputs = replace(fleet.inputs(0, 20.0), permitted=False)
    choice = capacity.choose(hot, inputs, POLICIES, 20.0)
    assert (choice.level, choice.reason) == (0, Reason.NO_PERMIT)
    assert choice.granted == capacity.choose(hot, replace(inputs, permitted=True), POLICIES, 20.0)
    assert choice.granted.level == 1


def test_a_change_waits_until_flap_damping_allows_it() -> None:
    fleet = _fleet()
    penalties = {65000: damping.Penalty(1400.0, 20.0), 65001: damping.NONE}
    choice = capacity.choose(
        replace(CALM, hot_since=0.0), replace(fleet.inputs(0, 20.0), penalties=penalties), POLICIES, 20.0
    )
    assert (choice.level, choice.reason) == (0, Reason.FLAP_DAMPING)
    assert choice.until == pytest.approx(20.0 + 437.0, abs=1.0)


def test_a_ladder_that_became_shorter_is_stood_on_at_its_end() -> None:
    fleet = _fleet()
    choice = capacity.choose(LoadState(level=9), fleet.inputs(0, 0.0), POLICIES, 0.0)
    assert choice.level == len(LADDER) - 1
