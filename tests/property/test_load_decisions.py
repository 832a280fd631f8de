"""Whatever load does, what it does to announcements keeps its bounds: whole PoPs, alone and in fleets."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popctl.model.announce import Announce
from popctl.model.capacity import LoadPolicy, Policies
from popctl.model.reason import Reason
from tests.timeline.load_story import POLICIES, LoadFleet, Users, measure, steered, two_backends
from tests.timeline.story import Story

END_S = 90.0
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

looks = st.lists(
    st.tuples(st.floats(0.3, 6.0), st.none() | st.floats(0.0, 200.0)),
    min_size=5,
    max_size=40,
)
"""How long until the next sample, and how many sessions it tells; None: the meters are silent."""


def _policies(floor: int) -> Policies:
    load = LoadPolicy(floor=floor, hot_for_s=2.0, dwell_s=4.0, restore_dwells=2.0, backoff_s=4.0, backoff_max_s=20.0)
    return Policies(load=load, gate=POLICIES.gate)


@SLOW
@given(floor=st.integers(0, 2), samples=looks)
def test_without_a_gate_load_never_passes_the_floor_never_withdraws_and_takes_one_step_at_a_time(
    floor: int, samples: list[tuple[float, float | None]]
) -> None:
    policies = _policies(floor)
    story = Story(steered(two_backends(), policies=policies))
    for number in (1, 2):
        story.passes(number, begin=0.0, end=END_S * 3)
    story.run_to(13.0)
    level, stepped_at = 0, -1000.0
    for gap_s, sessions in samples:
        at = story.now + gap_s
        if sessions is not None:
            measure(story, sessions, at)
        story.run_to(at)
        state = story.world.view().load_state
        assert abs(state.level - level) <= 1
        assert state.level <= floor
        assert story.service(at).announce is not Announce.WITHDRAWN
        if state.level != level:
            wait_s = policies.load.dwell_s * (policies.load.restore_dwells if state.level < level else 1.0)
            assert state.since - stepped_at >= wait_s - 1e-6
            level, stepped_at = state.level, state.since


@SLOW
@given(samples=looks)
def test_silence_of_the_meters_moves_nothing(samples: list[tuple[float, float | None]]) -> None:
    story = Story(steered(two_backends(), policies=_policies(2)))
    for number in (1, 2):
        story.passes(number, begin=0.0, end=END_S * 3)
    story.run_to(13.0)
    heard_at = -1000.0
    for gap_s, sessions in samples:
        at = story.now + gap_s
        before = story.world.view().load_state
        if sessions is not None:
            measure(story, sessions, at)
            heard_at = at
        story.run_to(at)
        after = story.world.view().load_state
        if after.level > before.level:
            assert after.since <= heard_at + story.pop.load_timing.stale_after_s


places = st.builds(
    lambda sessions, distances: Users(float(sessions), dict(zip("abc", map(float, distances), strict=True))),
    st.integers(20, 80),
    st.tuples(*[st.integers(0, 120)] * 3),
)


@SLOW
@given(
    capacities=st.tuples(*[st.integers(60, 200)] * 3),
    users=st.lists(places, min_size=3, max_size=7),
    deaf=st.sampled_from((frozenset[str](), frozenset("a"), frozenset("b"))),
)
def test_steering_by_load_never_leaves_a_fleet_worse_off_than_doing_nothing(
    capacities: tuple[int, int, int], users: list[Users], deaf: frozenset[str]
) -> None:
    """Lost is what is above capacity, and who reaches no PoP. The playbook is right while the others are normal."""
    names = ("a", "b", "c")
    rooms = dict(zip(names, map(float, capacities), strict=True))
    fleet = LoadFleet(names, capacities=rooms, users=users, deaf=deaf)
    fleet.healthy(begin=0.0, end=END_S)
    fleet.run_to(13.0)
    without = fleet.lost()
    fleet.watched = True
    fleet.run_to(40.0)
    assert fleet.least_announcing >= 1
    assert fleet.most_lost <= without + 1.0
    assert all(name not in deaf for _, name, level, reason in fleet.steps if level and reason is Reason.SHED_LOAD)
