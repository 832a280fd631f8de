"""Planned work on a simulated clock: drain, sessions counted down, the end of the order, restarts, outages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from popctl.agent.events import IntentsChanged
from popctl.agent.journal import Journal
from popctl.agent.replay import replay
from popctl.model.load import LoadSample, Resource
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from tests.pops import TIMING, backend, ike, pop
from tests.timeline.story import Story

NORMAL, SHUTDOWN, WITHDRAWN = Announce.NORMAL, Announce.GRACEFUL_SHUTDOWN, Announce.WITHDRAWN
POP = pop(backends=(backend(1, ike()), backend(2, ike())), timing=replace(TIMING, convergence_s=20.0))


def serving(*, until: float = 400.0) -> Story:
    story = Story(POP)
    for number in (1, 2):
        story.passes(number, begin=0, end=until)
    return story


def order(at: float, *, drain_s: float = 0.0, for_s: float | None = None) -> IntentsChanged:
    intent = Intent(
        kind=IntentKind.WITHDRAW,
        target="vpn",
        reason="router swap",
        owner="amy",
        created_unix_s=at,
        drain_s=drain_s,
        drain_until=at + drain_s if drain_s else 0.0,
    )
    if for_s is not None:
        intent = replace(intent, expires_unix_s=at + for_s, expires=at + for_s)
    return IntentsChanged((intent,))


def sessions(story: Story, number: int, count: float, *, begin: float, end: float) -> None:
    at = begin
    while at < end:
        story.happens(at, LoadSample(backend=number, at=at, used={Resource.SESSIONS: count}))
        at += 2.0


def test_the_end_of_an_order_brings_the_service_back_through_warm_up() -> None:
    story = serving()
    story.happens(30.5, order(30.5, for_s=60.0))
    story.expect(30.5, WITHDRAWN, Reason.OPERATOR_WITHDRAW)
    story.expect(90.4, WITHDRAWN, Reason.OPERATOR_WITHDRAW)
    story.expect(90.5, WITHDRAWN, Reason.WARMING_UP)
    story.expect(100.5, NORMAL, Reason.HEALTHY)


def test_an_order_that_ends_in_the_middle_of_an_outage_announces_nothing() -> None:
    story = serving(until=60.0)
    for number in (1, 2):
        story.refuses(number, begin=60.0, end=200.0)
    story.happens(30.5, order(30.5, for_s=60.0))
    story.expect(91.0, WITHDRAWN, Reason.TOO_FEW_BACKENDS)
    story.run_to(199.0)
    assert [rung for _, rung in story.transitions] == ["withdrawn", "normal", "withdrawn"]


def test_when_the_last_session_has_gone_the_withdraw_does_not_wait_for_the_drain_to_end() -> None:
    story = serving()
    for number in (1, 2):
        sessions(story, number, 40.0, begin=20.0, end=100.0)
        sessions(story, number, 0.0, begin=100.0, end=400.0)
    story.happens(30.5, order(30.5, drain_s=300.0))
    story.expect(31.0, SHUTDOWN, Reason.OPERATOR_DRAIN)
    story.expect(51.0, SHUTDOWN, Reason.SESSIONS_LEAVING)
    story.expect(99.9, SHUTDOWN, Reason.SESSIONS_LEAVING)
    story.expect(101.0, WITHDRAWN, Reason.OPERATOR_WITHDRAW)


def test_a_session_that_has_just_begun_is_waited_for_although_no_average_shows_it_yet() -> None:
    story = serving()
    sessions(story, 1, 0.0, begin=20.0, end=400.0)
    sessions(story, 2, 0.0, begin=20.0, end=49.0)
    sessions(story, 2, 1.0, begin=49.0, end=400.0)
    story.happens(30.5, order(30.5, drain_s=300.0))
    story.expect(51.0, SHUTDOWN, Reason.SESSIONS_LEAVING)
    story.expect(330.4, SHUTDOWN, Reason.SESSIONS_LEAVING)


def test_sessions_that_nobody_counts_are_waited_for_as_long_as_was_ordered() -> None:
    story = serving()
    sessions(story, 1, 0.0, begin=20.0, end=400.0)
    story.happens(30.5, order(30.5, drain_s=300.0))
    story.expect(330.4, SHUTDOWN, Reason.SESSIONS_LEAVING)
    story.expect(330.5, WITHDRAWN, Reason.OPERATOR_WITHDRAW)


def test_a_restart_after_the_last_session_has_gone_does_not_bring_the_service_back_for_the_rest_of_the_drain() -> None:
    story = serving()
    story.happens(0.0, order(0.0, drain_s=300.0))
    story.run_to(290.0)
    assert [rung for _, rung in story.transitions] == ["withdrawn"]


def test_a_drain_that_is_taken_back_before_its_end_is_seen_by_nobody_as_a_withdraw() -> None:
    story = serving()
    story.happens(30.5, order(30.5, drain_s=100.0))
    story.happens(60.5, IntentsChanged(()))
    story.run_to(200.0)
    assert [rung for _, rung in story.transitions] == ["withdrawn", "normal", "graceful-shutdown", "normal"]


def test_an_order_that_is_made_longer_while_it_stands_stays_where_it_has_got_to() -> None:
    story = serving()
    story.happens(30.5, order(30.5, for_s=60.0))
    story.happens(80.0, order(30.5, for_s=200.0))
    story.expect(229.0, WITHDRAWN, Reason.OPERATOR_WITHDRAW)
    story.run_to(260.0)
    assert [rung for _, rung in story.transitions] == ["withdrawn", "normal", "withdrawn", "normal"]


def test_a_journal_with_planned_work_in_it_is_decided_again_the_same(tmp_path: Path) -> None:
    story = serving()
    journal = Journal(
        tmp_path / "journal", world=story.world, config_text="pop: {}", source="test", wall_clock=lambda: 1.7e9
    )
    journal.open(0.0)
    story.sinks.append(journal)
    sessions(story, 1, 3.0, begin=20.0, end=300.0)
    story.happens(30.5, order(30.5, drain_s=50.0, for_s=200.0))
    story.run_to(300.0)
    journal.close()
    with (tmp_path / "journal").open(encoding="utf-8") as lines:
        assert all(turn.identical for turn in replay(lines, lambda _: POP))
