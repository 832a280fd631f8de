"""The loops of `topology.kernels`, `reroute` and `update`, compiled. Importing this needs numba (`popctl[fast]`)."""

from __future__ import annotations

import hashlib
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba.extending import register_jitable

from topology import kernels, keys, reroute, update
from topology.keys import NONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from topology.flat import FlatGraph, Longs, Shorts
    from topology.seeds import Seeds

    Flags = npt.NDArray[np.bool_]


def _cache_folder() -> Path:
    """Return where compiled code is kept: under the digest of all its sources, because numba looks at one file only."""
    sources = "".join(inspect.getsource(module) for module in (kernels, keys, reroute, update))
    digest = hashlib.blake2b(sources.encode(), digest_size=8).hexdigest()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "popctl"
    return Path(os.environ.get("NUMBA_CACHE_DIR") or home) / f"numba-{digest}"


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; code that cannot be stored is compiled again in every process."""
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True)(function)
    except RuntimeError:
        compiled = numba.njit(function)
    return compiled


for _helper in (kernels.told, kernels.offer, kernels.merge, kernels.share, *reroute.HELPERS, *update.HELPERS):
    register_jitable(_helper)
vars(numba.config)["CACHE_DIR"] = str(_cache_folder())

_climb = _compiled(kernels.climb)
_cross = _compiled(kernels.cross)
_descend = _compiled(kernels.descend)
_take_own = _compiled(kernels.take_own)
_spread_along = _compiled(kernels.spread_along)
_update = _compiled(update.update)


class NumbaEngine:
    """The compiled engine."""

    name = "numba"

    def propagate(self, graph: FlatGraph, seeds: Seeds) -> tuple[Longs, Flags]:
        """Return the best key of every node, and which nodes' action communities bind."""
        best = np.full(len(graph), NONE, dtype=np.int64)
        bound = np.zeros(len(graph), dtype=np.bool_)
        _climb(graph.links.providers, graph.order, seeds.key, seeds.acts, best, bound)
        _cross(graph.links.peers, graph.order, seeds.key, seeds.acts, best, bound)
        _descend(graph.links, graph.order, seeds.acts, best, bound, np.empty(len(graph), dtype=np.int64))
        return best, bound

    def batch(self, graph: FlatGraph, scenarios: Sequence[Seeds]) -> Longs:
        """Return the best keys, one column per scenario."""
        return np.stack([self.propagate(graph, seeds)[0] for seeds in scenarios], axis=1)

    def spread(self, graph: FlatGraph, seeds: Seeds, best: Longs, bound: Flags) -> Shorts:
        """Return the spread row of every node: which PoPs stay tied."""
        spread = np.full((len(graph), seeds.sets.shape[1]), np.iinfo(np.int16).max, dtype=np.int16)
        _take_own(seeds.key, seeds.own_set, seeds.sets, best, spread)
        for route_class, rows in enumerate(graph.links):
            _spread_along(rows, route_class, seeds.acts, seeds.sets, best, bound, spread)
        return spread

    def update(
        self, graph: FlatGraph, seeds: Seeds, changed: Sequence[int], before: Longs, spread: Shorts
    ) -> tuple[Longs, Shorts]:
        """Return the keys and spread rows for seeds that differ at `changed` from those of `before` and `spread`."""
        best, rows = before.copy(), spread.copy()
        own = update.Own(seeds.key, seeds.own_set, seeds.sets)
        states = update.States(before, best, spread, rows)
        marks, nodes = update.marks_of(len(graph)), np.array(changed, dtype=np.int64)
        _update(graph.links, graph.level_ptr, graph.order, own, states, marks, nodes)
        return best, rows
