"""The fleet attached to the AS graph: which node every session meets, and which PoP is nearest to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from topology import keys
from topology.errors import Problem, TopologyError
from topology.flat import FlatGraph, Shorts
from topology.fleet import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Which PoP is nearest, per region: the last tie-break, hot potato."""

    rank: Shorts
    """Rows of regions (the last row: region unknown), columns of PoPs: place in the order of nearness, then of PoP."""
    pop_of_rank: Shorts
    """The inverse of `rank`, row by row."""
    distance_km: npt.NDArray[np.int32]

    @property
    def width(self) -> int:
        """Columns of a spread row: the nearest PoP per region, then lowest and highest PoP of the tied set."""
        return len(self.rank) + 2

    def row(self, pops: Iterable[int]) -> Shorts:
        """Return the spread row of a set of PoPs."""
        chosen = np.fromiter(pops, dtype=np.int64)
        last = self.rank.shape[1] - 1
        return np.concatenate([self.rank[:, chosen].min(axis=1), [chosen.min(), last - chosen.max()]]).astype(np.int16)


def preference(graph: FlatGraph, fleet: Fleet) -> Preference:
    """Order the PoPs by distance from every region of the graph."""
    distance = np.array(
        [[fleet.distance_km(region, pop) for pop in range(len(fleet.pops))] for region in (*graph.regions, "")],
        dtype=np.int32,
    ).reshape(len(graph.regions) + 1, len(fleet.pops))
    nearest = np.argsort(distance, axis=1, kind="stable").astype(np.int16)
    rank = np.argsort(nearest, axis=1, kind="stable").astype(np.int16)
    return Preference(rank=rank, pop_of_rank=nearest, distance_km=distance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A fleet and a graph that fit together."""

    graph: FlatGraph
    fleet: Fleet
    preference: Preference
    node_of_session: tuple[int, ...]
    sessions_at: Mapping[int, tuple[int, ...]]
    """Node -> indices of the sessions with that upstream."""


def attach(
    graph: FlatGraph, fleet: Fleet, *, source: str = "fleet", place_of: Callable[[int], tuple[str, int]] | None = None
) -> Attachment:
    """Find every session's upstream in the graph.

    Args:
        graph: the Internet.
        fleet: who is attached to it.
        source: the fleet's file, for problems without `place_of`.
        place_of: in which file and line a session stands, by its index; asked only about problems.

    Raises:
        TopologyError: with every session whose upstream the graph does not have, and with every bound that is passed.
    """
    nodes = [graph.node(session.upstream) for session in fleet.sessions]
    problems = []
    for index, (session, node) in enumerate(zip(fleet.sessions, nodes, strict=True)):
        if node is None:
            file, line = (source, 0) if place_of is None else place_of(index)
            text = f"session {session.name}: AS {session.upstream} is not in the AS graph"
            problems.append(Problem(file=file, line=line, text=text))
    if len(graph) > keys.MOST_ASES:
        problems.append(Problem(file=source, line=0, text=f"the AS graph has more than {keys.MOST_ASES} ASes"))
    if len(fleet.pops) > np.iinfo(np.int16).max:
        problems.append(Problem(file=source, line=0, text=f"more than {np.iinfo(np.int16).max} PoPs"))
    if problems:
        raise TopologyError(problems)
    found = tuple(node for node in nodes if node is not None)
    at: dict[int, list[int]] = {}
    for number, node in enumerate(found):
        at.setdefault(node, []).append(number)
    return Attachment(
        graph=graph,
        fleet=fleet,
        preference=preference(graph, fleet),
        node_of_session=found,
        sessions_at={node: tuple(sessions) for node, sessions in at.items()},
    )
