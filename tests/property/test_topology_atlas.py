"""Every connected graph of up to 7 nodes (networkx's atlas), with sampled relationships, against the reference.

Of graphs of up to four nodes every labelling is tried, of larger ones a few; by every engine, tied sets too.
"""

from __future__ import annotations

import random
from itertools import product
from typing import TYPE_CHECKING

import networkx as nx
import pytest

from tests.unit.topology import reference
from tests.unit.topology.agreement import ENGINES, agrees
from tests.unit.topology.worlds import REGIONS, fleet, graph
from topology.attach import attach
from topology.flat import compile_links
from topology.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = [shape for shape in nx.graph_atlas_g() if len(shape) and nx.is_connected(shape)]
ALL_TRIED = 4
"""Nodes of the largest shapes of which every labelling is tried."""
SAMPLES = {5: 40, 6: 10, 7: 3}
"""Labellings per larger shape, by its nodes: there are 21, 112 and 853 shapes."""
KINDS = "pud"
"""Of an edge: peering, transit from the second node to the first, transit from the first to the second."""


def labellings(shape: nx.Graph[int], source: random.Random) -> Iterator[str]:
    """Yield one kind per edge, without circles of providers: these are collapsed, of which the reference knows nothing.

    Of most random labellings of a large shape there is a circle, so those are made along a random order of the nodes.
    """
    if len(shape) <= ALL_TRIED:
        yield from (
            "".join(kinds)
            for kinds in product(KINDS, repeat=shape.number_of_edges())
            if nx.is_directed_acyclic_graph(nx.DiGraph(links(shape, "".join(kinds))[0]))
        )
        return
    for _ in range(SAMPLES[len(shape)]):
        height = list(range(len(shape)))
        source.shuffle(height)
        down = ["d" if height[left] < height[right] else "u" for left, right in shape.edges]
        yield "".join("p" if source.random() < 0.3 else kind for kind in down)


def links(shape: nx.Graph[int], kinds: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return (provider, customer) and peers, by AS numbers from 1."""
    transit, peering = [], []
    for (left, right), kind in zip(shape.edges, kinds, strict=True):
        pair = (right + 1, left + 1) if kind == "u" else (left + 1, right + 1)
        (peering if kind == "p" else transit).append(pair)
    return transit, peering


def test_the_atlas_has_them_all() -> None:
    assert len(SHAPES) == 996
    samples = {nodes: SAMPLES[nodes] * sum(len(shape) == nodes for shape in SHAPES) for nodes in SAMPLES}
    assert samples == {5: 840, 6: 1120, 7: 2559}
    # Every edge is absent from transit, or points up or down, without circles: the labelled acyclic digraphs.
    counts = [len(list(labellings(nx.complete_graph(nodes), random.Random(0)))) for nodes in range(1, ALL_TRIED + 1)]
    assert counts == [1, 3, 25, 543]


@pytest.mark.parametrize("nodes", range(1, 8))
def test_small_connected_graphs_are_routed_as_the_reference_does(nodes: int) -> None:
    source = random.Random(nodes)
    for shape in (shape for shape in SHAPES if len(shape) == nodes):
        for kinds in labellings(shape, source):
            transit, peering = links(shape, kinds)
            region_of = {node + 1: source.choice(sorted(REGIONS)) for node in shape}
            one = graph(transit, peering, lone=[node + 1 for node in shape], region_of=region_of)
            sites = fleet(*((pop, source.randrange(nodes) + 1) for pop in range(3)), regions=tuple(sorted(REGIONS)))
            attachment = attach(compile_links(one), sites)
            wanted = reference.solve(one, sites, sites.plan())
            for engine in ENGINES:
                model = Model(attachment, engine)
                agrees(wanted, sites, model, model.solve(sites.plan()))
