"""What a meter's push does to a PoP: worse at once, better only through probes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from popctl.agent.journal import Journal
from popctl.agent.replay import replay
from popctl.model.load import LoadSample, Resource
from popctl.model.meter import Daemon, DaemonDied, DaemonStarted, DaemonState, MeterLost, Overloaded, Symptom
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.senses.meter_events import MeterEvents
from tests.pops import backend, ike, pop
from tests.timeline.story import Story

NORMAL, WITHDRAWN = Announce.NORMAL, Announce.WITHDRAWN
CHARON = "charon"


def serving() -> Story:
    story = Story(pop(backends=(backend(1),)))
    story.passes(1, begin=0, end=30)
    story.expect(29.5, NORMAL, Reason.HEALTHY)
    return story


def test_the_death_of_the_last_daemon_withdraws_without_waiting_for_a_probe() -> None:
    story = serving()
    story.happens(29.75, DaemonDied(backend=1, daemon=CHARON, at=29.75))
    story.expect(29.75, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_the_death_of_one_of_two_leaves_the_service_announced() -> None:
    story = Story(pop())
    for number in (1, 2):
        story.passes(number, begin=0, end=60)
    story.happens(30.5, DaemonDied(backend=2, daemon=CHARON, at=30.5))
    story.expect(30.5, NORMAL, Reason.HEALTHY)
    assert story.service(30.6).healthy == 1


def test_a_daemon_that_runs_again_is_believed_only_after_a_full_rise_of_its_probes() -> None:
    story = Story(pop(backends=(backend(1), backend(2))))
    story.passes(1, begin=0, end=60)
    story.passes(2, begin=0, end=60)
    story.happens(30.5, DaemonDied(backend=2, daemon=CHARON, at=30.5))
    story.happens(30.6, DaemonStarted(backend=2, daemon=CHARON, at=30.6))
    assert story.service(30.7).healthy == 1, "that it runs says nothing"
    assert story.service(32.5).healthy == 1
    assert story.service(33.0).healthy == 2, "three passes later"


def test_a_restart_while_the_meter_was_not_heard_changes_nothing_if_probes_were_answered_since() -> None:
    story = serving()
    meter = MeterEvents(1, lambda event: story.happens(29.75, event))
    running = Daemon(name=CHARON, state=DaemonState.RUNNING, pid=4, life="1-4")
    meter.daemon(running, 20.0)
    # The connection is back: the daemon runs, but it is another one.
    meter.daemon(replace(running, pid=9, life="5-9"), 29.75)
    story.expect(29.8, NORMAL, Reason.HEALTHY)


def test_a_restart_while_the_meter_was_not_heard_takes_the_backend_down_if_nothing_was_heard_since() -> None:
    story = serving()
    meter = MeterEvents(1, lambda event: story.happens(30.5, event))
    running = Daemon(name=CHARON, state=DaemonState.RUNNING, pid=4, life="1-4")
    meter.daemon(running, 30.4)
    meter.daemon(replace(running, pid=9, life="5-9"), 30.5)
    story.expect(30.6, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_symptoms_and_a_lost_meter_decide_nothing() -> None:
    story = serving()
    story.happens(29.6, Overloaded(backend=1, symptoms=(Symptom.JOBS_QUEUED,), at=29.6))
    story.happens(29.7, MeterLost(backend=1, reason=Reason.REFUSED, at=29.7))
    story.expect(29.8, NORMAL, Reason.HEALTHY)


def test_events_of_backends_that_are_not_configured_are_passed_over() -> None:
    story = serving()
    story.happens(29.6, DaemonDied(backend=9, daemon=CHARON, at=29.6))
    story.happens(29.7, LoadSample(backend=9, at=29.7, used={Resource.SESSIONS: 1.0}))
    story.expect(29.8, NORMAL, Reason.HEALTHY)
    assert not story.world.view().loads


def test_a_journal_with_all_that_a_meter_tells_is_decided_again_the_same(tmp_path: Path) -> None:
    configured = pop(backends=(backend(1, ike()), backend(2, ike())))
    story = Story(configured)
    journal = Journal(
        tmp_path / "journal",
        world=story.world,
        config_text="pop: {}",
        source="test",
        wall_clock=lambda: 1.7e9,
        max_bytes=15_000,
    )
    journal.open(0.0)
    story.sinks.append(journal)
    for number in (1, 2):
        story.passes(number, begin=0, end=60)
        for at in range(1, 60, 2):
            used = {Resource.SESSIONS: at * 1.1, Resource.CPU: 0.3}
            unknown = {Resource.ADDRESSES: Reason.NO_SOURCE}
            story.happens(float(at), LoadSample(backend=number, at=float(at), used=used, unknown=unknown))
    story.happens(20.5, DaemonDied(backend=1, daemon=CHARON, at=20.5))
    story.happens(20.6, DaemonStarted(backend=1, daemon=CHARON, at=20.6))
    story.happens(21.0, Overloaded(backend=2, symptoms=(Symptom.LINK_DROPS,), at=21.0))
    story.happens(22.0, MeterLost(backend=2, reason=Reason.TIMED_OUT, at=22.0, detail="silent"))
    story.happens(40.5, DaemonDied(backend=1, daemon=CHARON, at=40.5))
    story.happens(40.5, DaemonDied(backend=2, daemon=CHARON, at=40.5))
    story.run_to(60.0)
    journal.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 1
    for path in files:
        with path.open(encoding="utf-8") as lines:
            assert all(turn.identical for turn in replay(lines, lambda _: configured))
