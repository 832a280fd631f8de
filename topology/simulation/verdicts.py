"""Whether a run kept what a controller must keep, invariant by invariant.

A fault can break an invariant by itself; then the verdict holds the controller only to not having made it worse: worse
than the frozen baseline, or, where a step must answer, than the same world without the steps that were taken since
something last happened (`topology.simulation.oracle`). The baseline would not do for that: sessions that a step has
moved meet other faults than those that stayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from popctl.core import damping
from popctl.model.capacity import GatePolicy, LoadPolicy
from topology.simulation.oracle import happenings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from topology.simulation.record import Done, Run

_RESERVE: Final = GatePolicy().reserve_ratio
_SETTLE_S: Final = LoadPolicy().dwell_s
_HARM: Final = 0.002
"""Share of the demand that a settled tick may lose more than without the steps,"""
_HARM_IN_TOTAL: Final = 0.0005
"""and that the whole run may: meters are noisy, and what is on its way when a step is judged is not seen."""
_FLIPS_PER_HOUR: Final = 6
_HOUR_S: Final = 3600.0
_QUIET_S: Final = 3600.0
"""A time of constant demand that is shorter may end before flap damping lets the last step pass."""


class Invariant(StrEnum):
    """What is looked at."""

    LAST_POP = "last-pop"
    """At least one PoP announces, unless faults leave none."""
    RESERVE = "reserve"
    """After a step: announced capacity at least 1.2 times the demand and enough without the largest PoP, or no worse
    than without the step."""
    NO_HARM = "no-harm"
    """No more lost than without the steps: in every tick that is not within a dwell of a step, and in total. The total
    leaves out the reconnecting of those whom a step moved less than two dwells before something else happened, and what
    a step did for a dwell that came less than a dwell after."""
    FLIP_BUDGET = "flip-budget"
    """At most six steps of one PoP in any hour, no modelled damping penalty of 1500, and no step in the second half of
    an hour or more of constant demand."""
    CASCADE = "cascade"
    """Until something else happens: no shed by a PoP that another one's unverified step touches, and once a step has
    settled no more PoPs overloaded than without it, unless less is lost."""
    CONSERVATION = "conservation"
    """Loads and unreached sessions add up to the demand exactly, and the incremental state is the recomputed one."""
    RECONNECT_STORM = "reconnect-storm"
    """Within a dwell of a step, until something else happens, no more PoPs than without it are asked for more
    handshakes than they can do, unless fewer sessions wait for one."""
    STALE_DATA = "stale-data"
    """No step with a reading, or a view of the fleet, that is older than two ticks and a half."""
    DETERMINISM = "determinism"
    """A second run has the same digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found about one invariant."""

    invariant: Invariant
    holds: bool | None
    """None: not looked at."""
    text: str


def judge(run: Run, baseline: Run, again: Run | None = None) -> tuple[Finding, ...]:
    """Judge a run that was played for it, by the baseline of its scenario, and by a repetition if there is one."""
    if len(run.frozen) != len(run.ticks):
        raise ValueError("only a run that was played to be judged knows what would have been")
    checks: tuple[tuple[Invariant, Callable[[], tuple[bool | None, str]]], ...] = (
        (Invariant.LAST_POP, lambda: _last_pop(run, baseline)),
        (Invariant.RESERVE, lambda: _reserve(run)),
        (Invariant.NO_HARM, lambda: _no_harm(run, baseline)),
        (Invariant.FLIP_BUDGET, lambda: _flip_budget(run)),
        (Invariant.CASCADE, lambda: _cascade(run)),
        (Invariant.CONSERVATION, lambda: _conservation(run)),
        (Invariant.RECONNECT_STORM, lambda: _storm(run)),
        (Invariant.STALE_DATA, lambda: (run.stale_acts == 0, f"{run.stale_acts} steps on stale data")),
        (Invariant.DETERMINISM, lambda: _determinism(run, again)),
    )
    found = [(invariant, *check()) for invariant, check in checks]
    return tuple(Finding(invariant=invariant, holds=holds, text=text) for invariant, holds, text in found)


def _last_pop(run: Run, baseline: Run) -> tuple[bool, str]:
    pairs = zip(run.ticks, baseline.ticks, strict=True)
    bad = sum(ours.announced_pops == 0 < theirs.announced_pops for ours, theirs in pairs)
    return bad == 0, f"{min(tick.announced_pops for tick in run.ticks)} PoPs announced at least"


def _reserve(run: Run) -> tuple[bool, str]:
    bad = 0
    for ours, theirs in zip(run.ticks, run.frozen, strict=True):
        left = ours.announced_capacity
        kept = left >= _RESERVE * ours.demand and left - ours.largest_announced >= ours.demand
        bad += not kept and left < theirs.announced_capacity
    least = min((tick.announced_capacity / max(tick.demand, 1) for tick in run.ticks), default=0.0)
    return bad == 0, f"announced capacity at least {least:.2f} of the demand; {bad} ticks below what must stay"


def _no_harm(run: Run, baseline: Run) -> tuple[bool, str]:
    steps = [one.at_s for one in run.acts]
    bad, place = 0, 0
    last = float("-inf")
    for ours, theirs in zip(run.ticks, run.frozen, strict=True):
        while place < len(steps) and steps[place] <= ours.at_s:
            last = steps[place]
            place += 1
        settled = ours.at_s > last + _SETTLE_S
        bad += settled and ours.lost > theirs.lost + _HARM * ours.demand
    demand = max(sum(tick.demand for tick in run.ticks), 1)
    more = sum(tick.lost for tick in run.ticks) - sum(tick.lost for tick in run.frozen)
    excused = _overtaken(run) + _unseen(run)
    said = f"lost {100 * run.lost_share:.3f} %, baseline {100 * baseline.lost_share:.3f} %"
    text = f"{said}, for its steps {100 * more / demand:+.3f} %; {bad} settled ticks worse"
    return more - excused <= _HARM_IN_TOTAL * demand and bad == 0, text


def _overtaken(run: Run) -> int:
    """Return how many sessions were moved by steps whose time ended before they could be worth it."""
    ends = [*_disturbances(run), run.scenario.duration_s]
    short = [one.at_s for one in run.acts if min(end for end in ends if end > one.at_s) - one.at_s < 2 * _SETTLE_S]
    return sum(
        max(ours.moved - frozen.moved, 0)
        for ours, frozen in zip(run.ticks, run.frozen, strict=True)
        if any(at < ours.at_s <= at + _SETTLE_S for at in short)
    )


def _unseen(run: Run) -> int:
    """Return what was lost within a dwell of steps that came within a dwell of something else: that was on its way.

    If such a step is not taken back after its dwell, what it does then counts in full.
    """
    disturbed = _disturbances(run)
    early = [one.at_s for one in run.acts if any(at <= one.at_s < at + _SETTLE_S for at in disturbed)]
    return sum(
        max(ours.lost - frozen.lost, 0)
        for ours, frozen in zip(run.ticks, run.frozen, strict=True)
        if any(at < ours.at_s <= at + _SETTLE_S for at in early)
    )


def _flip_budget(run: Run) -> tuple[bool, str]:
    by_pop: dict[str, list[float]] = {}
    for one in run.acts:
        by_pop.setdefault(one.pop, []).append(one.at_s)
    most = max((_densest(times) for times in by_pop.values()), default=0)
    late = _steps_in_quiet(run)
    penalty = run.highest_penalty
    limit = damping.Figures().limit
    holds = most <= _FLIPS_PER_HOUR and not late and (penalty is None or penalty < limit)
    said = "" if penalty is None else f", penalty at most {penalty:.0f}"
    return holds, f"{len(run.acts)} flips, {most} of one PoP in an hour, {late} in steady state{said}"


def _densest(times: Sequence[float]) -> int:
    return max(sum(begin <= at < begin + _HOUR_S for at in times) for begin in times)


def _steps_in_quiet(run: Run) -> int:
    """Count the steps in the second half of every time of constant demand without events."""
    disturbed = _disturbances(run)
    begin, late = 0, 0
    for index in range(1, len(run.ticks) + 1):
        ends = index == len(run.ticks)
        before = run.ticks[index - 1]
        if not ends:
            here = run.ticks[index]
            ends = here.demand != before.demand or any(before.at_s < at <= here.at_s for at in disturbed)
        if not ends:
            continue
        if before.at_s - run.ticks[begin].at_s >= _QUIET_S:
            late += sum(tick.acts for tick in run.ticks[begin + (index - begin) // 2 : index])
        begin = index
    return late


def _cascade(run: Run) -> tuple[bool, str]:
    deepest = _depth(run.acts, _disturbances(run))
    more = 0
    pairs = list(zip(run.ticks, run.frozen, strict=True))
    for begin_s, end_s in _settled_spans(run):
        more += sum(
            ours.overloaded > theirs.overloaded and ours.lost >= theirs.lost
            for ours, theirs in pairs
            if begin_s + _SETTLE_S < ours.at_s < end_s
        )
    return (
        deepest <= 1 and not more,
        f"depth {deepest}; {more} settled ticks with more PoPs overloaded than without them",
    )


def _disturbances(run: Run) -> list[float]:
    """Return when something else than a step changed the world: what comes after is not the doing of a step before."""
    return sorted({*happenings(run.scenario), *(one.at_s for one in run.health)})


def _settled_spans(run: Run) -> list[tuple[float, float]]:
    """Return, for every step, from when until when what happens is its doing: up to the next step or disturbance."""
    ends = sorted([*_disturbances(run), *(one.at_s for one in run.acts), float("inf")])
    return [(one.at_s, next(end for end in ends if end > one.at_s)) for one in run.acts]


def _depth(acts: Sequence[Done], disturbances: Sequence[float]) -> int:
    """Return the longest chain of sheds in which each was by a PoP that the one before sent load to, unverified.

    If something else happened between two, the later one may be its doing.
    """
    sheds = [one for one in acts if one.after > one.before]
    depth: list[int] = []
    for index, one in enumerate(sheds):
        earlier = (
            depth[other]
            for other in range(index)
            if one.at_s < sheds[other].at_s + _SETTLE_S
            and one.pop in sheds[other].touched
            and one.pop != sheds[other].pop
            and not any(sheds[other].at_s < at <= one.at_s for at in disturbances)
        )
        depth.append(1 + max(earlier, default=0))
    return max(depth, default=0)


def _conservation(run: Run) -> tuple[bool, str]:
    bad = sum(not tick.conserved for tick in run.ticks)
    exact = "the incremental state is the recomputed one" if run.exact else "the incremental state is wrong"
    return bad == 0 and run.exact, f"{bad} ticks do not add up; {exact}"


def _storm(run: Run) -> tuple[bool, str]:
    pairs = list(zip(run.ticks, run.frozen, strict=True))
    bad = 0
    for begin_s, end_s in _settled_spans(run):
        due_s = min(end_s, begin_s + _SETTLE_S)
        span = [(ours, theirs) for ours, theirs in pairs if begin_s < ours.at_s < due_s]
        # To move sessions from a PoP that drowns in handshakes to one that drowns less is a relief.
        bad += sum(ours.storm_pops > theirs.storm_pops and ours.waiting > theirs.waiting for ours, theirs in span)
    return bad == 0, f"{bad} ticks after steps with more PoPs short of handshakes than without them"


def _determinism(run: Run, again: Run | None) -> tuple[bool | None, str]:
    if again is None:
        return None, f"digest {run.digest}; not run twice"
    return run.digest == again.digest, f"digest {run.digest}, again {again.digest}"
