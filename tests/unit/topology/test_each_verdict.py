"""Every invariant by itself: runs made by hand, each broken in one way, and what comes nearest to that and is not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from popctl.core import damping
from popctl.model.capacity import LoadPolicy
from tests.unit.topology.ticks import WELL
from topology.scenario import Event, EventKind, Internet, Scenario, Sites
from topology.simulation.record import Done, Run
from topology.simulation.verdicts import Invariant, judge

TICK_S = 60.0
DWELL_S = LoadPolicy().dwell_s
LIMIT = damping.Figures().limit
TWO_HOURS = Scenario(
    name="by hand", seed=1, duration_s=7200.0, tick_s=TICK_S, internet=Internet(ases=400), sites=Sites(pops=8)
)

Changes = dict[float, dict[str, Any]]


def step(at_s: float, pop: str = "a", *, touched: tuple[str, ...] = (), back: bool = False) -> Done:
    levels = (1, 0) if back else (0, 1)
    return Done(
        at_s=at_s, pop=pop, before=levels[0], after=levels[1], reason="by hand", touched=touched, planned_room=0.0
    )


@dataclass(frozen=True, kw_only=True)
class Story:
    """A run in which everything is well but for what is said here."""

    ticks: Changes = field(default_factory=dict)
    """By time: what differs from `WELL`."""
    frozen: Changes = field(default_factory=dict)
    """The same without the steps,"""
    baseline: Changes = field(default_factory=dict)
    """and without the controller."""
    acts: tuple[Done, ...] = ()
    events: tuple[Event, ...] = ()
    rest: dict[str, Any] = field(default_factory=dict)
    """Other fields of the run."""
    again: str | None = "the same"
    """The digest of the repetition."""

    def broken(self) -> set[Invariant]:
        """Return the invariants that do not hold."""
        run = self._run(self.ticks, self.frozen)
        again = None if self.again is None else replace(run, digest=self.again)
        findings = judge(run, self._run(self.baseline, {}), again)
        assert [one.invariant for one in findings] == list(Invariant)
        return {one.invariant for one in findings if one.holds is False}

    def _run(self, ticks: Changes, frozen: Changes) -> Run:
        scenario = replace(TWO_HOURS, events=self.events)
        steps = {at_s: [one.at_s for one in self.acts].count(at_s) for at_s in _times()}
        found = Run(controller="by hand", scenario=scenario, acts=list(self.acts), digest="the same")
        found.ticks = [replace(WELL, at_s=at_s, acts=steps[at_s], **ticks.get(at_s, {})) for at_s in _times()]
        found.frozen = [replace(WELL, at_s=at_s, **frozen.get(at_s, {})) for at_s in _times()]
        for name, value in self.rest.items():
            setattr(found, name, value)
        return found


def _times() -> list[float]:
    return [number * TICK_S for number in range(TWO_HOURS.ticks)]


def fault(at_s: float) -> Event:
    """Return an event that happens at one moment, seen by none but the verdicts."""
    return Event(kind=EventKind.TELEMETRY_LOSS, at_s=at_s, until_s=TWO_HOURS.duration_s, largest=1)


BROKEN = {
    "nobody announces": (Invariant.LAST_POP, Story(ticks={600.0: {"announced_pops": 0}})),
    "too little stays announced": (
        Invariant.RESERVE,
        Story(ticks={600.0: {"announced_capacity": 1199, "largest_announced": 100}}),
    ),
    "too little without the largest": (
        Invariant.RESERVE,
        Story(ticks={600.0: {"announced_capacity": 1400, "largest_announced": 401}}),
    ),
    "one settled tick loses more": (Invariant.NO_HARM, Story(ticks={600.0: {"lost": 3}})),
    "in total more is lost": (
        Invariant.NO_HARM,
        Story(ticks={1260.0: {"lost": 61}}, acts=(step(1200.0),)),
    ),
    "moved for long, and more lost than that": (
        Invariant.NO_HARM,
        Story(ticks={1260.0: {"lost": 161, "moved": 100}}, acts=(step(1200.0),), events=(fault(1500.0),)),
    ),
    "seven steps in an hour": (
        Invariant.FLIP_BUDGET,
        Story(acts=tuple(step(60.0 * turn, back=bool(turn % 2)) for turn in range(7))),
    ),
    "a penalty that suppresses": (Invariant.FLIP_BUDGET, Story(rest={"highest_penalty": LIMIT})),
    "a step when all has long been quiet": (Invariant.FLIP_BUDGET, Story(acts=(step(3600.0),))),
    "a shed answers a shed": (
        Invariant.CASCADE,
        Story(acts=(step(600.0, "a", touched=("b",)), step(660.0, "b"))),
    ),
    "a settled step leaves more overloaded": (
        Invariant.CASCADE,
        Story(ticks={1200.0: {"overloaded": 1}}, acts=(step(600.0),)),
    ),
    "a tick does not add up": (Invariant.CONSERVATION, Story(ticks={600.0: {"conserved": False}})),
    "the incremental state is wrong": (Invariant.CONSERVATION, Story(rest={"exact": False})),
    "a step asks for too many handshakes": (
        Invariant.RECONNECT_STORM,
        Story(ticks={660.0: {"storm_pops": 1, "waiting": 1}}, acts=(step(600.0),)),
    ),
    "a step on a stale reading": (Invariant.STALE_DATA, Story(rest={"stale_acts": 1})),
    "a repetition differs": (Invariant.DETERMINISM, Story(again="another")),
}

KEPT = {
    "all is well": Story(),
    "it is not run twice": Story(again=None),
    "faults leave nobody": Story(
        ticks={600.0: {"announced_pops": 0}},
        baseline={600.0: {"announced_pops": 0}},
    ),
    "just enough stays announced": Story(ticks={600.0: {"announced_capacity": 1200, "largest_announced": 200}}),
    "without the step no more would be announced": Story(
        ticks={600.0: {"announced_capacity": 900}}, frozen={600.0: {"announced_capacity": 900}}
    ),
    "the same is lost without the steps": Story(ticks={600.0: {"lost": 300}}, frozen={600.0: {"lost": 298}}),
    "a step loses a little before it has settled": Story(ticks={1260.0: {"lost": 60}}, acts=(step(1200.0),)),
    "those on the move when something else happened": Story(
        ticks={1260.0: {"lost": 160, "moved": 100}}, acts=(step(1200.0),), events=(fault(1500.0),)
    ),
    "what no meter showed yet": Story(
        ticks={1260.0: {"lost": 160}}, acts=(step(1200.0),), events=(fault(1200.0 - DWELL_S + TICK_S),)
    ),
    "six steps in an hour": Story(
        acts=tuple(step(60.0 * turn, back=bool(turn % 2)) for turn in range(6)), rest={"highest_penalty": LIMIT - 1}
    ),
    "a step in the first half of a quiet time": Story(acts=(step(3540.0),)),
    "a step soon after something happened": Story(acts=(step(6000.0),), events=(fault(5940.0),)),
    "a shed after the one before was verified": Story(
        acts=(step(600.0, "a", touched=("b",)), step(600.0 + DWELL_S, "b"))
    ),
    "a shed that something else may have caused": Story(
        acts=(step(600.0, "a", touched=("b",)), step(720.0, "b")), events=(fault(660.0),)
    ),
    "one more is overloaded and less is lost": Story(
        ticks={1200.0: {"overloaded": 1, "lost": 99}}, frozen={1200.0: {"lost": 100}}, acts=(step(600.0),)
    ),
    "one more is short of handshakes and fewer wait": Story(
        ticks={660.0: {"storm_pops": 1, "waiting": 99}}, frozen={660.0: {"waiting": 100}}, acts=(step(600.0),)
    ),
}


@pytest.mark.parametrize("story", BROKEN)
def test_what_breaks_one_invariant_breaks_that_and_no_other(story: str) -> None:
    invariant, told = BROKEN[story]
    assert told.broken() == {invariant}


@pytest.mark.parametrize("story", KEPT)
def test_what_only_comes_near_breaks_nothing(story: str) -> None:
    assert KEPT[story].broken() == set()


def test_every_invariant_is_seen_broken() -> None:
    assert {invariant for invariant, _ in BROKEN.values()} == set(Invariant)
