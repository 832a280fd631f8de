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

from topology.catchment import UNREACHED, Catchment, Load, catchment, loads
from topology.fleet import announced_pops, prepend, withdraw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from topology.announce import Plan
    from topology.demand import Demand, Profile
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
    measured: int
    """Sessions whose place after the change rests on measurement."""
    certain: int
    """Sessions whose place no tie can change, those measured among them."""
    farthest_detour_km: int
    """The most that any moved user's PoP is farther away than before."""
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

    def ask(self, question: str, plan: Plan) -> Answer:
        """Return what happens when `plan` takes the place of the baseline."""
        solution = self.model.update(self.baseline, plan)
        after = catchment(self.model, self.demand, solution, self.baseline)
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
        return self.ask(f"prepend {self.fleet.pops[pop].name} x{times}{towards}", plan)

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
        count = len(self.fleet.pops)
        load, unreached = loads(self.demand, after, count, self.profile)
        moved = np.flatnonzero(self.where.pop != after.pop)
        sessions = self.demand.sessions[moved]
        came = self._sums(after.pop[moved], sessions, self.where.pop[moved] != UNREACHED)
        left = self._sums(self.where.pop[moved], sessions, self.where.pop[moved] != UNREACHED)
        announced = announced_pops(self.fleet, plan)
        changes = tuple(
            self._change(pop, load[pop], came[pop], left[pop], announced=pop in announced) for pop in range(count)
        )
        return Answer(
            question=question,
            pops=changes,
            moved=int(sessions[self.where.pop[moved] != UNREACHED].sum()),
            unreached_before=self.unreached,
            unreached_after=unreached,
            measured=int(self.demand.sessions[after.measured].sum()),
            certain=int(self.demand.sessions[after.certain].sum()),
            farthest_detour_km=self._detour(moved, after),
            findings=self._findings(changes, unreached, announced),
        )

    def _sums(self, pops: np.ndarray, sessions: np.ndarray, counted: np.ndarray) -> list[int]:
        known = counted & (pops != UNREACHED)
        sums = np.bincount(pops[known], weights=sessions[known], minlength=len(self.fleet.pops))
        return [int(one) for one in sums]

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

    def _detour(self, moved: np.ndarray, after: Catchment) -> int:
        """Return the largest growth of the distance between a moved user's region and its PoP."""
        both = moved[(self.where.pop[moved] != UNREACHED) & (after.pop[moved] != UNREACHED)]
        if not len(both):
            return 0
        distance = self.model.attachment.preference.distance_km
        region = self.demand.region[both]
        return max(0, int((distance[region, after.pop[both]] - distance[region, self.where.pop[both]]).max()))

    def _findings(self, changes: Sequence[PopChange], unreached: int, announced: frozenset[int]) -> tuple[Finding, ...]:
        found = [Finding(danger=Danger.NOTHING_ANNOUNCED)] if not announced else []
        if unreached > self.unreached:
            found.append(Finding(danger=Danger.UNREACHED))
        for change in changes:
            if change.utilisation_after > self.limit and change.after.sessions > change.before.sessions:
                was_over = change.utilisation_before > self.limit
                danger = Danger.MORE_OVERLOADED if was_over else Danger.NEWLY_OVERLOADED
                found.append(Finding(danger=danger, pop=change.pop))
            if change.moved_in and change.handshakes_s > change.capacity.handshakes_s:
                found.append(Finding(danger=Danger.RECONNECT_STORM, pop=change.pop))
        return tuple(found)
