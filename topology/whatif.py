"""What happens if: the load of every PoP before and after a change of the plan, and whether the change is safe.

A `Study` is a model with demand and a baseline plan. Every question is a changed plan; the answer names what moves
where and everything dangerous about it, each with a `Danger`. An answer without dangers is safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from topology.catchment import (
    UNREACHED,
    Catchment,
    Load,
    catchment,
    changed_catchment,
    load_of,
    loads,
    sessions_per_pop,
)
from topology.fleet import announced_pops, prepend, withdraw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from topology.announce import Plan
    from topology.demand import Demand, Profile
    from topology.flat import Longs, Shorts
    from topology.fleet import Capacity
    from topology.model import Model, Solution


class Danger(StrEnum):
    """Why a change is not safe."""

    NEWLY_OVERLOADED = "newly-overloaded"
    """A PoP passes the limit that was below it before."""
    MORE_OVERLOADED = "more-overloaded"
    """A PoP that was over the limit gets more."""
    RECONNECT_STORM = "reconnect-storm"
    """Moved sessions connect again faster than a PoP can do handshakes."""
    UNREACHED = "unreached"
    """Sessions that reached a PoP reach none."""
    NOTHING_ANNOUNCED = "nothing-announced"
    """No PoP announces any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One danger; `pop` is None where it is about the fleet."""

    danger: Danger
    pop: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PopChange:
    """What a change does to one PoP."""

    pop: str
    before: Load
    after: Load
    capacity: Capacity
    moved_in: int
    """Sessions that come from other PoPs and must connect again."""
    moved_out: int
    handshakes_s: int
    """While they do: the steady rate plus the moved sessions within the reconnect window."""
    announced: bool

    @property
    def utilisation_before(self) -> float:
        """Share of the tightest resource before the change."""
        return self.before.utilisation(self.capacity)

    @property
    def utilisation_after(self) -> float:
        """Share of the tightest resource after everybody has connected again."""
        return self.after.utilisation(self.capacity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a change does."""

    question: str
    pops: tuple[PopChange, ...]
    moved: int
    """Sessions that change their PoP or lose it."""
    unreached_before: int
    unreached_after: int
    lost: int
    """Sessions that reached a PoP and reach none any more. Others may find one meanwhile: that makes up for nothing."""
    measured: int
    """Sessions whose place after the change rests on measurement."""
    certain: int
    """Sessions whose place no tie can change, those measured among them."""
    farthest_detour_km: int
    """The most that any moved user's PoP is farther away than before."""
    outside: int
    """Sessions of ASes that the graph does not have: the answer says nothing about them."""
    findings: tuple[Finding, ...]

    @property
    def safe(self) -> bool:
        """Tell whether nothing about the change is dangerous."""
        return not self.findings


