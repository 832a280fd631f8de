"""What a meter's push does to a PoP: worse at once, better only through probes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from popctl.agent.events import FleetChanged
from popctl.agent.journal import Journal
from popctl.agent.replay import replay
from popctl.model.capacity import LoadSettings
from popctl.model.fleet import FleetView, Permit, PermitState
from popctl.model.floor import FleetSettings
from popctl.model.load import LoadSample, Resource
from popctl.model.meter import (
    Daemon,
    DaemonDied,
    DaemonStarted,
    DaemonState,
    MeterLost,
    Overloaded,
    Symptom,
)
from popctl.model.observation import Outcome
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.senses.meter_events import MeterEvents
from tests.fleet_agents import SERVICE, member
from tests.pops import backend, ike, pop
from tests.timeline.story import Story
from tests.unit.senses.test_meter import EMPTY

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


def alone_with_a_permit() -> Story:
    """A PoP that took a permit ahead of need and then lost the store: it may leave if it is certain, and only then."""
    settings = FleetSettings(name="test", region="eu", endpoints=("http://192.0.2.5:2379",))
    story = Story(replace(pop(backends=(backend(1, ike()), backend(2, ike()))), name="ams", fleet=settings))
    permit = Permit(service=SERVICE, state=PermitState.HELD, since=20.0)
    others = {name: replace(member(name), heard_at=95.0) for name in ("fra", "lon", "par")}
    view = FleetView(members=others, connected=False, current_at=95.0, permits={SERVICE: permit}, problem="no answer")
    story.happens(95.0, FleetChanged(view))
    return story


def test_our_own_trouble_does_not_make_a_refusal_uncertain() -> None:
    story = alone_with_a_permit()
    story.passes(1, begin=0.1, end=100)
    story.refuses(1, begin=100, end=104)
    for at in range(104, 112):
        story.probe(at + 0.05, 1, Outcome.UNKNOWN, Reason.OVERLOADED)
    story.passes(2, begin=0.1, end=106)
    story.refuses(2, begin=106, end=112)
    story.expect(106.1, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_a_death_makes_certain_what_probes_had_only_not_heard_of() -> None:
    story = alone_with_a_permit()
    for number in (1, 2):
        story.passes(number, begin=0.1, end=100)
        story.hangs(number, begin=100, end=130, every=2.0)
    held = story.service(116.2)
    assert held.held, "nothing but silence, and nobody can be asked"
    for number in (1, 2):
        story.happens(116.3, DaemonDied(backend=number, daemon=CHARON, at=116.3))
    story.expect(116.3, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_a_probe_that_timed_out_since_does_not_know_better_than_the_kernel() -> None:
    """The news is told once: it may come a moment after a probe that ran into the death."""
    story = alone_with_a_permit()
    story.passes(1, begin=0.1, end=100)
    story.hangs(1, begin=101, end=130)
    story.happens(101.2, DaemonDied(backend=1, daemon=CHARON, at=100.9))
    story.passes(2, begin=0.1, end=110)
    story.refuses(2, begin=110, end=130)
    story.expect(110.1, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


@pytest.mark.parametrize("silent_s", [0.0, 10.0])
def test_old_news_of_a_daemon_that_answered_since_makes_nothing_certain(silent_s: float) -> None:
    """Also if nothing was heard for so long meanwhile that what was believed went stale."""
    story = alone_with_a_permit()
    story.passes(1, begin=0.1, end=100)
    story.hangs(1, begin=100 + silent_s, end=130)
    story.happens(115.5, DaemonDied(backend=1, daemon=CHARON, at=90.0))
    story.passes(2, begin=0.1, end=110)
    story.refuses(2, begin=110, end=130)
    assert story.service(120.0).held


def test_what_the_kernel_said_stands_until_a_probe_is_answered() -> None:
    """Probes of a dead daemon go on to time out; that says no less than the kernel did."""
    story = alone_with_a_permit()
    story.passes(1, begin=0.1, end=100)
    story.happens(100.3, DaemonDied(backend=1, daemon=CHARON, at=100.3))
    story.hangs(1, begin=101, end=130)
    story.passes(2, begin=0.1, end=110)
    story.refuses(2, begin=110, end=130)
    story.expect(110.1, WITHDRAWN, Reason.TOO_FEW_BACKENDS)


def test_a_daemon_that_answered_after_its_death_is_not_known_to_be_dead() -> None:
    story = alone_with_a_permit()
    story.passes(1, begin=0.1, end=100)
    story.happens(100.3, DaemonDied(backend=1, daemon=CHARON, at=100.3))
    story.passes(1, begin=101, end=102)
    story.hangs(1, begin=102, end=130)
    story.passes(2, begin=0.1, end=110)
    story.refuses(2, begin=110, end=130)
    assert story.service(120.0).held


def test_symptoms_and_a_lost_meter_take_no_backend_down() -> None:
    story = serving()
    story.happens(29.6, Overloaded(backend=1, symptoms=(Symptom.JOBS_QUEUED,), at=29.6))
    story.happens(29.7, MeterLost(backend=1, reason=Reason.REFUSED, at=29.7))
    story.expect(29.8, NORMAL, Reason.HEALTHY)


def test_overload_that_is_pushed_makes_the_agent_look_at_its_load_at_once() -> None:
    limits = {Resource.SESSIONS: 100.0}
    carrying = pop(backends=(replace(backend(1), capacity=limits),))
    story = Story(replace(carrying, load=LoadSettings(services=frozenset({SERVICE}))))
    story.passes(1, begin=0, end=60)
    events = MeterEvents(1, lambda event: story.happens(event.at, event))
    calm = replace(EMPTY, used={Resource.SESSIONS: 10.0})
    for at in range(20, 41, 2):
        events.measured(calm, float(at))
    story.run_to(40.5)
    looked_at = story.world.view().looked_at
    full = replace(calm, used={Resource.SESSIONS: 99.0}, symptoms=(Symptom.NO_IDLE_WORKER,))
    events.measured(full, 40.75)
    story.run_to(40.75)
    assert looked_at < 40.75
    assert story.world.view().looked_at == 40.75
    assert story.world.view().loads[1].symptoms == (Symptom.NO_IDLE_WORKER,)


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
