"""The compiled engine's loops, run as Python: what they say is tested where numba is not installed, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from topology import kernels, update
from topology.keys import NONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from topology.flat import FlatGraph, Longs, Shorts
    from topology.seeds import Seeds


class PlainLoops:
    """An engine for small graphs."""

    name = "loops"

    def propagate(self, graph: FlatGraph, seeds: Seeds) -> tuple[Longs, npt.NDArray[np.bool_]]:
        best = np.full(len(graph), NONE, dtype=np.int64)
        bound = np.zeros(len(graph), dtype=bool)
        kernels.climb(graph.links.providers, graph.order, seeds.key, seeds.acts, best, bound)
        kernels.cross(graph.links.peers, graph.order, seeds.key, seeds.acts, best, bound)
        kernels.descend(graph.links, graph.order, seeds.acts, best, bound, np.zeros_like(best))
        return best, bound

    def batch(self, graph: FlatGraph, scenarios: Sequence[Seeds]) -> Longs:
        return np.stack([self.propagate(graph, seeds)[0] for seeds in scenarios], axis=1)

    def spread(self, graph: FlatGraph, seeds: Seeds, best: Longs, bound: npt.NDArray[np.bool_]) -> Shorts:
        spread = np.full((len(graph), seeds.sets.shape[1]), np.iinfo(np.int16).max, dtype=np.int16)
        kernels.take_own(seeds.key, seeds.own_set, seeds.sets, best, spread)
        for route_class, rows in enumerate(graph.links):
            kernels.spread_along(rows, route_class, seeds.acts, seeds.sets, best, bound, spread)
        return spread

    def update(
        self, graph: FlatGraph, seeds: Seeds, changed: Sequence[int], before: Longs, spread: Shorts
    ) -> tuple[Longs, Shorts]:
        best, rows = before.copy(), spread.copy()
        own = update.Own(seeds.key, seeds.own_set, seeds.sets)
        states = update.States(before, best, spread, rows)
        marks, nodes = update.marks_of(len(graph)), np.array(changed, dtype=np.int64)
        update.update(graph.links, graph.level_ptr, graph.order, own, states, marks, nodes)
        return best, rows
