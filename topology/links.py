"""The AS graph as it is written down: AS numbers, provider-customer links, peerings, regions.

`AsLinks` is the meeting point of every source (CAIDA files, networkx, the generator) and may still contain provider
cycles. `topology.flat` compiles it. networkx is the interchange form: a `DiGraph` whose nodes are AS numbers with

- `region`: name of the region where most of the AS's users are, absent when not known;

and whose edges carry

- `relation="transit"`: from the provider to the customer, one edge per link;
- `relation="peering"`: one edge per link in either direction (a second one the other way is the same link).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import networkx as nx
import numpy as np
import numpy.typing as npt

from topology.errors import Problem, TopologyError

if TYPE_CHECKING:
    from collections.abc import Iterable

AsGraph: TypeAlias = "nx.DiGraph[int]"
"""A networkx graph with the attributes that the module's docstring names."""

LARGEST_ASN = 4_294_967_294
"""RFC 7300: 4294967295 is reserved; RFC 7607: 0 is no AS."""

TRANSIT = "transit"
PEERING = "peering"
NO_REGION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class AsLinks:
    """ASes and links in columns. Positions index `asns`."""

    asns: npt.NDArray[np.int64]
    """Ascending, without duplicates."""
    transit: npt.NDArray[np.int32]
    """Rows (position of the provider, position of the customer)."""
    peering: npt.NDArray[np.int32]
    """Rows of two positions, the smaller first."""
    region: npt.NDArray[np.int16]
    """Index into `regions` per AS, or `NO_REGION`."""
    regions: tuple[str, ...] = ()


def links_from_pairs(
    transit: npt.NDArray[np.int64],
    peering: npt.NDArray[np.int64],
    *,
    lone: Iterable[int] = (),
    region_of: dict[int, str] | None = None,
) -> AsLinks:
    """Build from rows of AS numbers, each link once or repeated.

    Args:
        transit: rows (provider, customer).
        peering: rows of two peers in any order.
        lone: ASes that may have no link at all.
        region_of: AS number to region name.
    """
    named = region_of or {}
    everything = [transit.ravel(), peering.ravel(), np.fromiter((*lone, *named), dtype=np.int64)]
    asns = distinct(np.concatenate(everything))
    regions = tuple(sorted(set(named.values())))
    region = np.full(len(asns), NO_REGION, dtype=np.int16)
    if named:
        number = {name: index for index, name in enumerate(regions)}
        positions = np.searchsorted(asns, np.fromiter(named, dtype=np.int64, count=len(named)))
        region[positions] = [number[name] for name in named.values()]
    peers = np.sort(np.searchsorted(asns, peering), axis=1)
    return AsLinks(
        asns=asns,
        transit=_unique_rows(np.searchsorted(asns, transit), len(asns)),
        peering=_unique_rows(peers, len(asns)),
        region=region,
        regions=regions,
    )


def distinct(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sort and drop repeated values. Several times faster than `numpy.unique` on millions."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _unique_rows(rows: npt.NDArray[Any], count: int) -> npt.NDArray[np.int32]:
    """Sort rows of positions and drop repeated ones, by way of one integer per row."""
    packed = distinct(rows[:, 0].astype(np.int64) * max(count, 1) + rows[:, 1])
    return np.stack([packed // max(count, 1), packed % max(count, 1)], axis=1).astype(np.int32)


def to_networkx(links: AsLinks) -> AsGraph:
    """Return the graph in interchange form."""
    graph: AsGraph = nx.DiGraph()
    for asn, region in zip(links.asns.tolist(), links.region.tolist(), strict=True):
        graph.add_node(asn, **({} if region == NO_REGION else {"region": links.regions[region]}))
    for relation, rows in ((TRANSIT, links.transit), (PEERING, links.peering)):
        graph.add_edges_from(links.asns[rows].tolist(), relation=relation)
    return graph


def from_networkx(graph: AsGraph, *, source: str = "graph") -> AsLinks:
    """Read a graph in interchange form.

    Raises:
        TopologyError: with every node that is no AS number and every edge without a known or with a contradicting
            relation.
    """
    problems = [
        Problem(file=source, line=0, text=f"node {node!r} is not an AS number of 1..{LARGEST_ASN}")
        for node in graph
        if not isinstance(node, int) or not 1 <= node <= LARGEST_ASN
    ]
    rows: dict[str, list[tuple[int, int]]] = {TRANSIT: [], PEERING: []}
    for start, end, relation in graph.edges(data="relation"):
        if relation not in rows:
            problems.append(Problem(file=source, line=0, text=f"edge {start}-{end}: unknown relation {relation!r}"))
        elif start == end:
            problems.append(Problem(file=source, line=0, text=f"edge {start}-{end}: an AS has no link to itself"))
        elif graph.has_edge(end, start) and graph.edges[end, start].get("relation") != relation:
            problems.append(Problem(file=source, line=0, text=f"edge {start}-{end}: the two directions disagree"))
        else:
            rows[relation].append((start, end))
    if problems:
        raise TopologyError(problems)
    return links_from_pairs(
        np.array(rows[TRANSIT], dtype=np.int64).reshape(-1, 2),
        np.array(rows[PEERING], dtype=np.int64).reshape(-1, 2),
        lone=graph.nodes,
        region_of={node: str(region) for node, region in graph.nodes(data="region") if region is not None},
    )
