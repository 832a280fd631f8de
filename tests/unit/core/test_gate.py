"""The what-if gate: one test for every reason to say no, and one for yes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from popctl.core import gate, reserve
from popctl.model.capacity import GatePolicy
from popctl.model.load import Amounts, FleetLoad, PopLoad
from popctl.model.playbook import CLOCKS_DIFFER_S, DEFAULT_LADDER, Flow, Playbook, Step, StepKey
from popctl.model.reason import Reason
from tests.fleets import amounts

POLICY = GatePolicy()
NOW = 100.0
LIMITS = amounts(sessions=1000, handshakes=50)


def _pop(sessions: float, *, handshakes: float = 1.0, capacity: Amounts = LIMITS, level: int = 0) -> PopLoad:
    used = amounts(sessions=sessions, handshakes=handshakes)
    return PopLoad(level=level, announcing=level < 3, used=used, peak=used, capacity=capacity, at=NOW)


def _case(pops: Mapping[str, PopLoad], *flows: Flow, before: int = 0, after: int = 1, error: float = 0.0) -> gate.Case:
    key = StepKey("hot", before, after)
    step = Step(key=key, flows=flows or (Flow("hot", "cool", 0.25),), error=error)
    book = Playbook(
        fleet="f",
        created_unix_s=0.0,
        ladders=dict.fromkeys(("hot", "cool", "far"), DEFAULT_LADDER),
        steps={key: (step,)},
    )
    fleet = FleetLoad(fleet="f", pops=pops, at=NOW)
    return gate.Case(pop="hot", ladder=DEFAULT_LADDER, playbook=book, playbook_age_s=0.0, fleet=fleet)


ROOMY = {"hot": _pop(1100), "cool": _pop(300), "far": _pop(100)}


def _verdict(case: gate.Case, before: int = 0, after: int = 1, policy: GatePolicy = POLICY) -> gate.Verdict:
    return gate.judge(case, before, after, policy, NOW)


def test_a_step_that_takes_overload_where_there_is_room_is_accepted_with_its_prediction() -> None:
    verdict = _verdict(_case(ROOMY))
    assert (verdict.accepted, verdict.reason) == (True, Reason.SHED_LOAD)
    assert verdict.phi_before == pytest.approx(150.0)
    assert verdict.phi_after == 0.0
    own, other = verdict.expected
    assert (own.pop, own.sessions_after) == ("hot", 825.0)
    assert (other.pop, other.sessions_after) == ("cool", 575.0)


def test_without_a_playbook_nothing_is_judged() -> None:
    assert _verdict(replace(_case(ROOMY), playbook=None)).reason is Reason.NO_PLAYBOOK


def test_an_old_playbook_is_refused() -> None:
    assert _verdict(replace(_case(ROOMY), playbook_age_s=8 * 86400.0)).reason is Reason.PLAYBOOK_TOO_OLD


def test_a_playbook_from_the_future_is_refused_and_clocks_that_differ_a_little_are_not() -> None:
    assert _verdict(replace(_case(ROOMY), playbook_age_s=-30 * 86400.0)).reason is Reason.PLAYBOOK_FROM_FUTURE
    assert _verdict(replace(_case(ROOMY), playbook_age_s=-CLOCKS_DIFFER_S)).accepted


@pytest.mark.parametrize(
    "change",
    [{"fleet": "g"}, {"ladders": {"hot": DEFAULT_LADDER}}, {"ladders": dict.fromkeys(ROOMY, DEFAULT_LADDER[:2])}],
)
def test_a_playbook_of_another_fleet_or_ladder_is_refused(change: dict[str, object]) -> None:
    case = _case(ROOMY)
    assert case.playbook is not None
    assert _verdict(replace(case, playbook=replace(case.playbook, **change))).reason is Reason.PLAYBOOK_FOREIGN


def test_a_stale_view_is_refused_as_a_whole() -> None:
    case = _case(ROOMY)
    assert case.fleet is not None
    assert _verdict(replace(case, fleet=replace(case.fleet, at=NOW - 10.1))).reason is Reason.FLEET_VIEW_STALE
    assert _verdict(replace(case, fleet=None)).reason is Reason.FLEET_VIEW_STALE


def test_a_view_with_too_few_fresh_pops_is_stale() -> None:
    assert _verdict(_case({**ROOMY, "far": replace(_pop(1), at=0.0)})).reason is Reason.FLEET_VIEW_STALE


def test_a_receiver_that_does_not_tell_a_limited_resource_is_unknown() -> None:
    mute = replace(_pop(300), used=amounts(sessions=300))
    verdict = _verdict(_case({**ROOMY, "cool": mute}))
    assert (verdict.reason, verdict.about) == (Reason.RECEIVER_UNKNOWN, "cool")


def test_a_receiver_whose_own_step_is_not_verified_is_left_alone() -> None:
    settling = replace(_pop(300), settling=True)
    assert _verdict(_case({**ROOMY, "cool": settling})).reason is Reason.NEIGHBOR_SETTLING


def test_a_row_that_assumes_other_levels_is_no_row() -> None:
    assert _verdict(_case({**ROOMY, "cool": _pop(300, level=1)})).reason is Reason.NO_PLAYBOOK_STEP
    assert _verdict(_case(ROOMY), 1, 2).reason is Reason.NO_PLAYBOOK_STEP


def test_a_row_for_the_levels_that_the_others_have_is_used() -> None:
    case = _case({**ROOMY, "cool": _pop(300, level=1)})
    assert case.playbook is not None
    key = StepKey("hot", 0, 1)
    rows = (*case.playbook.steps[key], Step(key=key, flows=(Flow("hot", "cool", 0.2),), when={"cool": 1}))
    assert _verdict(replace(case, playbook=replace(case.playbook, steps={key: rows}))).accepted


def test_a_receiver_may_not_pass_its_watermark() -> None:
    verdict = _verdict(_case({**ROOMY, "cool": _pop(600)}))
    assert (verdict.reason, verdict.about) == (Reason.NO_ROOM, "cool")


def test_a_receivers_peak_counts_not_its_average() -> None:
    peaky = replace(_pop(300), peak=amounts(sessions=600, handshakes=1))
    assert _verdict(_case({**ROOMY, "cool": peaky})).reason is Reason.NO_ROOM


def test_the_error_band_of_a_row_counts_against_it() -> None:
    assert _verdict(_case({**ROOMY, "cool": _pop(500)})).accepted
    assert _verdict(_case({**ROOMY, "cool": _pop(500)}, error=0.5)).reason is Reason.NO_ROOM


def test_heat_without_overload_is_no_reason_to_move_anybody() -> None:
    assert _verdict(_case({**ROOMY, "hot": _pop(900)})).reason is Reason.NO_GAIN


def test_overload_that_becomes_nobodys_service_is_no_gain() -> None:
    assert _verdict(_case(ROOMY, Flow("hot", None, 0.25))).reason is Reason.NO_GAIN


def test_all_that_moves_connects_again_at_once_and_must_find_room_for_its_handshakes() -> None:
    small = _pop(300, capacity=amounts(sessions=1000, handshakes=5))
    assert _verdict(_case({**ROOMY, "cool": small})).reason is Reason.HANDSHAKE_STORM


def test_one_step_moves_no_more_than_it_may() -> None:
    assert _verdict(_case(ROOMY), policy=GatePolicy(moved_sessions_max=200.0)).reason is Reason.MOVES_TOO_MUCH


def _leaving(far: float) -> gate.Case:
    pops = {"hot": _pop(1100, level=2), "cool": _pop(100), "far": _pop(far)}
    return _case(pops, Flow("hot", "cool", 0.5), Flow("hot", "far", 0.5), before=2, after=3)


def test_a_withdraw_must_leave_enough_for_the_demand_and_for_the_loss_of_the_largest() -> None:
    assert _verdict(_leaving(50), 2, 3).reason is Reason.RESERVE


def test_a_withdraw_with_reserve_left_is_accepted() -> None:
    case = _leaving(50)
    assert case.fleet is not None
    assert case.playbook is not None
    pops = {**case.fleet.pops, **{f"more{number}": _pop(10) for number in range(3)}}
    ladders = dict.fromkeys(pops, DEFAULT_LADDER)
    case = replace(case, fleet=replace(case.fleet, pops=pops), playbook=replace(case.playbook, ladders=ladders))
    assert _verdict(case, 2, 3).accepted


def test_pops_that_tell_no_load_make_the_view_stale_and_leave_no_reserve() -> None:
    case = _leaving(50)
    assert case.fleet is not None
    many = replace(case.fleet, silent=frozenset({"mute"}))
    assert _verdict(replace(case, fleet=many), 2, 3).reason is Reason.FLEET_VIEW_STALE
    loose = GatePolicy(fresh_share=0.5, reserve_ratio=0.0)
    assert _verdict(replace(case, fleet=many), 2, 3, loose).reason is Reason.RESERVE


def test_the_last_announcing_pop_never_leaves_for_load() -> None:
    pops = {"hot": _pop(1100, level=2)}
    assert _verdict(_case(pops, Flow("hot", None, 0.1), before=2, after=3), 2, 3).accepted is False


def _back(hot: float, cool: float) -> gate.Verdict:
    pops = {"hot": _pop(hot, level=1), "cool": _pop(cool), "far": _pop(100)}
    return _verdict(_case(pops, Flow("cool", "hot", 0.5), before=1, after=0), 1, 0)


def test_load_is_taken_back_when_there_is_plenty_of_room() -> None:
    assert (_back(300, 500).accepted, _back(300, 500).reason) == (True, Reason.RECOVERED)


def test_load_is_not_taken_back_when_it_would_end_above_the_leave_watermark() -> None:
    assert _back(400, 500).reason is Reason.NOT_COOL_ENOUGH


def test_where_the_playbook_lands_load_on_a_pop_that_announces_nothing_it_is_wrong() -> None:
    silent = replace(_pop(0), announcing=False)
    assert _verdict(_case({**ROOMY, "cool": silent})).reason is Reason.NO_PLAYBOOK_STEP


def test_nobody_leaves_for_load_while_users_wait_somewhere_whom_nobody_counts() -> None:
    """A PoP at the end of its handshakes has more users than sessions: what must stay announced cannot be known."""
    pops = {"hot": _pop(1100, level=2), **{f"cool{number}": _pop(10) for number in range(4)}}
    drowned = pops | {"cool3": _pop(10, handshakes=49.0)}
    assert reserve.stays("hot", FleetLoad(fleet="f", pops=pops, at=NOW), POLICY, NOW)
    assert not reserve.stays("hot", FleetLoad(fleet="f", pops=drowned, at=NOW), POLICY, NOW)


def _worse(pops: Mapping[str, PopLoad]) -> Reason | None:
    """Return why the way back from level 1, which brings half of what the other PoP has, would be worse."""
    case = _case(pops, Flow("cool", "hot", 0.5), before=1, after=0)
    return gate.worse(case, 1, 0, POLICY, NOW)


def test_the_way_back_is_not_worse_if_it_lowers_overload_even_without_room() -> None:
    assert _worse({"hot": _pop(350, level=1), "cool": _pop(1100)}) is None


def test_the_way_back_is_worse_if_more_would_be_overloaded_than_now() -> None:
    assert _worse({"hot": _pop(900, level=1), "cool": _pop(1000)}) is Reason.NO_GAIN


def test_the_way_back_is_worse_if_all_who_moved_cannot_connect_again() -> None:
    busy = _pop(100, handshakes=45.0, level=1)
    assert _worse({"hot": busy, "cool": _pop(1100)}) is Reason.HANDSHAKE_STORM


def test_nothing_is_known_to_be_worse_without_a_row_or_a_fresh_view() -> None:
    pops = {"hot": _pop(900, level=1), "cool": _pop(1000)}
    case = _case(pops, Flow("cool", "hot", 0.5), before=1, after=0)
    assert gate.worse(case, 2, 1, POLICY, NOW) is None
    assert gate.worse(replace(case, fleet=None), 1, 0, POLICY, NOW) is None
    assert gate.worse(case, 1, 0, POLICY, NOW + 1000.0) is None
