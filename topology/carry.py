"""Sets of PoPs carried along all tied routes, rank by rank with numpy.

What a set is made of is the caller's: ranks of which the smallest counts (`topology.attach.Preference.row`), or bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from topology.flat import edges_of
from topology.kernels import CUSTOMERS, PEERS, PROVIDERS
from topology.keys import LENGTH_BITS, LENGTH_MASK, NONE, PEER_KEY, PROVIDER, PROVIDER_KEY, TIE_BITS

if TYPE_CHECKING:
    from topology.flat import Adjacency, FlatGraph, Longs
    from topology.seeds import Seeds

    Flags = npt.NDArray[np.bool_]

_PLACE_BITS = 32
_Item = TypeVar("_Item", bound=np.integer)


def block_of(seeds: Seeds, node: int, row: int, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return one row of a node's action block, of `extra` or `told`."""
    block = 3 * int(seeds.acts.block[node]) + row
    return column[seeds.acts.ptr[block] : seeds.acts.ptr[block + 1]]


@dataclass(frozen=True, slots=True)
class _Carried(Generic[_Item]):
    """Sets on their way: settled routes, and how sets unite."""

    seeds: Seeds
    best: Longs
    bound: Flags
    sets: npt.NDArray[_Item]
    merge: np.ufunc
    spread: npt.NDArray[_Item]

    def unite(self, ends: npt.NDArray[Any], source: npt.NDArray[_Item], rows: npt.NDArray[Any]) -> None:
        """Unite each end's row with all source rows that go there."""
        # Sorting numbers that carry their place is several times faster than argsort.
        packed = np.sort((ends.astype(np.int64) << _PLACE_BITS) | np.arange(len(ends)))
        self.unite_sorted(packed >> _PLACE_BITS, source, rows[packed & ((1 << _PLACE_BITS) - 1)])

    def unite_sorted(self, ends: npt.NDArray[Any], source: npt.NDArray[_Item], rows: npt.NDArray[Any]) -> None:
        """Do the same where equal ends are neighbours already."""
        if not len(ends):
            return
        heads = np.flatnonzero(np.diff(ends, prepend=-1))
        targets = ends[heads]
        self.spread[targets] = self.merge(self.spread[targets], self.merge.reduceat(source[rows], heads, axis=0))


def carry(
    graph: FlatGraph,
    seeds: Seeds,
    best: Longs,
    bound: Flags,
    sets: npt.NDArray[_Item],
    merge: np.ufunc,
    nothing: int,
) -> npt.NDArray[_Item]:
    """Carry sets from the upstreams to every node along all tied routes.

    Args:
        graph: where.
        seeds: who starts with what: rows of `sets` by number.
        best: the settled keys.
        bound: nodes whose action communities bind.
        sets: one row per set, in whatever form `merge` unites (the smallest of ranks, or bits).
        merge: unites rows element by element.
        nothing: every element of the row of a node that has no route.
    """
    spread = np.full((len(graph), sets.shape[1]), nothing, dtype=sets.dtype)
    own = np.flatnonzero((seeds.key == best) & (best != NONE))
    spread[own] = sets[seeds.own_set[own]]
    carried = _Carried(seeds, best, bound, sets, merge, spread)
    customer_routes = np.flatnonzero(best < PEER_KEY)
    levels = list(zip(graph.level_ptr[:-1], graph.level_ptr[1:], strict=True))
    for start, end in reversed(levels):
        nodes = customer_routes[np.searchsorted(customer_routes, start) : np.searchsorted(customer_routes, end)]
        _share(graph.links.providers, PROVIDERS, nodes, carried)
    _share(graph.links.peers, PEERS, customer_routes, carried)
    for start, end in levels:
        nodes = start + np.flatnonzero((best[start:end] >= PROVIDER_KEY) & (best[start:end] != NONE))
        _take_from_providers(graph.links.providers, nodes, carried)
        tellers = start + np.flatnonzero(bound[start:end])
        _share_bound(graph.links.customers, CUSTOMERS, tellers, carried)
    return spread


def _take_from_providers(providers: Adjacency, nodes: npt.NDArray[np.integer], carried: _Carried[_Item]) -> None:
    """Give the nodes of one rank what those of their providers tell whose route they use.

    Most links go down, and most nodes have few providers: looked at from below no sorting is needed.
    """
    best = carried.best
    edges, counts = edges_of(providers, nodes)
    above = providers.to[edges]
    below = np.repeat(nodes, counts)
    length = ((best[above] >> TIE_BITS) & LENGTH_MASK) + 1
    used = np.flatnonzero(
        (best[below] >> TIE_BITS == (PROVIDER << LENGTH_BITS) | length) & (best[above] != NONE) & ~carried.bound[above]
    )
    carried.unite_sorted(below[used], carried.spread, above[used])


def _share(adjacency: Adjacency, route_class: int, nodes: npt.NDArray[np.integer], carried: _Carried[_Item]) -> None:
    """Pass the sets of settled nodes on to those neighbours that use what they tell, tied or not."""
    best, bound = carried.best, carried.bound
    plain = nodes[~bound[nodes]]
    edges, counts = edges_of(adjacency, plain)
    length = np.repeat(((best[plain] >> TIE_BITS) & LENGTH_MASK) + 1, counts)
    ends = adjacency.to[edges]
    used = np.flatnonzero(best[ends] >> TIE_BITS == (route_class << LENGTH_BITS) | length)
    carried.unite(ends[used], carried.spread, np.repeat(plain, counts)[used])
    _share_bound(adjacency, route_class, nodes[bound[nodes]], carried)


def _share_bound(
    adjacency: Adjacency, route_class: int, nodes: npt.NDArray[np.integer], carried: _Carried[_Item]
) -> None:
    """Do that for upstreams whose action communities bind."""
    seeds, best = carried.seeds, carried.best
    for node in nodes:
        row = adjacency.row(int(node))
        extra = block_of(seeds, int(node), route_class, seeds.acts.extra).astype(np.int64)
        told = block_of(seeds, int(node), route_class, seeds.acts.told)
        length = ((best[node] >> TIE_BITS) & LENGTH_MASK) + 1 + extra
        used = np.flatnonzero((extra >= 0) & (best[row] >> TIE_BITS == (route_class << LENGTH_BITS) | length))
        carried.unite(row[used], carried.sets, told[used])
