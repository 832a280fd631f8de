"""Propagation on whole ranks at once with numpy. Every answer is bit for bit that of `topology.kernels`.

One rank is one slice of nodes, and all that a rank hears comes from ranks that are settled. So each sweep is a handful
of array operations per rank: gather what the neighbours tell, take the minimum per row (`reduceat`).
Upstreams with action communities are few; they tell their neighbours one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from topology.carry import block_of, carry
from topology.flat import edges_of
from topology.keys import CUSTOMER, LENGTH_BITS, LENGTH_MASK, NONE, PEER, PEER_KEY, PROVIDER, TIE_BITS
from topology.numpy_update import respread
from topology.seeds import BLOCKED, NO_SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.flat import Adjacency, FlatGraph, Longs, Shorts
    from topology.seeds import Seeds

    Flags = npt.NDArray[np.bool_]


class NumpyEngine:
    """The engine that is always there."""

    name = "numpy"

    def propagate(self, graph: FlatGraph, seeds: Seeds) -> tuple[Longs, Flags]:
        """Return the best key of every node, and which nodes' action communities bind."""
        own, special = seeds.key, _Special(seeds)
        best = np.where(own < PEER_KEY, own, NONE)
        bound = np.zeros(len(graph), dtype=bool)
        _climb(graph, best, bound, special)
        _cross(graph, best, bound, special)
        # Sessions with peers compete with what was heard from peers; customer routes beat both.
        peering = (own >= PEER_KEY) & (own != NONE)
        special.mark(special.nodes, bound, peering & (own >> TIE_BITS < best >> TIE_BITS))
        best = np.where(peering, np.minimum(own, best), best)
        _descend(graph, best, bound, special)
        return best, bound

    def batch(self, graph: FlatGraph, scenarios: Sequence[Seeds]) -> Longs:
        """Return the best keys, one column per scenario."""
        return np.stack([self.propagate(graph, seeds)[0] for seeds in scenarios], axis=1)

    def spread(self, graph: FlatGraph, seeds: Seeds, best: Longs, bound: Flags) -> Shorts:
        """Return the spread row of every node: which PoPs stay tied."""
        return carry(graph, seeds, best, bound, seeds.sets, np.minimum, np.iinfo(np.int16).max)

    def update(
        self, graph: FlatGraph, seeds: Seeds, changed: Sequence[int], before: Longs, spread: Shorts
    ) -> tuple[Longs, Shorts]:
        """Return keys and sets; the keys are run anew, which with whole ranks at once is the cheaper half."""
        best, _ = self.propagate(graph, seeds)
        return best, respread(graph, seeds, changed, before, best, spread)


def _told(keys: Longs, route_class: int, order: npt.NDArray[np.integer]) -> Longs:
    """Do what `kernels.told` does, and leave "no route" as it is."""
    length = ((keys >> TIE_BITS) & LENGTH_MASK) + 1
    heard: Longs = (((route_class << LENGTH_BITS) | length) << TIE_BITS) | (order + 1)
    return np.where(keys == NONE, NONE, heard)


class _Special:
    """Upstreams that tell their neighbours different things; each is handled by itself."""

    def __init__(self, seeds: Seeds) -> None:
        self._seeds = seeds
        self.nodes = np.flatnonzero(seeds.acts.block != NO_SEED)

    def between(self, start: int, end: int) -> npt.NDArray[np.intp]:
        return self.nodes[np.searchsorted(self.nodes, start) : np.searchsorted(self.nodes, end)]

    def mark(self, nodes: npt.NDArray[np.intp], bound: Flags, strictly_own: Flags) -> None:
        """Mark those of some special nodes that use nothing but their own session."""
        bound[nodes] |= strictly_own[nodes]

    def tell(
        self,
        rows: Adjacency,
        route_class: int,
        nodes: npt.NDArray[np.intp],
        heard: Longs,
        best: Longs,
        bound: Flags,
    ) -> None:
        """Let the bound ones of some nodes tell each neighbour what it shall hear, and everybody else nothing.

        `heard` is what each node would tell without action communities; a bound one's is taken away.
        """
        for node in nodes[bound[nodes]]:
            extra = block_of(self._seeds, int(node), route_class, self._seeds.acts.extra)
            keys = heard[node] + (extra.astype(np.int64) << TIE_BITS)
            np.minimum.at(best, rows.row(int(node)), np.where(extra == BLOCKED, NONE, keys))
            heard[node] = NONE


def _climb(graph: FlatGraph, best: Longs, bound: Flags, special: _Special) -> None:
    """Settle customer routes, lowest rank first. `best` holds own keys on entry."""
    heard = np.full(len(graph), NONE, dtype=np.int64)
    learned = np.full(len(graph), NONE, dtype=np.int64)
    customers = graph.links.customers
    for start, end in reversed(list(zip(graph.level_ptr[:-1], graph.level_ptr[1:], strict=True))):
        here = slice(start, end)
        first, last = customers.ptr[start], customers.ptr[end]
        if last > first:
            told = np.minimum.reduceat(heard[customers.to[first:last]], customers.ptr[here] - first)
            learned[here] = np.minimum(learned[here], told)
        specials = special.between(start, end)
        if len(specials):
            special.mark(specials, bound, best >> TIE_BITS < learned >> TIE_BITS)
        # An own session's tie bits are the lowest, so it wins against a learned route that is as good.
        best[here] = np.minimum(best[here], learned[here])
        heard[here] = _told(best[here], CUSTOMER, graph.order[here])
        special.tell(graph.links.providers, CUSTOMER, specials, heard, learned, bound)


def _cross(graph: FlatGraph, best: Longs, bound: Flags, special: _Special) -> None:
    """Tell peers of the customer routes."""
    nodes = np.flatnonzero(best < PEER_KEY)
    heard = np.full(len(graph), NONE, dtype=np.int64)
    heard[nodes] = _told(best[nodes], PEER, graph.order[nodes])
    special.tell(graph.links.peers, PEER, special.nodes, heard, best, bound)
    edges, counts = edges_of(graph.links.peers, nodes)
    np.minimum.at(best, graph.links.peers.to[edges], np.repeat(heard[nodes], counts))


def _descend(graph: FlatGraph, best: Longs, bound: Flags, special: _Special) -> None:
    """Settle everything that is left, highest rank first."""
    heard = np.full(len(graph), NONE, dtype=np.int64)
    providers = graph.links.providers
    for start, split, end in zip(graph.level_ptr[:-1], graph.level_split, graph.level_ptr[1:], strict=True):
        if split > start:
            first = providers.ptr[start]
            told = heard[providers.to[first : providers.ptr[split]]]
            low = np.minimum.reduceat(told, providers.ptr[start:split] - first)
            best[start:split] = np.minimum(best[start:split], low)
        heard[start:end] = _told(best[start:end], PROVIDER, graph.order[start:end])
        special.tell(graph.links.customers, PROVIDER, special.between(start, end), heard, best, bound)
