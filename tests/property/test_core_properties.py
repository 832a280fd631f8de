"""What the core promises for every history, not only for the stories someone thought of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

from hypothesis import Phase as Generate
from hypothesis import find, given, settings
from hypothesis import strategies as st

from popctl.agent.events import Event
from popctl.agent.loop import TurnSink
from popctl.core import reconcile
from popctl.core.decide import Decision, decide
from popctl.model.desired import Actual, ServiceDecision
from popctl.model.instant import NEVER
from popctl.model.observation import Outcome
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
Steps: TypeAlias = "list[tuple[float, int, tuple[Outcome, Reason], int]]"

GAPS = st.one_of(st.integers(1, 64 * 3), st.integers(1, 64 * 40)).map(lambda number: number / 64)
"""Parts of a second that floats hold exactly, so that a life can be moved in time without rounding."""
STEPS: st.SearchStrategy[Steps] = st.lists(
    st.tuples(GAPS, st.sampled_from([1, 2]), OUTCOMES, st.integers(1, 6) | st.integers(20, 60)),
    min_size=1,
    max_size=30,
)
EVERY_S = 0.5
AFTERWARDS_S = 100.0
lives = settings(max_examples=300, deadline=None)


class Decisions:
    """Keeps every decision of a life, and when it was made."""

    def __init__(self) -> None:
        self.made: list[tuple[float, ServiceDecision]] = []

    def turn(self, now: float, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - as inherited
        if decision is not None:
            self.made += ((now, service) for service in decision.desired.services)

    def announced(self) -> list[ServiceDecision]:
        return [service for _, service in self.made if service.announce is not Announce.WITHDRAWN]


def live(
    steps: Steps,
    *,
    begin: float = 0.0,
    minimum_healthy: int = 1,
    sinks: Iterable[TurnSink] = (),
    order: float | None = None,
) -> Story:
    """Let runs of equal outcomes happen to the backends, with gaps that are sometimes long enough to go stale.

    `begin` is when the agent connects; `order`, counted from then, is when an operator withdraws the service.
    """
    made = pop(backends=(backend(1, ike()), backend(2, ike())), minimum_healthy=minimum_healthy)
    story = Story(made, connects_at=begin, now=begin, sinks=list(sinks))
    at = begin
    for gap, number, (outcome, reason), repeats in steps:
        at += gap
        for again in range(repeats):
            story.probe(at + again * EVERY_S, number, outcome, reason)
    if order is not None:
        story.orders_withdraw(begin + order)
        at = max(at, begin + order)
    return story.run_to(at + AFTERWARDS_S)


@lives
@given(STEPS, st.sampled_from([1, 2]))
def test_an_announce_never_comes_sooner_after_a_fall_than_the_hold_down(steps: Steps, minimum_healthy: int) -> None:
    story = live(steps, minimum_healthy=minimum_healthy)
    for (left_at, left), (came_at, came) in pairwise(story.transitions):
        if left == "withdrawn" and came == "normal" and left_at > 0.0:
            assert came_at - left_at >= max(TIMING.warm_up_s, TIMING.hold_down_s)


@lives
@given(STEPS, st.sampled_from([1, 2]))
def test_announced_means_that_enough_backends_are_healthy_or_unknown(steps: Steps, minimum_healthy: int) -> None:
    """At every decision of a life: at its end, when nothing has been heard for long, nothing is announced anyway."""
    decisions = Decisions()
    live(steps, minimum_healthy=minimum_healthy, sinks=(decisions,))
    for service in decisions.announced():
        assert service.needed == minimum_healthy
        assert service.healthy + service.unknown >= service.needed


@lives
@given(STEPS, st.sampled_from([1, 2]))
def test_what_is_announced_was_known_to_be_healthy_no_longer_ago_than_the_hold(
    steps: Steps, minimum_healthy: int
) -> None:
    decisions = Decisions()
    live(steps, minimum_healthy=minimum_healthy, sinks=(decisions,))
    known_until, known = -NEVER, False
    for at, service in decisions.made:
        # What was decided last was so until now.
        known, before = service.healthy >= service.needed, known
        known_until = at if known or before else known_until
        if service.announce is not Announce.WITHDRAWN:
            assert at - known_until < TIMING.unknown_hold_s


def falls(steps: Steps) -> bool:
    """Whether a life has all that the properties speak of: an announce, one that is unsure, a fall, and an announce."""
    decisions = Decisions()
    story = live(steps, sinks=(decisions,))
    unsure = any(service.healthy < service.needed for service in decisions.announced())
    return unsure and [announce for _, announce in story.transitions][:4] == ["withdrawn", "normal"] * 2


def test_some_lives_have_what_the_properties_speak_of() -> None:
    """A property that no life ever touches holds for anything."""
    search = settings(max_examples=1000, deadline=None, derandomize=True, database=None, phases=[Generate.generate])
    assert find(STEPS, falls, settings=search)


@lives
@given(STEPS, st.integers(0, 29))
def test_an_ordered_withdraw_is_undone_by_no_history(steps: Steps, ordered_after: int) -> None:
    """Invariant 5: what an operator ordered is not undone by health logic."""
    ordered_at = sum(step[0] for step in steps[:ordered_after])
    decisions = Decisions()
    live(steps, sinks=(decisions,), order=ordered_at)
    assert {service.announce for at, service in decisions.made if at >= ordered_at} == {Announce.WITHDRAWN}


@lives
@given(STEPS, st.integers(0, 29), st.integers(0, 2**24))
def test_moving_the_whole_clock_moves_nothing_else(steps: Steps, ordered_after: int, begin: int) -> None:
    """Only differences of instants matter, so a reboot or a long uptime changes no decision of a whole life."""
    ordered_at = sum(step[0] for step in steps[:ordered_after])
    here, there = (live(steps, begin=moved, order=ordered_at) for moved in (0.0, float(begin)))
    assert [(at + begin, *rest) for at, *rest in here.history] == [tuple(entry) for entry in there.history]
    assert [at + begin for at, _ in here.orders] == [at for at, _ in there.orders]
    assert [routes for _, routes in here.orders] == [routes for _, routes in there.orders]


@given(st.floats(0, 1e6))
def test_what_was_ordered_is_not_ordered_again(now: float) -> None:
    decision = decide(pop(), View(actual=Actual(connected=True, inherited=True)), now)
    first = reconcile.plan(decision.desired, Actual(inherited=True), reconcile.Ordered())
    assert first == (reconcile.SetRoutes(decision.desired.routes),)
    ordered = reconcile.Ordered().after(first[0])
    assert reconcile.plan(decision.desired, Actual(inherited=True), ordered) == ()


def test_a_service_in_start_does_not_move_before_the_inherited_routes_were_read() -> None:
    view = View(actual=Actual(connected=True, inherited=False))
    decision = decide(pop(), view, 1.0)
    assert decision.memory["vpn"].phase is Phase.START
    assert decide(pop(), replace(view, memory=decision.memory), 2.0).memory == decision.memory
