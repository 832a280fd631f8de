"""The model: a fleet on an AS graph, and for any plan the route of every AS.

A plan whose sessions ask for a lower local preference is solved in two runs: first without those sessions; then with
those of them whose upstream hears nothing better in the first run. That is the stable state which such communities are
meant to bring about; upstreams that wake together each keep their own route.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from operator import is_not
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from topology.flat import Longs, Shorts
from topology.keys import LENGTH_BITS, LENGTH_MASK, NONE, TIE_BITS, TIE_MASK
from topology.seeds import Seeds, is_lowered, reseed, seeds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from topology.announce import Plan
    from topology.attach import Attachment
    from topology.engine import Engine

UNREACHED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Where BGP settles under one plan."""

    plan: Plan
    seeds: Seeds
    best: Longs
    """Key of the best route per node (`topology.keys`)."""
    bound: npt.NDArray[np.bool_]
    spread: Shorts
    """Which PoPs stay tied per node (`topology.attach.Preference.row`)."""
    lowered: bool
    """Whether the plan lowers any local preference, so that it took two runs."""

    @property
    def simple(self) -> bool:
        """Tell whether the plan has neither action communities nor lowered preferences: it can be updated in place."""
        return not self.lowered and not self.seeds.has_actions


class Model:
    """Solves plans. Holds no state between them."""

    def __init__(self, attachment: Attachment, engine: Engine) -> None:
        self.attachment = attachment
        self.engine = engine

    def solve(self, plan: Plan) -> Solution:
        """Return where BGP settles under a plan."""
        seeds, lowered = self._seeds(plan)
        best, bound = self.engine.propagate(self.attachment.graph, seeds)
        return self._solution(plan, seeds, best, bound, lowered=lowered)

    def solve_all(self, plans: Sequence[Plan]) -> list[Solution]:
        """Return what `solve` returns for each plan, by way of the engine's batch."""
        if not plans:
            return []
        graph = self.attachment.graph
        compiled = [self._seeds(plan) for plan in plans]
        columns = self.engine.batch(graph, [seeds for seeds, _ in compiled])
        solutions = []
        for column, (plan, (seeds, lowered)) in enumerate(zip(plans, compiled, strict=True)):
            if seeds.has_actions:
                best, bound = self.engine.propagate(graph, seeds)
            else:
                best, bound = np.ascontiguousarray(columns[:, column]), np.zeros(len(graph), dtype=bool)
            solutions.append(self._solution(plan, seeds, best, bound, lowered=lowered))
        return solutions

    def update(self, solution: Solution, plan: Plan) -> Solution:
        """Return what `solve(plan)` returns, the faster the less the plan differs from that of `solution`."""
        if len(plan) != len(solution.plan):
            raise ValueError("not two plans of one fleet")
        # Most of a plan is the very same objects; the operator looks at them without a turn of a loop each.
        others = compress(range(len(plan)), map(is_not, solution.plan, plan))
        differing = [index for index in others if solution.plan[index] != plan[index]]
        if not solution.simple or self._lowers(plan, differing):
            return self.solve(plan)
        seeds, changed = reseed(self.attachment, solution.seeds, plan, differing)
        if seeds.has_actions:
            return self.solve(plan)
        best, spread = self.engine.update(self.attachment.graph, seeds, changed, solution.best, solution.spread)
        return Solution(plan=plan, seeds=seeds, best=best, bound=solution.bound, spread=spread, lowered=False)

    def _solution(
        self, plan: Plan, seeds: Seeds, best: Longs, bound: npt.NDArray[np.bool_], *, lowered: bool
    ) -> Solution:
        spread = self.engine.spread(self.attachment.graph, seeds, best, bound)
        return Solution(plan=plan, seeds=seeds, best=best, bound=bound, spread=spread, lowered=lowered)

    def _lowers(self, plan: Plan, sessions: Iterable[int]) -> list[int]:
        """Return the indices of those of some sessions that ask for a lower local preference."""
        triples = ((index, self.attachment.fleet.sessions[index], plan[index]) for index in sessions)
        return [index for index, session, one in triples if one is not None and is_lowered(session.relation, one)]

    def _seeds(self, plan: Plan) -> tuple[Seeds, bool]:
        """Return the seeds of a plan, and whether it lowers any local preference."""
        lowered = self._lowers(plan, range(len(plan)))
        seeds = seeds_of(self.attachment, plan)
        if not lowered:
            return seeds, False
        best, _ = self.engine.propagate(self.attachment.graph, seeds)
        awake = frozenset(index for index in lowered if self._wakes(index, plan, best))
        return (seeds_of(self.attachment, plan, awake) if awake else seeds), True

    def _wakes(self, index: int, plan: Plan, best: Longs) -> bool:
        """Tell whether the upstream of a lowered session hears nothing better."""
        announcement = plan[index]
        assert announcement is not None  # noqa: S101 - lowered sessions announce
        asked = (announcement.local_pref << LENGTH_BITS) | (1 + announcement.prepend)
        return asked <= int(best[self.attachment.node_of_session[index]]) >> TIE_BITS


def path_length(best: Longs) -> npt.NDArray[np.int32]:
    """Return the AS-path length that each node sees; 0 without a route."""
    return np.where(best == NONE, 0, (best >> TIE_BITS) & LENGTH_MASK).astype(np.int32)


def parents(by_order: npt.NDArray[np.int32], best: Longs) -> npt.NDArray[np.int32]:
    """Return the node that each node's first choice among equal routes comes from; itself at an upstream of ours."""
    tie = best & TIE_MASK
    own = np.arange(len(best), dtype=np.int32)
    heard = by_order[np.maximum(tie - 1, 0)] if len(best) else own
    return np.where(best == NONE, UNREACHED, np.where(tie == 0, own, heard)).astype(np.int32)


def entries(by_order: npt.NDArray[np.int32], best: Longs) -> npt.NDArray[np.int32]:
    """Return the upstream at the end of each node's first-choice path: where its traffic meets the fleet."""
    here = parents(by_order, best)
    while True:
        further = np.where(here == UNREACHED, UNREACHED, here[here])
        if np.array_equal(further, here):
            return here
        here = further


def path(graph_asn: Longs, by_order: npt.NDArray[np.int32], best: Longs, node: int) -> tuple[int, ...]:
    """Return the ASes of a node's first-choice path, the node first, an upstream of ours last; () without a route."""
    above = parents(by_order, best)
    steps: list[int] = []
    while above[node] != UNREACHED:
        steps.append(int(graph_asn[node]))
        if above[node] == node:
            return tuple(steps)
        node = int(above[node])
    return tuple(steps)
