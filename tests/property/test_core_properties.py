"""What the core promises for every history, not only for the stories someone thought of."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.agent.events import IntentsChanged
from popctl.core import reconcile
from popctl.core.decide import decide
from popctl.model.desired import Actual
from popctl.model.observation import Intent, IntentKind, Outcome
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.model.view import Phase, View
from tests.pops import TIMING, backend, ike, pop
from tests.timeline.story import Story

OUTCOMES = st.sampled_from(
    [
        (Outcome.PASS, Reason.ANSWERED),
        (Outcome.PASS, Reason.ANSWERED),
        (Outcome.PASS, Reason.ANSWERED),
        (Outcome.FAIL, Reason.TIMED_OUT),
        (Outcome.FAIL, Reason.REFUSED),
        (Outcome.UNKNOWN, Reason.OVERLOADED),
    ]
)
STEPS = st.lists(
    st.tuples(st.floats(0.01, 40.0), st.sampled_from([1, 2]), OUTCOMES, st.integers(1, 6)), min_size=1, max_size=60
)


def live(steps: list[tuple[float, int, tuple[Outcome, Reason], int]]) -> Story:
    """Let runs of equal outcomes happen to the backends, with gaps that are sometimes long enough to go stale."""
    story = Story(pop(backends=(backend(1, ike()), backend(2, ike()))))
    at = 0.0
    for gap, number, (outcome, reason), repeats in steps:
        at += gap
        for again in range(repeats):
            story.probe(at + again * 0.5, number, outcome, reason)
    return story.run_to(at + 100.0)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_an_announce_never_comes_sooner_after_a_fall_than_the_hold_down(
    steps: list[tuple[float, int, tuple[Outcome, Reason], int]],
) -> None:
    story = live(steps)
    for (left_at, left), (came_at, came) in pairwise(story.transitions):
        if left == "withdrawn" and came == "normal" and left_at > 0.0:
            assert came_at - left_at >= max(TIMING.warm_up_s, TIMING.hold_down_s)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_announced_means_that_enough_backends_are_healthy_or_unknown(
    steps: list[tuple[float, int, tuple[Outcome, Reason], int]],
) -> None:
    story = live(steps)
    assert story.decision is not None
    for service in story.decision.desired.services:
        if service.announce is not Announce.WITHDRAWN:
            assert service.healthy + service.unknown >= service.needed


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(0, 59))
def test_an_ordered_withdraw_is_undone_by_no_history(
    steps: list[tuple[float, int, tuple[Outcome, Reason], int]], ordered_after: int
) -> None:
    """Invariant 5: what an operator ordered is not undone by health logic."""
    order = Intent(kind=IntentKind.WITHDRAW, target="vpn", reason="test", owner="tester", created_unix_s=0.0)
    ordered_at = sum(step[0] for step in steps[:ordered_after])
    story = Story(pop(backends=(backend(1, ike()), backend(2, ike()))))
    story.happens(ordered_at, IntentsChanged((order,)))
    at = 0.0
    for gap, number, (outcome, reason), repeats in steps:
        at += gap
        for again in range(repeats):
            story.probe(at + again * 0.5, number, outcome, reason)
    story.run_to(ordered_at)
    before = len(story.transitions)
    story.run_to(max(at, ordered_at) + 100.0)
    assert all(announce == "withdrawn" for _, announce in story.transitions[before:])
    assert story.service(story.now).announce is Announce.WITHDRAWN


@given(st.floats(0, 1e6))
def test_what_was_ordered_is_not_ordered_again(now: float) -> None:
    decision = decide(pop(), View(actual=Actual(connected=True, inherited=True)), now)
    first = reconcile.plan(decision.desired, Actual(inherited=True), reconcile.Ordered())
    assert first == (reconcile.SetRoutes(decision.desired.routes),)
    ordered = reconcile.Ordered().after(first[0])
    assert reconcile.plan(decision.desired, Actual(inherited=True), ordered) == ()


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_moving_the_whole_clock_moves_nothing_else(start: float, shift: float) -> None:
    """Only differences of instants matter, so a reboot or a long uptime changes no decision."""
    view = View(actual=Actual(connected=True, inherited=True))
    here, there = decide(pop(), view, start), decide(pop(), view, start + shift)
    assert [(one.announce, one.reason) for one in here.desired.services] == [
        (one.announce, one.reason) for one in there.desired.services
    ]


def test_a_service_in_start_does_not_move_before_the_inherited_routes_were_read() -> None:
    view = View(actual=Actual(connected=True, inherited=False))
    decision = decide(pop(), view, 1.0)
    assert decision.memory["vpn"].phase is Phase.START
    assert decide(pop(), replace(view, memory=decision.memory), 2.0).memory == decision.memory
