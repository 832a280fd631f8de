"""Propagation on whole ranks at once with numpy. Every answer is bit for bit that of `topology.kernels`.

One rank is one slice of nodes, and all that a rank hears comes from ranks that are settled. So each sweep is a handful
of array operations per rank: gather what the neighbours tell, take the minimum per row (`reduceat`). The same code runs
one scenario (vectors) and many (a column each), because every operation acts on the first axis.
Upstreams with action communities are few; they tell their neighbours one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from topology.flat import edges_of
from topology.kernels import CUSTOMERS, PEERS, PROVIDERS
from topology.keys import CUSTOMER, LENGTH_BITS, LENGTH_MASK, NONE, PEER, PEER_KEY, PROVIDER, PROVIDER_KEY, TIE_BITS
from topology.numpy_update import respread
from topology.seeds import NO_SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.flat import Adjacency, FlatGraph, Longs, Shorts
    from topology.seeds import Seeds

    Flags = npt.NDArray[np.bool_]


_PLACE_BITS = 32
_Item = TypeVar("_Item", bound=np.integer)


class NumpyEngine:
    """The engine that is always there."""

    name = "numpy"

    def propagate(self, graph: FlatGraph, seeds: Seeds) -> tuple[Longs, Flags]:
        """Return the best key of every node, and which nodes' action communities bind."""
        best, bound = _propagate(graph, seeds.key, (seeds,))
        return best, bound

    def batch(self, graph: FlatGraph, scenarios: Sequence[Seeds]) -> Longs:
        """Return the best keys, one column per scenario."""
        best, _ = _propagate(graph, np.stack([seeds.key for seeds in scenarios], axis=1), scenarios)
        return best

    def spread(self, graph: FlatGraph, seeds: Seeds, best: Longs, bound: Flags) -> Shorts:
        """Return the spread row of every node: which PoPs stay tied."""
        return carry(graph, seeds, best, bound, seeds.sets, np.minimum, np.iinfo(np.int16).max)

    def reroute(self, graph: FlatGraph, seeds: Seeds, changed: Sequence[int], before: Longs) -> Longs:
        """Run the keys anew, as `update` does."""
        del changed, before
        return self.propagate(graph, seeds)[0]

    def update(
        self, graph: FlatGraph, seeds: Seeds, changed: Sequence[int], before: Longs, spread: Shorts
    ) -> tuple[Longs, Shorts]:
        """Return keys and sets; the keys are run anew, which with whole ranks at once is the cheaper half."""
        best, _ = self.propagate(graph, seeds)
        return best, respread(graph, seeds, changed, before, best, spread)


def _told(keys: Longs, route_class: int, order: npt.NDArray[np.integer]) -> Longs:
    """Do what `kernels.told` does, and leave "no route" as it is."""
    places = order + 1 if keys.ndim == 1 else (order + 1)[:, np.newaxis]
    length = ((keys >> TIE_BITS) & LENGTH_MASK) + 1
    heard: Longs = (((route_class << LENGTH_BITS) | length) << TIE_BITS) | places
    return np.where(keys == NONE, NONE, heard)


def _propagate(graph: FlatGraph, own: Longs, scenarios: Sequence[Seeds]) -> tuple[Longs, Flags]:
    """Run the three sweeps. `own` is a vector, or a matrix with one column per scenario."""
    special = _Special(scenarios)
    best = np.where(own < PEER_KEY, own, NONE)
    bound = np.zeros(best.shape, dtype=bool)
    learned = np.full(best.shape, NONE, dtype=np.int64)
    _climb(graph, best, learned, bound, special)
    _cross(graph, best, bound, special)
    peering = own >= PEER_KEY
    special.mark(special.nodes, bound, peering & (own != NONE) & (own >> TIE_BITS < best >> TIE_BITS))
    best = np.where(peering & (own >> TIE_BITS <= best >> TIE_BITS), np.minimum(own, best), best)
    _descend(graph, best, bound, special)
    return best, bound


class _Special:
    """Upstreams that tell their neighbours different things; each (node, scenario) is handled by itself."""

    def __init__(self, scenarios: Sequence[Seeds]) -> None:
        self._scenarios = scenarios
        self.nodes = np.unique(np.concatenate([np.flatnonzero(seeds.acts.block != NO_SEED) for seeds in scenarios]))

    def between(self, start: int, end: int) -> npt.NDArray[np.intp]:
        return self.nodes[np.searchsorted(self.nodes, start) : np.searchsorted(self.nodes, end)]

    def mark(self, nodes: npt.NDArray[np.integer], bound: Flags, strictly_own: Flags) -> None:
        """Mark those of some special nodes that use nothing but their own session."""
        for node in nodes:
            for place, seeds in self._places(int(node)):
                if seeds.acts.block[node] != NO_SEED:
                    bound[place] |= strictly_own[place]

    def _places(self, node: int) -> list[tuple[Any, Seeds]]:
        single = len(self._scenarios) == 1
        return [((node,) if single else (node, column), seeds) for column, seeds in enumerate(self._scenarios)]

    def tell(
        self,
        adjacency: Adjacency,
        route_class: int,
        nodes: npt.NDArray[np.integer],
        heard: Longs,
        best: Longs,
        bound: Flags,
    ) -> None:
        """Tell each neighbour of the bound nodes what it shall hear. `heard` is aligned with `nodes`."""
        for index, node in enumerate(nodes):
            for place, seeds in self._places(int(node)):
                if not bound[place]:
                    continue
                row = adjacency.row(int(node))
                extra = _block(seeds, int(node), route_class, seeds.acts.extra)
                column = place[1:]
                keys = heard[(index, *column)] + (extra.astype(np.int64) << TIE_BITS)
                np.minimum.at(best, (row, *column), np.where(extra < 0, NONE, keys))


