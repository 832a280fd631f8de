"""The schedule on a simulated clock."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from popctl.config.defaults import PROFILES
from popctl.model.instant import NEVER
from popctl.model.observation import Outcome
from popctl.model.probe import HALF_OPEN_S, Cadence, ProbeKey, ProbeSpec, Tcp, Thresholds
from popctl.senses.schedule import Schedule

KEY = ProbeKey(1, "tcp")


def spec(*, interval_s: float = 1.0, jitter: float = 0.0, retry_s: float = 0.2, fall: int = 3) -> ProbeSpec:
    return ProbeSpec(
        name="tcp",
        method=Tcp(port=1),
        cadence=Cadence(interval_s=interval_s, jitter=jitter, timeout_s=0.5, retry_s=retry_s),
        thresholds=Thresholds(rise=3, fall=fall, fall_refused=1, stale_after_s=5.0),
    )


def schedule(*specs: ProbeSpec, now: float = 0.0, seed: int = 1) -> Schedule:
    made = Schedule(rng=Random(seed))
    made.replace({ProbeKey(number, each.name): each for number, each in enumerate(specs, start=1)}, now)
    return made


def start_next(made: Schedule) -> float:
    """Go to the next slot, start what is due, return the time."""
    now = made.next_due()
    assert made.due(now)
    return now


def start(made: Schedule, count: int) -> list[float]:
    """Start `count` probes, whoever is due; return when each of them started."""
    starts: list[float] = []
    while len(starts) < count:
        now = made.next_due()
        starts += [now] * len(made.due(now))
    assert len(starts) == count
    return starts


def test_nothing_to_probe_is_never_due() -> None:
    made = schedule()
    assert made.next_due() == NEVER
    assert made.due(1e9) == []


def test_first_runs_take_equal_shares_of_the_interval() -> None:
    made = schedule(*(spec() for _ in range(100)))
    starts = start(made, 100)
    assert all(index / 100 - 0.1 <= at < (index + 1) / 100 for index, at in enumerate(starts))


def test_neighbours_on_the_schedule_start_together_a_few_at_a_time_early_and_never_late() -> None:
    made = schedule(*(spec(jitter=0.2) for _ in range(100)))
    last: dict[ProbeKey, float] = {}
    wakes = 0
    while (now := made.next_due()) < 20.0:
        begun = made.due(now)
        wakes += 1
        assert 1 <= len(begun) <= 8
        for key in begun:
            assert 0.8 - 0.08 <= now - last.get(key, now - 1.0) <= 1.2 + 0.08
            last[key] = now
            made.finished(key, Outcome.PASS, now)
    assert (len(last), made.missed_total) == (100, 0)
    assert wakes < 100 * 20 / 5


def test_a_run_that_is_still_going_is_not_missed_before_its_time() -> None:
    tried = (schedule(spec(), spec(), seed=seed) for seed in range(100))
    made, began, (one, other) = next(
        (made, now, keys) for made in tried if len(keys := made.due(now := made.next_due())) == 2
    )
    made.finished(one, Outcome.PASS, began)
    assert made.due(began + 1.0) == [one]
    assert made.missed_total == 0
    due = made.next_due()
    assert began + 1.0 < due <= began + 1.1
    made.due(due)
    assert made.missed() == {other: 1}


def test_first_runs_of_slow_probes_come_within_ten_seconds_and_the_second_ones_spread_over_the_interval() -> None:
    made = schedule(*(spec(interval_s=60.0) for _ in range(200)))
    first = start(made, 200)
    for number in range(1, 201):
        made.finished(ProbeKey(number, "tcp"), Outcome.PASS, 10.0)
    second = start(made, 200)
    assert max(first) <= 10.0
    assert min(second) >= 30.0 - 0.1
    assert max(second) - min(second) > 30.0


def test_a_passing_probe_runs_once_per_interval() -> None:
    made = schedule(spec())
    began = start_next(made)
    for number in range(1, 5):
        made.finished(KEY, Outcome.PASS, began + number - 0.9)
        assert start_next(made) == began + number


def test_a_failure_is_checked_again_soon_until_the_verdict_then_at_the_normal_pace() -> None:
    made = schedule(spec(retry_s=0.2, fall=3))
    began = start_next(made)
    made.finished(KEY, Outcome.FAIL, began)
    assert start_next(made) == began + 0.2
    made.finished(KEY, Outcome.FAIL, began + 0.2)
    assert start_next(made) == began + 0.4
    made.finished(KEY, Outcome.FAIL, began + 0.4)
    assert start_next(made) == pytest.approx(began + 1.4)


def test_a_pass_makes_the_next_failure_the_first_again() -> None:
    made = schedule(spec(fall=2))
    for _ in range(3):
        now = start_next(made)
        made.finished(KEY, Outcome.FAIL, now)
        assert made.next_due() == now + 0.2
        now = start_next(made)
        made.finished(KEY, Outcome.PASS, now)
        assert made.next_due() == now + 1.0


def test_unknown_is_neither_hurried_nor_counted() -> None:
    made = schedule(spec(fall=2))
    now = start_next(made)
    made.finished(KEY, Outcome.UNKNOWN, now)
    assert made.next_due() == now + 1.0
    now = start_next(made)
    made.finished(KEY, Outcome.FAIL, now)
    assert made.next_due() == now + 0.2


def test_a_retry_never_comes_later_than_the_normal_slot() -> None:
    made = schedule(spec(retry_s=5.0))
    now = start_next(made)
    made.finished(KEY, Outcome.FAIL, now + 0.5)
    assert made.next_due() == now + 1.0


def test_a_run_that_is_still_going_costs_its_slot_and_is_counted() -> None:
    made = schedule(spec())
    began = start_next(made)
    assert made.due(began + 1.0) == []
    assert made.due(began + 2.0) == []
    made.finished(KEY, Outcome.PASS, began + 2.5)
    assert made.due(began + 3.0) == [KEY]
    assert made.missed() == {KEY: 2}
    assert made.missed_total == 2


def test_slots_lost_to_a_stalled_host_are_counted_and_not_made_up_for() -> None:
    made = schedule(spec())
    began = start_next(made)
    made.finished(KEY, Outcome.PASS, began)
    late = began + 5.5
    assert made.due(late) == [KEY]
    assert made.missed() == {KEY: 4}
    made.finished(KEY, Outcome.PASS, late)
    assert made.next_due() == late + 1.0


def test_a_little_lateness_does_not_shift_the_slots() -> None:
    made = schedule(spec())
    began = start_next(made)
    for number in range(1, 100):
        made.finished(KEY, Outcome.PASS, began + number - 0.5)
        assert made.due(began + number + 0.004) == [KEY]
    assert made.missed_total == 0


def test_probes_of_one_backend_start_apart() -> None:
    made = Schedule(rng=Random(1))
    names = ("ike", "l2tp")
    made.replace({ProbeKey(number, name): replace(spec(), name=name) for number in range(50) for name in names}, 0.0)
    started: dict[ProbeKey, float] = {}
    while len(started) < 100:
        now = made.next_due()
        started.update((key, now) for key in made.due(now))
    assert all(started[ProbeKey(number, "l2tp")] - started[ProbeKey(number, "ike")] > 0.4 for number in range(50))


def test_replacing_disturbs_only_what_changed() -> None:
    made = schedule(spec(), spec())
    kept, changed, added = ProbeKey(1, "tcp"), ProbeKey(2, "tcp"), ProbeKey(3, "tcp")
    began = start_next(made)
    assert start_next(made) >= began
    for key in (kept, changed):
        made.finished(key, Outcome.PASS, began)
    made.replace({kept: spec(), changed: spec(interval_s=2.0), added: spec()}, began + 0.1)
    starts: dict[ProbeKey, float] = {}
    while len(starts) < 3:
        now = made.next_due()
        starts.update((key, now) for key in made.due(now))
    assert starts[kept] == began + 1.0
    assert starts[changed] <= began + 2.1
    assert starts[added] <= began + 1.1


def test_what_was_removed_is_not_started_and_may_still_finish() -> None:
    made = schedule(spec())
    now = start_next(made)
    made.replace({}, now)
    made.finished(KEY, Outcome.FAIL, now)
    assert made.next_due() == NEVER
    assert made.due(now + 10) == []


def test_missed_slots_of_removed_probes_stay_in_the_total() -> None:
    made = schedule(spec())
    began = start_next(made)
    made.due(began + 1.0)
    made.replace({}, began)
    assert (made.missed(), made.missed_total) == ({}, 1)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("outcomes", [(Outcome.FAIL,), (Outcome.PASS, Outcome.FAIL), (Outcome.FAIL, Outcome.UNKNOWN)])
def test_failing_ikev1_authentications_leave_two_half_open_at_most(seed: int, outcomes: tuple[Outcome, ...]) -> None:
    """At the built-in pace, whatever the outcomes: each is forgotten by the gateway after its half-open timeout."""
    pace = PROFILES["default"].deep_v1
    made = schedule(replace(spec(), cadence=pace.cadence, thresholds=pace.thresholds), seed=seed)
    starts: list[float] = []
    for outcome in outcomes * 30:
        starts.append(start_next(made))
        made.finished(KEY, outcome, starts[-1] + 0.02)
    assert min(later - earlier for earlier, later in zip(starts, starts[2:], strict=False)) >= HALF_OPEN_S
