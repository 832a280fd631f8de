"""Every connected graph of up to 7 nodes (networkx's atlas), with sampled relationships, against the reference."""

from __future__ import annotations

import random

import networkx as nx

from tests.unit.topology import reference
from tests.unit.topology.worlds import fleet, graph
from topology.attach import attach
from topology.engine import engine_named
from topology.flat import compile_links
from topology.keys import LENGTH_BITS, NONE, TIE_BITS
from topology.model import Model, parents


def test_all_small_connected_graphs_are_routed_as_the_reference_does() -> None:
    """Each shape is tried with random relationships on its edges (acyclic by a random order of the nodes)."""
    shapes = [shape for shape in nx.graph_atlas_g() if len(shape) and nx.is_connected(shape)]
    assert len(shapes) == 996
    source = random.Random(7)
    engine = engine_named("auto")
    for shape in shapes:
        height = list(range(len(shape)))
        source.shuffle(height)
        transit, peering = [], []
        for left, right in shape.edges:
            high, low = sorted((left, right), key=height.__getitem__)
            (peering if source.random() < 0.3 else transit).append((high + 1, low + 1))
        links = graph(transit, peering, lone=[node + 1 for node in shape])
        sites = fleet(*((pop, source.randrange(len(shape)) + 1) for pop in range(3)))
        flat = compile_links(links)
        best = Model(attach(flat, sites), engine).solve(sites.plan()).best
        above = parents(flat.by_order, best)
        for asn, asys in reference.solve(links, sites, sites.plan()).items():
            node = flat.node(asn)
            found = None if best[node] == NONE else divmod(int(best[node]) >> TIE_BITS, 1 << LENGTH_BITS)
            assert found == asys.best(), (transit, peering, asn)
            assert found is None or flat.asn[above[node]] == asys.first_choice()