def _block(seeds: Seeds, node: int, row: int, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    block = 3 * int(seeds.acts.block[node]) + row
    return column[seeds.acts.ptr[block] : seeds.acts.ptr[block + 1]]


def _climb(graph: FlatGraph, best: Longs, learned: Longs, bound: Flags, special: _Special) -> None:
    """Settle customer routes, lowest rank first. `best` holds own customer keys on entry, `learned` is scratch."""
    heard = np.full(best.shape, NONE, dtype=np.int64)
    customers = graph.links.customers
    for start, end in reversed(list(zip(graph.level_ptr[:-1], graph.level_ptr[1:], strict=True))):
        here = slice(start, end)
        if customers.ptr[end] > customers.ptr[start]:
            first = customers.ptr[start]
            told = heard[customers.to[first : customers.ptr[end]]]
            learned[here] = np.minimum(learned[here], np.minimum.reduceat(told, customers.ptr[here] - first, axis=0))
        specials = special.between(start, end)
        strictly_own = best >> TIE_BITS < learned >> TIE_BITS if len(specials) else None
        best[here] = np.where(best[here] >> TIE_BITS <= learned[here] >> TIE_BITS, best[here], learned[here])
        heard[here] = _told(best[here], CUSTOMER, graph.order[here])
        if strictly_own is not None:
            _tell_up(graph, specials, strictly_own, heard, learned, bound, special)


def _tell_up(
    graph: FlatGraph,
    specials: npt.NDArray[np.intp],
    strictly_own: Flags,
    heard: Longs,
    learned: Longs,
    bound: Flags,
    special: _Special,
) -> None:
    """Let the special nodes of one rank tell their providers, and nobody else hear them."""
    special.mark(specials, bound, strictly_own)
    special.tell(graph.links.providers, CUSTOMER, specials, heard[specials], learned, bound)
    heard[specials] = np.where(bound[specials], NONE, heard[specials])


def _cross(graph: FlatGraph, best: Longs, bound: Flags, special: _Special) -> None:
    """Tell peers of the customer routes."""
    has = best < PEER_KEY
    nodes = np.flatnonzero(has if best.ndim == 1 else has.any(axis=1))
    heard = _told(np.where(has[nodes], best[nodes], NONE), PEER, graph.order[nodes])
    specials = special.nodes[np.isin(special.nodes, nodes)]
    own = heard[np.searchsorted(nodes, specials)]
    heard = np.where(bound[nodes], NONE, heard)
    edges, counts = edges_of(graph.links.peers, nodes)
    np.minimum.at(best, graph.links.peers.to[edges], np.repeat(heard, counts, axis=0))
    special.tell(graph.links.peers, PEER, specials, own, best, bound)


def _descend(graph: FlatGraph, best: Longs, bound: Flags, special: _Special) -> None:
    """Settle everything that is left, highest rank first."""
    heard = np.full(best.shape, NONE, dtype=np.int64)
    providers = graph.links.providers
    for start, split, end in zip(graph.level_ptr[:-1], graph.level_split, graph.level_ptr[1:], strict=True):
        if split > start:
            first = providers.ptr[start]
            told = heard[providers.to[first : providers.ptr[split]]]
            low = np.minimum.reduceat(told, providers.ptr[start:split] - first, axis=0)
            best[start:split] = np.minimum(best[start:split], low)
        heard[start:end] = _told(best[start:end], PROVIDER, graph.order[start:end])
        specials = special.between(start, end)
        if len(specials):
            special.tell(graph.links.customers, PROVIDER, specials, heard[specials], best, bound)
            heard[specials] = np.where(bound[specials], NONE, heard[specials])


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
        extra = _block(seeds, int(node), route_class, seeds.acts.extra).astype(np.int64)
        told = _block(seeds, int(node), route_class, seeds.acts.told)
        length = ((best[node] >> TIE_BITS) & LENGTH_MASK) + 1 + extra
        used = np.flatnonzero((extra >= 0) & (best[row] >> TIE_BITS == (route_class << LENGTH_BITS) | length))
        carried.unite(row[used], carried.sets, told[used])