class Study:
    """A model, its demand and a baseline. Holds only what every question needs: the baseline's routes and catchment."""

    def __init__(
        self, model: Model, demand: Demand, profile: Profile, *, plan: Plan | None = None, limit: float = 1.0
    ) -> None:
        self.model = model
        self.demand = demand
        self.profile = profile
        self.limit = limit
        """Utilisation from which a PoP counts as overloaded."""
        self.fleet = model.attachment.fleet
        self.plan = self.fleet.plan() if plan is None else plan
        self.baseline: Solution = model.solve(self.plan)
        self.where: Catchment = catchment(model, demand, self.baseline)
        self.load, self.unreached = loads(demand, self.where, len(self.fleet.pops), profile)
        self._announced = announced_pops(self.fleet, self.plan)
        self._same = tuple(
            self._change(pop, load, 0, 0, announced=pop in self._announced) for pop, load in enumerate(self.load)
        )

    def ask(self, question: str, plan: Plan) -> Answer:
        """Return what happens when `plan` takes the place of the baseline."""
        solution = self.model.update(self.baseline, plan)
        after = changed_catchment(self.model, self.demand, solution, self.baseline, self.where)
        return self._answer(question, plan, after)

    def withdraw(self, pops: Iterable[int]) -> Answer:
        """Answer: what if these PoPs stop announcing?"""
        gone = sorted(pops)
        names = "+".join(self.fleet.pops[pop].name for pop in gone)
        return self.ask(f"withdraw {names}", withdraw(self.fleet, self.plan, gone))

    def prepend(self, pop: int, times: int, *, upstream: int | None = None) -> Answer:
        """Answer: what if this PoP prepends, to all upstreams or to one?"""
        towards = "" if upstream is None else f" to AS{upstream}"
        plan = prepend(self.fleet, self.plan, pop, times, upstream=upstream)
        return self.ask(f"prepend {self.fleet.pops[pop].name} +{times}{towards}", plan)

    def one_down(self) -> Iterator[Answer]:
        """Answer for every announced PoP: what if it fails?"""
        for pop in sorted(announced_pops(self.fleet, self.plan)):
            yield self.withdraw([pop])

    def two_down(self, top: int) -> Iterator[Answer]:
        """Answer for every pair of the `top` most loaded PoPs: what if both fail?"""
        announced = announced_pops(self.fleet, self.plan)
        heaviest = sorted(announced, key=lambda pop: (-self.load[pop].sessions, pop))[:top]
        for pair in combinations(sorted(heaviest), 2):
            yield self.withdraw(pair)

    def _answer(self, question: str, plan: Plan, after: Catchment) -> Answer:
        moved = np.flatnonzero(self.where.pop != after.pop)
        was, now, sessions = self.where.pop[moved], after.pop[moved], self.demand.sessions[moved]
        settled = was != UNREACHED
        lost = int(sessions[now == UNREACHED].sum())
        announced = announced_pops(self.fleet, plan)
        changes = self._changes(after, moved, announced)
        return Answer(
            question=question,
            pops=changes,
            moved=int(sessions[settled].sum()),
            unreached_before=self.unreached,
            unreached_after=self.unreached + lost - int(sessions[~settled].sum()),
            lost=lost,
            measured=int(self.demand.sessions[after.measured].sum()),
            certain=int(self.demand.sessions[after.certain].sum()),
            farthest_detour_km=self._detour(moved, after),
            outside=self.demand.outside,
            findings=self._findings(changes, lost, announced),
        )

    def _sums(self, pops: Shorts, atoms: Longs) -> Longs:
        """Add up the sessions of some atoms by the PoPs they are given."""
        return sessions_per_pop(len(self.fleet.pops), pops, self.demand.sessions[atoms])[:-1]

    def _changes(self, after: Catchment, moved: Longs, announced: frozenset[int]) -> tuple[PopChange, ...]:
        """Return what happens to every PoP; most of a large fleet do not change, and share one value per PoP."""
        was, now = self.where.pop[moved], after.pop[moved]
        came, left = self._sums(np.where(was == UNREACHED, was, now), moved), self._sums(was, moved)
        new = self._sums(now, moved) - came
        # Sessions that stay where they are can become certain or uncertain.
        surer = np.flatnonzero(self.where.certain != after.certain)
        surer = np.union1d(surer, moved)
        sure_now, sure_was = surer[after.certain[surer]], surer[self.where.certain[surer]]
        certain = self._sums(after.pop[sure_now], sure_now) - self._sums(self.where.pop[sure_was], sure_was)
        touched = np.flatnonzero((came != 0) | (left != 0) | (new != 0) | (certain != 0)).tolist()
        changes = list(self._same)
        for pop in {*touched, *(announced ^ self._announced)}:
            before = self.load[pop]
            sessions = before.sessions + int(came[pop] + new[pop] - left[pop])
            load = load_of(sessions, before.certain + int(certain[pop]), self.profile)
            changes[pop] = self._change(pop, load, int(came[pop]), int(left[pop]), announced=pop in announced)
        return tuple(changes)

    def _change(self, pop: int, after: Load, came: int, left: int, *, announced: bool) -> PopChange:
        return PopChange(
            pop=self.fleet.pops[pop].name,
            before=self.load[pop],
            after=after,
            capacity=self.fleet.pops[pop].capacity,
            moved_in=came,
            moved_out=left,
            handshakes_s=after.handshakes_s + -(-came // self.profile.reconnect_window_s),
            announced=announced,
        )

    def _detour(self, moved: Longs, after: Catchment) -> int:
        """Return the largest growth of the distance between a moved user's region and its PoP."""
        both = moved[(self.where.pop[moved] != UNREACHED) & (after.pop[moved] != UNREACHED)]
        if not len(both):
            return 0
        distance = self.model.attachment.preference.distance_km
        region = self.demand.region[both]
        return max(0, int((distance[region, after.pop[both]] - distance[region, self.where.pop[both]]).max()))

    def _findings(self, changes: Sequence[PopChange], lost: int, announced: frozenset[int]) -> tuple[Finding, ...]:
        found = [Finding(danger=Danger.NOTHING_ANNOUNCED)] if not announced else []
        if lost:
            found.append(Finding(danger=Danger.UNREACHED))
        for change, same in zip(changes, self._same, strict=True):
            if change is same:
                continue
            if change.utilisation_after > self.limit and change.after.sessions > change.before.sessions:
                was_over = change.utilisation_before > self.limit
                danger = Danger.MORE_OVERLOADED if was_over else Danger.NEWLY_OVERLOADED
                found.append(Finding(danger=danger, pop=change.pop))
            if change.moved_in and change.handshakes_s > change.capacity.handshakes_s:
                found.append(Finding(danger=Danger.RECONNECT_STORM, pop=change.pop))
        return tuple(found)
