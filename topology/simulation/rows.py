"""The rows of a playbook, made from the model at one moment; they are computed when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from popctl.model.playbook import Flow, Step, StepKey
from topology.catchment import changed_catchment
from topology.simulation.ladder import told
from topology.simulation.routing import Moves, matrix_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from popctl.model.playbook import Level
    from topology.announce import Announcement, Plan
    from topology.catchment import Catchment
    from topology.flat import Longs
    from topology.model import Solution
    from topology.simulation.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """How wrong the model may be about a step, as a share of what moves."""

    certain: float
    """For sessions that no tie can take elsewhere, neither before nor after the step."""
    tied: float
    """For all others."""

    def of(self, moves: Moves) -> float:
        """Return the error band of a step: the mean over the sessions that move."""
        total = int(moves.sessions.sum())
        sure = int(moves.sessions[moves.certain].sum()) / total if total else 1.0
        return self.tied + (self.certain - self.tied) * sure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What does not depend on demand: routes under one plan, and who would move."""

    plan: Plan
    base: tuple[Solution, Catchment]
    matrix: Longs
    moves: dict[StepKey, Moves] = field(default_factory=dict)


class Rows(Mapping[StepKey, tuple[Step, ...]]):
    """All steps of all PoPs, as the model sees them while everybody else stands where they did at that moment."""

    def __init__(
        self,
        *,
        routing: Routing,
        plan: Plan,
        levels: Sequence[int],
        ladders: Sequence[tuple[Level, ...]],
        factors: Longs,
        band: Band,
        prepend: int,
        down: frozenset[int] = frozenset(),
        former: Rows | None = None,
    ) -> None:
        """Take the moment's state. Who moves does not depend on demand: `former` lends that if it had the same plan."""
        fleet = routing.model.attachment.fleet
        self._model, self._demand, self._normal = routing.model, routing.demand, routing.normal
        self._names = [pop.name for pop in fleet.pops]
        self._pop_of = {name: index for index, name in enumerate(self._names)}
        self._sessions: list[list[int]] = [[] for _ in fleet.pops]
        for index, session in enumerate(fleet.sessions):
            self._sessions[session.pop].append(index)
        self._plan, self._levels, self._ladders = plan, tuple(levels), ladders
        self._factors, self._band, self._prepend = factors, band, prepend
        self._down = down
        self.ground: _Ground
        if former is not None and former.ground.plan == plan:
            self.ground = former.ground
        else:
            base = routing.after(plan)
            matrix = matrix_of(len(self._names), len(factors), self._demand, base[1])
            self.ground = _Ground(plan=plan, base=base, matrix=matrix)
        self._found: dict[StepKey, tuple[Step, ...]] = {}

    def __getitem__(self, key: StepKey) -> tuple[Step, ...]:
        """Return the one row of a step."""
        found = self._found.get(key)
        if found is None:
            pop = self._pop_of[key.pop]
            if not all(0 <= level < len(self._ladders[pop]) for level in (key.before, key.after)):
                raise KeyError(key)
            found = self._found[key] = (self._row(key, pop),)
        return found

    def __iter__(self) -> Iterator[StepKey]:
        for name, ladder in zip(self._names, self._ladders, strict=True):
            for level in range(len(ladder) - 1):
                yield StepKey(name, level, level + 1)
                yield StepKey(name, level + 1, level)

    def __len__(self) -> int:
        return sum(2 * (len(ladder) - 1) for ladder in self._ladders)

    def _with(self, pop: int, level: int) -> Plan:
        """Return the plan with one PoP on another level."""
        plan: list[Announcement | None] = list(self._plan)
        indices = self._sessions[pop]
        fleet = self._model.attachment.fleet
        routes = told(self._ladders[pop][level], [fleet.sessions[index] for index in indices], self._prepend)
        for index, route in zip(indices, routes, strict=True):
            plan[index] = route if index not in self._down else None
        return tuple(plan)

    def _settled(self, pop: int, level: int) -> tuple[Solution, Catchment]:
        """Return where all would go with one PoP on a level."""
        base = self.ground.base
        solution = self._model.update(base[0], self._with(pop, level))
        return solution, changed_catchment(self._model, self._demand, solution, *base, measured_under=self._normal)

    def _row(self, key: StepKey, pop: int) -> Step:
        moves = self.ground.moves.get(key)
        if moves is None:
            moves = self.ground.moves[key] = self._moves_of(key, pop)
        flows = self._flows(moves)
        touched = {name for flow in flows for name in (flow.source, flow.target) if name is not None} - {key.pop}
        when = {name: level for name in sorted(touched) if (level := self._levels[self._pop_of[name]])}
        return Step(key=key, flows=flows, when=when, error=self._band.of(moves))

    def _moves_of(self, key: StepKey, pop: int) -> Moves:
        here = self.ground.base
        if key.before != self._levels[pop]:
            here = self._settled(pop, key.before)
        there = self._settled(pop, key.after)
        before, after = here[1].pop, there[1].pop
        atoms = np.flatnonzero(before != after)
        # What every source carries in that state, to take shares of.
        carried = (
            self.ground.matrix
            if here is self.ground.base
            else matrix_of(len(self._names), len(self._factors), self._demand, here[1])
        )
        return Moves(
            source=before[atoms],
            target=after[atoms],
            region=self._demand.region[atoms],
            sessions=self._demand.sessions[atoms],
            certain=here[1].certain[atoms] & there[1].certain[atoms],
            carried=carried,
        )

    def _flows(self, moves: Moves) -> tuple[Flow, ...]:
        """Return who moves, as shares of what the source carries at that moment."""
        pops = len(self._names)
        # PoPs are counted from 1 here, so that 0 can mean none.
        pairs = (moves.source.astype(np.int64) + 1) * (pops + 1) + moves.target + 1
        distinct, place = np.unique(pairs, return_inverse=True)
        sums = np.bincount(place, weights=moves.weighted(self._factors), minlength=len(distinct))
        flows = []
        for pair, moved in zip(distinct.tolist(), sums.tolist(), strict=True):
            source, target = pair // (pops + 1) - 1, pair % (pops + 1) - 1
            if source >= 0 and moved > 0:
                share = min(1.0, moved / float(moves.carried[source] @ self._factors))
                flows.append(Flow(self._names[source], None if target < 0 else self._names[target], share))
        return tuple(flows)
