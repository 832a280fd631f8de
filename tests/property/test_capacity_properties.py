"""Steering by load, for any fleet: it ends, it harms nobody, it starts from nothing that is unknown."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.core import capacity, damping, gate
from popctl.core.load import tightness
from popctl.model.capacity import CALM, GatePolicy, LoadPolicy
from popctl.model.load import Resource
from tests.fleets import ASN, LADDER, Fleet, Users

HOUR_S = 3600.0


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Fleets of two to five PoPs, hot in places."""
    pops = draw(st.integers(2, 5))
    distances = st.tuples(*[st.integers(0, 100)] * pops)
    users = draw(st.lists(st.builds(Users, st.integers(1, 100), distances), min_size=3, max_size=14))
    total = sum(place.sessions for place in users)
    capacities = draw(st.lists(st.integers(max(1, total // 8), total), min_size=pops, max_size=pops))
    return Fleet(capacities=capacities, users=users)


def _order(fleet: Fleet) -> tuple[float, int]:
    return fleet.phi(fleet.levels), sum(fleet.levels)


@settings(max_examples=50, deadline=None)
@given(fleet=fleets())
def test_with_a_right_playbook_every_step_lowers_overload_or_else_the_levels_and_so_it_ends(fleet: Fleet) -> None:
    """The termination proof, checked step by step: (Phi, sum of levels) falls lexicographically."""
    policy = fleet.policies.gate
    first = fleet.phi(fleet.levels)
    steps = 0
    now = 0.0
    while now < 6 * HOUR_S:
        for pop in range(len(fleet.capacities)):
            phi, levels = _order(fleet)
            level = fleet.states[pop].level
            fleet.turn(pop, now)
            if fleet.states[pop].level == level:
                continue
            steps += 1
            after = _order(fleet)
            assert after < (phi, levels)
            if fleet.states[pop].level > level:
                assert phi - after[0] >= policy.minimum_gain_sessions - 1e-6
            else:
                assert after[0] <= phi + 1e-6
        now += 120.0
    assert steps <= first / policy.minimum_gain_sessions + len(fleet.capacities) * len(LADDER)
    assert not fleet.live(now, now + HOUR_S, 120.0), "constant demand must come to rest"


@settings(max_examples=40, deadline=None)
@given(fleet=fleets())
def test_no_step_takes_a_pop_past_its_watermark_or_loses_users(fleet: Fleet) -> None:
    for tick in range(60):
        for pop in range(len(fleet.capacities)):
            before = fleet.sessions(fleet.levels)
            level = fleet.states[pop].level
            fleet.turn(pop, tick * 120.0)
            if fleet.states[pop].level == level:
                continue
            after = fleet.sessions(fleet.levels)
            assert sum(after) == sum(before)
            for old, new, limit in zip(before, after, fleet.capacities, strict=True):
                assert new <= old or new <= fleet.policies.gate.watermark * limit + 1e-6


@settings(max_examples=30, deadline=None)
@given(fleet=fleets(), wrong_by=st.floats(0.0, 3.0), surges=st.lists(st.integers(1, 400), min_size=4, max_size=4))
def test_whatever_the_demand_and_the_playbook_neighbours_never_keep_a_penalty_of_1500(
    fleet: Fleet, wrong_by: float, surges: list[int]
) -> None:
    fleet.wrong_by = wrong_by
    for hour, surge in enumerate(surges):
        fleet.users = [replace(place, sessions=max(1, place.sessions * surge // 100)) for place in fleet.users]
        fleet.live(hour * HOUR_S, (hour + 1) * HOUR_S, 120.0)
    assert fleet.highest < damping.Figures().limit


@settings(max_examples=20, deadline=None)
@given(fleet=fleets(), wrong_by=st.floats(0.0, 3.0))
def test_a_wrong_playbook_is_tried_ever_more_rarely(fleet: Fleet, wrong_by: float) -> None:
    """Constant demand: at most four changes per PoP and hour, and fewer in the end than an oscillation would take."""
    fleet.wrong_by = wrong_by
    fleet.live(0.0, 6 * HOUR_S, 120.0)
    late = fleet.live(6 * HOUR_S, 9 * HOUR_S, 120.0)
    for pop in range(len(fleet.capacities)):
        assert sum(step[1] == pop for step in late) <= 3 * 4


@settings(max_examples=100, deadline=None)
@given(fleet=fleets(), age=st.floats(10.5, 1e6), hot_for=st.floats(0.0, HOUR_S))
def test_a_stale_view_never_starts_a_step(fleet: Fleet, age: float, hot_for: float) -> None:
    for pop, state in enumerate(fleet.states):
        now = 1e7
        inputs = fleet.inputs(pop, now)
        assert inputs.case.fleet is not None
        inputs = replace(inputs, case=replace(inputs.case, fleet=replace(inputs.case.fleet, at=now - age)))
        for level in range(len(LADDER)):
            told = replace(state, level=level, since=0.0, hot_since=now - hot_for)
            assert capacity.choose(told, inputs, fleet.policies, now).level == level


@settings(max_examples=100, deadline=None)
@given(fleet=fleets(), stale=st.integers(0, 4))
def test_a_step_never_touches_a_pop_whose_load_is_not_known(fleet: Fleet, stale: int) -> None:
    stale %= len(fleet.capacities)
    now = 1e6
    policies = replace(fleet.policies, gate=GatePolicy(fresh_share=0.0))
    for pop in range(len(fleet.capacities)):
        inputs = fleet.inputs(pop, now)
        book, view = inputs.case.playbook, inputs.case.fleet
        assert book is not None
        assert view is not None
        pops = dict(view.pops)
        pops[f"p{stale}"] = replace(pops[f"p{stale}"], at=now - 60.0)
        case = replace(inputs.case, fleet=replace(view, pops=pops))
        hot = replace(fleet.states[pop], hot_since=0.0)
        choice = capacity.choose(hot, replace(inputs, case=case), policies, now)
        if choice.level != hot.level:
            touched = next(iter(book.steps.values()))[0].touched
            assert f"p{stale}" not in touched


@given(used=st.floats(0.0, 2.0), capacity_of_pool=st.floats(0.1, 10.0), known=st.booleans(), since=st.floats(0.0, 1e5))
def test_below_the_watermark_an_unknown_resource_starts_nothing(
    *, used: float, capacity_of_pool: float, known: bool, since: float
) -> None:
    """What is not known is neither heat nor room: no step up, no step down."""
    limits = {Resource.SESSIONS: 1.0, Resource.ADDRESSES: capacity_of_pool}
    told = {Resource.SESSIONS: used, **({Resource.ADDRESSES: 0.0} if known else {})}
    found = tightness(told, limits, {})
    assert found.exact is known
    case = gate.Case(pop="p0", ladder=LADDER, playbook=None, playbook_age_s=0.0, fleet=None)
    policies = capacity.Policies(load=LoadPolicy(floor=1))
    state = replace(CALM, level=1, since=0.0)
    choice = capacity.choose(state, capacity.Inputs(tightness=found, case=case), policies, 1e4 + since)
    if not known:
        assert choice.level == 1


@given(changes=st.lists(st.tuples(st.floats(0.1, 2000.0), st.sampled_from([500.0, 1000.0])), min_size=1, max_size=30))
def test_changes_made_only_when_allowed_keep_the_penalty_below_the_limit(changes: list[tuple[float, float]]) -> None:
    figures = damping.Figures()
    penalty, now = damping.NONE, 0.0
    for gap_s, amount in changes:
        now = damping.allowed_from(penalty, amount, now + gap_s, figures)
        penalty = damping.charge(penalty, amount, now, figures)
        assert penalty.value < figures.limit


def test_the_steps_of_the_oracle_fleet_are_charged_per_neighbour() -> None:
    fleet = Fleet(capacities=[50, 200], users=[Users(60, (0, 10)), Users(20, (5, 30))])
    fleet.live(0.0, HOUR_S)
    assert fleet.highest == 500.0
    assert fleet.inputs(0, HOUR_S).penalties[ASN].value == 500.0
