"""Whether what an engine found is what the object-level reference finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.topology import reference
from tests.unit.topology.loops import PlainLoops
from topology.engine import engine_named, has_numba
from topology.keys import LENGTH_BITS, NONE, TIE_BITS
from topology.model import parents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from topology.engine import Engine
    from topology.fleet import Fleet
    from topology.model import Model, Solution

ENGINES: list[Engine] = [PlainLoops(), engine_named("numpy"), *([engine_named("numba")] if has_numba() else [])]


def agrees(wanted: Mapping[int, reference.As], fleet: Fleet, model: Model, solution: Solution) -> None:
    """Assert that class, length, first choice and tied PoPs of every AS are those of the reference."""
    graph, name = model.attachment.graph, model.engine.name
    above = parents(graph.by_order, solution.best)
    for asn, asys in wanted.items():
        node = graph.node(asn)
        rank = asys.best()
        key = int(solution.best[node])
        assert (None if key == NONE else divmod(key >> TIE_BITS, 1 << LENGTH_BITS)) == rank, (name, asn)
        if rank is None:
            continue
        assert graph.asn[above[node]] == asys.first_choice(), (name, asn)
        row, pops = solution.spread[node], asys.pops()
        assert {int(row[-2]), len(fleet.pops) - 1 - int(row[-1])} == {min(pops), max(pops)}, (name, asn)
        for index, region in enumerate((*graph.regions, "")):
            nearest = model.attachment.preference.pop_of_rank[index, row[index]]
            assert nearest == reference.nearest(fleet, region, pops), (name, asn)
