"""The AS graph compiled to flat arrays: what every propagation runs on.

Nodes are ASes sorted top first: a provider always has a smaller index than its customers. A node's *rank* is the
length of the longest chain of customers below it (0: a stub), and nodes of one rank are neighbours in the index, so one
rank is one slice. Adjacency is compressed sparse rows; every row is sorted by node, so that
memory is read in order.

Provider cycles (three ASes that each buy from the next; siblings, or an error of inference) have no top. Each is
collapsed into one node that speaks for all its ASes, and reported in `collapsed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import networkx as nx
import numpy as np
import numpy.typing as npt

from topology.links import distinct

if TYPE_CHECKING:
    from topology.links import AsLinks

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Shorts: TypeAlias = npt.NDArray[np.int16]


class Adjacency(NamedTuple):
    """Rows of neighbours: those of node i are `to[ptr[i]:ptr[i + 1]]`. A tuple, because compiled loops take those."""

    ptr: Ints
    to: Ints

    def row(self, node: int) -> Ints:
        """Return the neighbours of `node`, by ascending AS number."""
        return self.to[self.ptr[node] : self.ptr[node + 1]]


class Links(NamedTuple):
    """All links of a graph, seen from each end."""

    providers: Adjacency
    peers: Adjacency
    customers: Adjacency


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatGraph:
    """A compiled AS graph. Nothing in it depends on any announcement."""

    asn: Longs
    """Node -> AS number; of a collapsed cycle the lowest one."""
    members: Longs
    """Every AS number of the graph, ascending."""
    node_of_member: Ints
    """Aligned with `members`."""
    order: Ints
    """Node -> its place among all nodes by AS number: the lower wins a tie."""
    by_order: Ints
    """The inverse of `order`."""
    rank: Ints
    level_ptr: Ints
    """Level k (0 is the top one) holds the nodes `level_ptr[k]` up to `level_ptr[k + 1]`."""
    level_split: Ints
    """Nodes of level k from here on have no providers."""
    links: Links
    region: Shorts
    regions: tuple[str, ...]
    collapsed: tuple[tuple[int, ...], ...] = ()
    """The AS numbers of every provider cycle."""

    def __len__(self) -> int:
        return len(self.asn)

    def node(self, asn: int) -> int | None:
        """Return the node of an AS, or None when the graph does not have it."""
        place = int(np.searchsorted(self.members, asn))
        if place == len(self.members) or self.members[place] != asn:
            return None
        return int(self.node_of_member[place])

    def nodes(self, asns: Longs) -> Ints:
        """Return the node of every AS; -1 where the graph does not have it."""
        place = np.minimum(np.searchsorted(self.members, asns), max(len(self.members) - 1, 0))
        if not len(self.members):
            return np.full(len(asns), -1, dtype=np.int32)
        return np.where(self.members[place] == asns, self.node_of_member[place], -1).astype(np.int32)


def edges_of(adjacency: Adjacency, nodes: npt.NDArray[np.integer]) -> tuple[Longs, Longs]:
    """Return (positions in `adjacency.to`, number of edges per node) of the rows of `nodes`, in their order."""
    starts = adjacency.ptr[nodes].astype(np.int64)
    counts = adjacency.ptr[nodes + 1] - starts
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) if len(nodes) else starts
    return offsets + np.arange(len(offsets)), counts


def compile_links(links: AsLinks) -> FlatGraph:
    """Compile a graph. Links inside a cycle vanish; where both kinds remain between two nodes, transit wins."""
    group, collapsed = _collapse(links)
    count = int(group.max()) + 1 if len(group) else 0
    transit = _distinct(group[links.transit], count)
    transit = transit[transit[:, 0] != transit[:, 1]]
    peering = _distinct(np.sort(group[links.peering], axis=1), count)
    peering = peering[(peering[:, 0] != peering[:, 1]) & ~_linked(peering, transit, count)]

    lowest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(lowest, group, links.asns)
    rank = _ranks(transit, count)
    orphan = np.bincount(transit[:, 1], minlength=count) == 0
    top_first = np.lexsort((lowest, orphan, -rank))
    index = np.empty(count, dtype=np.int32)
    index[top_first] = np.arange(count, dtype=np.int32)

    asn, rank, orphan = lowest[top_first], rank[top_first], orphan[top_first]
    order = np.empty(count, dtype=np.int32)
    by_order = np.argsort(asn, kind="stable").astype(np.int32)
    order[by_order] = np.arange(count, dtype=np.int32)
    levels = np.flatnonzero(np.diff(rank, prepend=-1)) if count else np.zeros(0, dtype=np.int64)
    level_ptr = np.append(levels, count).astype(np.int32)
    orphans = np.add.reduceat(orphan.astype(np.int32), levels) if count else np.zeros(0, dtype=np.int32)
    region = np.empty(count, dtype=np.int16)
    region[index[group][::-1]] = links.region[::-1]
    above, below = index[transit].T
    left, right = index[peering].T
    return FlatGraph(
        asn=asn,
        members=links.asns,
        node_of_member=index[group],
        order=order,
        by_order=by_order,
        rank=rank.astype(np.int32),
        level_ptr=level_ptr,
        level_split=(level_ptr[1:] - orphans).astype(np.int32),
        links=Links(
            providers=_rows(below, above, count),
            peers=_rows(np.concatenate([left, right]), np.concatenate([right, left]), count),
            customers=_rows(above, below, count),
        ),
        region=region,
        regions=links.regions,
        collapsed=collapsed,
    )


def _distinct(rows: npt.NDArray[np.integer], count: int) -> Ints:
    packed = distinct(rows[:, 0].astype(np.int64) * count + rows[:, 1])
    return np.stack([packed // max(count, 1), packed % max(count, 1)], axis=1).astype(np.int32)


def _linked(rows: Ints, transit: Ints, count: int) -> npt.NDArray[np.bool_]:
    """Tell for each pair whether transit links it already."""
    pairs = np.sort(transit, axis=1).astype(np.int64)
    return np.isin(rows[:, 0].astype(np.int64) * count + rows[:, 1], pairs[:, 0] * count + pairs[:, 1])


def _rows(start: Ints, end: Ints, count: int) -> Adjacency:
    packed = np.sort(start.astype(np.int64) * count + end)
    ptr = np.zeros(count + 1, dtype=np.int32)
    np.cumsum(np.bincount(start, minlength=count), out=ptr[1:])
    return Adjacency(ptr=ptr, to=(packed % max(count, 1)).astype(np.int32))


def _ranks(transit: Ints, count: int) -> Longs:
    """Return the longest chain of customers below each node; -1 for nodes in or above a cycle.

    Kahn's algorithm from the bottom, one rank per round.
    """
    upward = _rows(transit[:, 1], transit[:, 0], count)
    waiting = np.bincount(transit[:, 0], minlength=count)
    rank = np.full(count, -1, dtype=np.int64)
    front = np.flatnonzero(waiting == 0)
    level = 0
    while len(front):
        rank[front] = level
        edges, _ = edges_of(upward, front)
        reached, times = np.unique(upward.to[edges], return_counts=True)
        waiting[reached] -= times
        front = reached[waiting[reached] == 0]
        level += 1
    return rank


def _collapse(links: AsLinks) -> tuple[Ints, tuple[tuple[int, ...], ...]]:
    """Return the group of each AS (cycles share one) and the AS numbers of each cycle."""
    count = len(links.asns)
    stuck = _ranks(links.transit, count) < 0
    group = np.arange(count, dtype=np.int32)
    if not stuck.any():
        return group, ()
    inside = links.transit[stuck[links.transit].all(axis=1)]
    graph: nx.DiGraph[int] = nx.DiGraph(inside.tolist())
    cycles = sorted(sorted(part) for part in nx.strongly_connected_components(graph) if len(part) > 1)
    for cycle in cycles:
        group[cycle] = cycle[0]
    _, dense = np.unique(group, return_inverse=True)
    return dense.astype(np.int32), tuple(tuple(links.asns[cycle].tolist()) for cycle in cycles)
