"""Tied sets brought up to date rank by rank with numpy: only nodes that can differ are looked at.

The keys are given, whole. A node can differ if its class or length changed, if its own sessions did, or if a neighbour
whose route it uses, or used, differs. Such nodes gather their set anew when their rank's turn comes, and wake those who
use them when it did change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from topology.flat import Adjacency, FlatGraph, Longs, Shorts, edges_of
from topology.keys import CUSTOMER, LENGTH_BITS, LENGTH_MASK, NONE, PEER, PEER_KEY, PROVIDER, PROVIDER_KEY, TIE_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.seeds import Seeds

    Flags = npt.NDArray[np.bool_]
    Nodes = npt.NDArray[np.integer]


def respread(graph: FlatGraph, seeds: Seeds, changed: Sequence[int], before: Longs, best: Longs, was: Shorts) -> Shorts:
    """Return the sets that belong to `best`; `was` belonged to `before`, and the seeds differ at `changed` only."""
    work = _Work(graph, seeds, best, was, was.copy(), np.zeros(len(graph), dtype=bool))
    altered = np.flatnonzero(best >> TIE_BITS != before >> TIE_BITS)
    work.dirty[np.array(changed, dtype=np.int64)] = True
    work.dirty[altered] = True
    work.wake(altered, before)
    work.wake(altered, best)
    providers, peers, customers = graph.links
    ranks = list(zip(graph.level_ptr[:-1], graph.level_ptr[1:], strict=True))
    for start, end in reversed(ranks):
        work.settle(start, end, CUSTOMER, customers)
    work.settle(0, len(graph), PEER, peers)
    for start, end in ranks:
        work.settle(start, end, PROVIDER, providers)
    lost = np.flatnonzero(work.dirty & (best == NONE))
    work.spread[lost] = np.iinfo(np.int16).max
    return work.spread


@dataclass(frozen=True, slots=True)
class _Work:
    """One update under way."""

    graph: FlatGraph
    seeds: Seeds
    best: Longs
    was: Shorts
    spread: Shorts
    dirty: Flags
    """Nodes that must gather their set anew."""

    def settle(self, start: int, end: int, route_class: int, rows: Adjacency) -> None:
        """Gather the sets of those dirty nodes of a slice that have a route of this class."""
        nodes = start + np.flatnonzero(self.dirty[start:end])
        low, high = ((0, PEER_KEY), (PEER_KEY, PROVIDER_KEY), (PROVIDER_KEY, NONE))[route_class]
        nodes = nodes[(self.best[nodes] >= low) & (self.best[nodes] < high)]
        if not len(nodes):
            return
        fresh = np.full((len(nodes), self.was.shape[1]), np.iinfo(np.int16).max, dtype=np.int16)
        own = np.flatnonzero(self.seeds.key[nodes] == self.best[nodes])
        fresh[own] = self.seeds.sets[self.seeds.own_set[nodes[own]]]
        edges, counts = edges_of(rows, nodes)
        tellers, places = rows.to[edges], np.repeat(np.arange(len(nodes)), counts)
        used = np.flatnonzero(_uses(self.best[nodes][places], self.best[tellers], route_class))
        if len(used):
            tellers, places = tellers[used], places[used]
            heads = np.flatnonzero(np.diff(places, prepend=-1))
            at = places[heads]
            fresh[at] = np.minimum(fresh[at], np.minimum.reduceat(self.spread[tellers], heads, axis=0))
        self.spread[nodes] = fresh
        self.wake(nodes[(fresh != self.was[nodes]).any(axis=1)], self.best)

    def wake(self, nodes: Nodes, keys: Longs) -> None:
        """Mark all that use what these nodes told with these keys."""
        customer_routes = nodes[keys[nodes] < PEER_KEY]
        providers, peers, customers = self.graph.links
        for rows, route_class, tellers in (
            (providers, CUSTOMER, customer_routes),
            (peers, PEER, customer_routes),
            (customers, PROVIDER, nodes[keys[nodes] != NONE]),
        ):
            edges, counts = edges_of(rows, tellers)
            listeners = rows.to[edges]
            told = np.repeat(keys[tellers], counts)
            self.dirty[listeners[_uses(self.best[listeners], told, route_class)]] = True


def _uses(listener: Longs, teller: Longs, route_class: int) -> Flags:
    """Tell for pairs of a listener and a teller whether the route told is as good as the one the listener has."""
    length = ((teller >> TIE_BITS) & LENGTH_MASK) + 1
    told = teller < (PEER_KEY if route_class != PROVIDER else NONE)
    used: Flags = told & (listener >> TIE_BITS == (route_class << LENGTH_BITS) | length)
    return used
