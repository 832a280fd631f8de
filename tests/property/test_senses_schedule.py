"""What holds for every schedule and every pattern of lateness, outcomes and room."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.model.observation import Outcome
from popctl.model.probe import Cadence, ProbeKey, ProbeSpec, Tcp, Thresholds
from popctl.senses.admission import Admission, Pool, Ticket
from popctl.senses.schedule import Schedule

TICK_S = 0.005

cadences = st.builds(
    Cadence,
    interval_s=st.sampled_from((0.5, 1.0, 3.0, 30.0)),
    jitter=st.sampled_from((0.0, 0.1, 0.3, 0.5)),
    timeout_s=st.just(0.4),
    retry_s=st.sampled_from((0.1, 0.25)),
)
specs = st.builds(
    ProbeSpec,
    name=st.just("tcp"),
    method=st.just(Tcp(port=1)),
    cadence=cadences,
    thresholds=st.builds(
        Thresholds, rise=st.just(3), fall=st.integers(1, 4), fall_refused=st.just(1), stale_after_s=st.just(9.0)
    ),
)


def early_s(wanted: list[ProbeSpec]) -> float:
    """Return by how much a run may start before its time: a tenth of the shortest wait, and no more than 0.1 s."""
    return min(0.1, *(0.1 * spec.cadence.interval_s * (1 - spec.cadence.jitter) for spec in wanted))


def simulate(
    wanted: dict[ProbeKey, ProbeSpec], *, seed: int, run_s: float, until: float, outcome: Outcome
) -> tuple[Schedule, dict[ProbeKey, list[float]]]:
    """Let every run take `run_s` and end as `outcome`; wake up at the next slot, at most once per tick."""
    schedule = Schedule(rng=Random(seed))
    schedule.replace(wanted, 0.0)
    starts: dict[ProbeKey, list[float]] = {key: [] for key in wanted}
    running: list[tuple[float, ProbeKey]] = []
    now = 0.0
    while now < until:
        ends = [at for at, _ in running]
        now = max(now + TICK_S, min(schedule.next_due(), *ends) if ends else schedule.next_due())
        for at, key in [each for each in running if each[0] <= now]:
            running.remove((at, key))
            schedule.finished(key, outcome, now)
        for key in schedule.due(now):
            assert all(key != busy for _, busy in running), "two runs of one probe at a time"
            starts[key].append(now)
            running.append((now + run_s, key))
    return schedule, starts


@settings(max_examples=60, deadline=None)
@given(st.lists(specs, min_size=1, max_size=12), st.integers(0, 2**32), st.sampled_from((0.0, 0.05, 0.4)))
def test_every_probe_keeps_its_pace_within_the_jitter(wanted: list[ProbeSpec], seed: int, run_s: float) -> None:
    probes = {ProbeKey(number, "tcp"): spec for number, spec in enumerate(wanted)}
    schedule, starts = simulate(probes, seed=seed, run_s=run_s, until=70.0, outcome=Outcome.PASS)
    for key, spec in probes.items():
        cadence = spec.cadence
        gaps = [later - earlier for earlier, later in pairwise(starts[key])]
        slow = cadence.interval_s > 10.0
        assert starts[key][0] <= min(cadence.interval_s, 10.0) + TICK_S
        if slow:
            assert gaps.pop(0) >= cadence.interval_s * (1 - cadence.jitter) / 2 - TICK_S - early_s(wanted)
        blocked = schedule.missed().get(key, 0)
        moved_s = TICK_S + early_s(wanted)
        longest = cadence.interval_s * (1 + cadence.jitter) * (1 + blocked) + moved_s
        assert all(cadence.interval_s * (1 - cadence.jitter) - moved_s <= gap + 1e-9 for gap in gaps)
        assert all(gap <= longest + 1e-9 for gap in gaps)


@settings(max_examples=40, deadline=None)
@given(st.lists(specs, min_size=1, max_size=8), st.integers(0, 2**32))
def test_a_dead_backend_is_asked_at_the_normal_pace_after_the_verdict(wanted: list[ProbeSpec], seed: int) -> None:
    probes = {ProbeKey(number, "tcp"): spec for number, spec in enumerate(wanted)}
    _, starts = simulate(probes, seed=seed, run_s=0.02, until=70.0, outcome=Outcome.FAIL)
    for key, spec in probes.items():
        cadence, fall = spec.cadence, spec.thresholds.fall
        gaps = [later - earlier for earlier, later in pairwise(starts[key])]
        retries, normal = gaps[: fall - 1], gaps[fall - 1 :]
        assert all(gap <= 0.02 + cadence.retry_s * (1 + cadence.jitter) + 2 * TICK_S + 1e-9 for gap in retries)
        first_is_early = fall == 1 and cadence.interval_s > 10.0
        shortest = cadence.interval_s * (1 - cadence.jitter) - TICK_S - early_s(wanted)
        assert all(gap >= shortest - 1e-9 for gap in normal[first_is_early:])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.sampled_from((0.0, 0.2)),
    st.lists(st.floats(0.0, 7.0), min_size=1, max_size=30),
    st.integers(0, 2**32),
)
def test_a_stalling_host_never_makes_runs_come_close_and_counts_what_it_missed(
    count: int, jitter: float, stalls: list[float], seed: int
) -> None:
    spec = ProbeSpec(
        name="tcp",
        method=Tcp(port=1),
        cadence=Cadence(interval_s=1.0, jitter=jitter, timeout_s=0.4, retry_s=0.2),
        thresholds=Thresholds(rise=1, fall=1, fall_refused=1, stale_after_s=9.0),
    )
    schedule = Schedule(rng=Random(seed))
    schedule.replace({ProbeKey(number, "tcp"): spec for number in range(count)}, 0.0)
    last: dict[ProbeKey, float] = {}
    runs = 0
    now = 0.0
    for stall in stalls:
        now = schedule.next_due() + stall
        ready = schedule.due(now)
        assert len(ready) == len(set(ready)), "a probe is due twice at one time"
        for key in ready:
            assert now - last.get(key, -9.0) >= (0.75 - 0.1) * (1 - jitter) - 1e-9
            last[key] = now
            runs += 1
            schedule.finished(key, Outcome.PASS, now)
    slots_at_most = count * (now / (1 - jitter) + 1)
    assert runs + schedule.missed_total <= slots_at_most
    assert schedule.next_due() <= now + (1 + jitter)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("enter"), st.integers(0, 3)),
            st.tuples(st.just("leave"), st.integers(0, 30)),
            st.tuples(st.just("pass time"), st.integers(0, 3)),
        ),
        max_size=80,
    )
)
def test_no_limit_is_ever_exceeded_and_nobody_is_lost(steps: list[tuple[str, int]]) -> None:
    admission = Admission(wait_s=2.0)
    total = Pool("all", 5)
    inside: list[Ticket] = []
    entered = left = late = 0
    now = 0.0
    for what, number in steps:
        if what == "enter":
            entered += 1
            admission.enter(ProbeKey(number, "ike"), (Pool(f"gateway {number}", 2), total), now)
        elif what == "leave" and inside:
            admission.leave(inside.pop(number % len(inside)))
            left += 1
        elif what == "pass time":
            now += number
            late += len(admission.expired(now))
        while (ticket := admission.admitted()) is not None:
            inside.append(ticket)
        gateways = [ticket.key.backend for ticket in inside]
        assert len(inside) <= total.limit
        assert all(gateways.count(each) <= 2 for each in gateways)
        assert admission.in_flight == len(inside)
        assert entered == len(inside) + left + late + admission.waiting
        if admission.waiting and len(inside) < total.limit:
            assert any(gateways.count(each) == 2 for each in gateways), "somebody waits beside free places"
