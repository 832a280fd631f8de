"""networkx in and out, and compilation to flat arrays."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from tests.unit.topology.worlds import graph
from topology.errors import TopologyError
from topology.flat import compile_links
from topology.links import from_networkx, to_networkx


def test_a_graph_survives_the_way_through_networkx() -> None:
    links = graph([(10, 20), (10, 30)], [(20, 30)], lone=[99], region_of={20: "eu", 99: "us"})
    again = from_networkx(to_networkx(links))
    for name in ("asns", "transit", "peering", "region"):
        assert np.array_equal(getattr(again, name), getattr(links, name)), name
    assert again.regions == ("eu", "us")


def test_networkx_edges_carry_documented_relations() -> None:
    made = to_networkx(graph([(10, 20)], [(30, 20)]))
    assert made.edges[10, 20] == {"relation": "transit"}
    assert made.edges[20, 30] == {"relation": "peering"}


def test_every_problem_of_a_networkx_graph_is_listed() -> None:
    wrong: nx.DiGraph[int] = nx.DiGraph()
    wrong.add_edge(1, 2, relation="friend")
    wrong.add_edge(3, 4, relation="transit")
    wrong.add_edge(4, 3, relation="peering")
    wrong.add_edge(5, 5, relation="transit")
    wrong.add_node(0)
    with pytest.raises(TopologyError) as caught:
        from_networkx(wrong, source="g")
    assert str(caught.value).splitlines() == [
        "g: node 0 is not an AS number of 1..4294967294",
        "g: edge 1-2: unknown relation 'friend'",
        "g: edge 3-4: the two directions disagree",
        "g: edge 4-3: the two directions disagree",
        "g: edge 5-5: an AS has no link to itself",
    ]


def test_providers_come_before_customers_and_ranks_are_slices() -> None:
    flat = compile_links(graph([(9, 1), (9, 5), (5, 1), (5, 2), (7, 9)], [(1, 2)]))
    assert flat.asn.tolist() == [7, 9, 5, 1, 2]
    assert flat.rank.tolist() == [3, 2, 1, 0, 0]
    assert flat.level_ptr.tolist() == [0, 1, 2, 3, 5]
    assert flat.level_split.tolist() == [0, 2, 3, 5]
    assert flat.asn[flat.links.providers.row(3)].tolist() == [9, 5]


def test_within_a_rank_ases_without_providers_come_last() -> None:
    flat = compile_links(graph([(1, 3), (2, 4), (5, 2)], []))
    assert flat.asn.tolist() == [5, 2, 1, 3, 4]
    assert flat.level_split.tolist() == [0, 2, 5]


def test_a_provider_cycle_becomes_one_node_and_is_reported() -> None:
    flat = compile_links(graph([(1, 2), (2, 3), (3, 1), (3, 4), (8, 2)], [(4, 1), (1, 9)]))
    assert flat.collapsed == ((1, 2, 3),)
    assert flat.node(1) == flat.node(2) == flat.node(3)
    assert flat.asn[flat.node(2)] == 1
    assert flat.asn[flat.links.customers.row(flat.node(1))].tolist() == [4]
    assert flat.asn[flat.links.providers.row(flat.node(1))].tolist() == [8]
    # The peering 4-1 is beside the transit 3-4 now, and transit wins.
    assert flat.asn[flat.links.peers.row(flat.node(1))].tolist() == [9]


def test_an_as_outside_the_graph_has_no_node() -> None:
    flat = compile_links(graph([(1, 3)]))
    assert [flat.node(asn) for asn in (1, 2, 3, 4)] == [0, None, 1, None]
    assert flat.nodes(np.array([1, 2, 3, 4])).tolist() == [0, -1, 1, -1]


def test_an_empty_graph_compiles() -> None:
    flat = compile_links(graph([]))
    assert len(flat) == 0
    assert flat.node(1) is None
    assert flat.nodes(np.array([1])).tolist() == [-1]
