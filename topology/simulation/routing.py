"""The Internet under the fleet: where routes have settled, and how many sessions of each region a PoP has.

Demand is kept as a matrix PoP x region; ASes are looked at only when routes change, and then only those that changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from topology.catchment import catchment, changed_catchment

if TYPE_CHECKING:
    from topology.announce import Plan
    from topology.catchment import Catchment
    from topology.demand import Demand
    from topology.flat import Longs, Shorts
    from topology.model import Model, Solution


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Sessions that change their PoP, one row per atom of demand. A PoP of -1 means none."""

    source: Shorts
    target: Shorts
    region: Shorts
    sessions: Longs
    certain: npt.NDArray[np.bool_]
    """No tie can take them elsewhere, neither before nor after."""
    carried: Longs
    """What every PoP had before, by region: `Routing.matrix`."""

    def weighted(self, factors: Longs) -> Longs:
        """Return the sessions per row times the factor of their region."""
        return self.sessions * factors[self.region]


def matrix_of(pops: int, regions: int, demand: Demand, where: Catchment) -> Longs:
    """Return sessions by PoP (the last row: no PoP) and region (the last column: not known)."""
    matrix = np.zeros((pops + 1, regions), dtype=np.int64)
    np.add.at(matrix, (where.pop, demand.region), demand.sessions)
    return matrix


class Routing:
    """Where BGP has settled, and the demand matrix that follows from it."""

    def __init__(self, model: Model, demand: Demand, plan: Plan) -> None:
        self.model = model
        self.demand = demand
        self.pops = len(model.attachment.fleet.pops)
        self.regions = len(model.attachment.graph.regions) + 1
        self.solution: Solution = model.solve(plan)
        self.normal = self.solution
        """What measurements, if there are any, were made under: they hold as long as routes are like that."""
        self.where: Catchment = catchment(model, demand, self.solution)
        self.matrix = matrix_of(self.pops, self.regions, demand, self.where)
        """Sessions by PoP (the last row: no PoP) and region (the last column: not known)."""

    def settle(self, plan: Plan) -> Moves:
        """Move to another plan; return who moves."""
        after, where = self.after(plan)
        moves = self.moves(where)
        self.solution, self.where = after, where
        np.subtract.at(self.matrix, (moves.source, moves.region), moves.sessions)
        np.add.at(self.matrix, (moves.target, moves.region), moves.sessions)
        return moves

    def after(self, plan: Plan) -> tuple[Solution, Catchment]:
        """Return where routes and demand would go under another plan."""
        solution = self.model.update(self.solution, plan)
        return solution, changed_catchment(
            self.model, self.demand, solution, self.solution, self.where, measured_under=self.normal
        )

    def moves(self, where: Catchment) -> Moves:
        """Return who would be elsewhere."""
        atoms = np.flatnonzero(self.where.pop != where.pop)
        return Moves(
            source=self.where.pop[atoms],
            target=where.pop[atoms],
            region=self.demand.region[atoms],
            sessions=self.demand.sessions[atoms],
            certain=self.where.certain[atoms] & where.certain[atoms],
            carried=self.matrix,
        )

    def exact(self) -> bool:
        """Tell whether the incremental state is what a computation from nothing gives."""
        anew = self.model.solve(self.solution.plan)
        where = catchment(self.model, self.demand, anew, measured_under=self.normal)
        matrix = matrix_of(self.pops, self.regions, self.demand, where)
        return np.array_equal(where.pop, self.where.pop) and np.array_equal(matrix, self.matrix)
