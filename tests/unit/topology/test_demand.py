"""Demand: the default, the files, and measurements in place of estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.topology.worlds import fleet, graph
from topology.demand import NOT_MEASURED, combine, fitted, load, load_measured
from topology.errors import TopologyError
from topology.flat import compile_links

if TYPE_CHECKING:
    from pathlib import Path

GRAPH = compile_links(graph([(10, 20), (10, 30)], region_of={20: "eu", 30: "us"}))


@given(total=st.integers(0, 10**9), seed=st.integers(0, 99))
def test_the_default_demand_adds_up_exactly_and_is_seeded(total: int, seed: int) -> None:
    demand = fitted(GRAPH, total, seed)
    assert demand.total == total
    assert demand.sessions.tolist() == fitted(GRAPH, total, seed).sessions.tolist()
    assert (demand.sessions >= 0).all()


def test_the_default_demand_is_skewed_as_users_are() -> None:
    big = compile_links(graph([(1, asn) for asn in range(2, 5000)]))
    sessions = sorted(fitted(big, 10**6, 1).sessions.tolist(), reverse=True)
    assert 0.6 < sum(sessions[:500]) / 10**6 < 0.9


def test_rows_without_a_region_take_that_of_the_as(tmp_path: Path) -> None:
    path = tmp_path / "demand.csv"
    path.write_text("asn,sessions,region\n20,5,us\n20,6,\n10,7,\n99,8,eu\n")
    demand = load(path, GRAPH)
    assert GRAPH.asn[demand.node].tolist() == [20, 20, 10]
    assert demand.region.tolist() == [1, 0, 2]
    assert demand.sessions.tolist() == [5, 6, 7]
    assert demand.outside == 8


def test_every_bad_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "demand.csv"
    path.write_text("asn,sessions,region\nx,5,eu\n20,-1,eu\n20,1,mars\n20,1,eu,more\n")
    with pytest.raises(TopologyError) as caught:
        load(path, GRAPH)
    assert [(one.line, one.text) for one in caught.value.problems] == [
        (2, "asn: 'x' is not a whole number of 1..4294967294"),
        (3, "sessions: '-1' is not a whole number of 0..1099511627776"),
        (4, "region 'mars' is none of the AS graph's: eu, us"),
        (5, "has more fields than the header"),
    ]


def test_a_short_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "demand.csv"
    path.write_text("asn,sessions\n20\n")
    with pytest.raises(TopologyError, match=r":2: sessions: '' is not a whole number"):
        load(path, GRAPH)


@pytest.mark.parametrize("text", ["", "asn\n1\n", "asn,sessions,colour\n1,2,3\n"])
def test_a_wrong_header_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "demand.csv"
    path.write_text(text)
    with pytest.raises(TopologyError, match=r":1: the header is not asn,sessions\[,region\]"):
        load(path, GRAPH)


def test_a_missing_file_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read"):
        load(tmp_path / "none", GRAPH)


def test_measured_sessions_take_the_place_of_estimates(tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text("asn,pop,sessions\n20,pop1,3\n20,pop0,4\n99,pop0,9\n")
    sites = fleet((0, 10), (1, 10))
    demand = combine(fitted(GRAPH, 300, 1), load_measured(path, GRAPH, sites))
    here = GRAPH.asn[demand.node] == 20
    assert demand.sessions[here].tolist() == [3, 4]
    assert demand.measured[here].tolist() == [1, 0]
    assert set(demand.measured[~here].tolist()) == {NOT_MEASURED}
    assert demand.outside == 9


def test_a_measurement_may_name_its_region_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text("asn,pop,sessions,region\n20,pop0,3,us\n20,pop0,4,\n99,pop0,9,eu\n")
    sites = fleet((0, 10))
    assert load_measured(path, GRAPH, sites).region.tolist() == [1, 0]
    path.write_text("asn,pop,sessions,region\n20,pop0,3,atlantis\n20,pop9,3,eu\n")
    with pytest.raises(TopologyError) as caught:
        load_measured(path, GRAPH, sites)
    assert [(one.line, one.text) for one in caught.value.problems] == [
        (2, "region 'atlantis' is none of the AS graph's: eu, us"),
        (3, "no PoP is named 'pop9'"),
    ]


def test_a_column_that_stands_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("asn,sessions,sessions\n20,5,900\n")
    with pytest.raises(TopologyError, match=r":1: the header names sessions twice"):
        load(path, GRAPH)
    path.write_text("asn,pop,sessions,pop\n20,pop0,900,pop0\n")
    with pytest.raises(TopologyError, match=r":1: the header names pop twice"):
        load_measured(path, GRAPH, fleet((0, 10)))


def test_a_measurement_at_an_unknown_pop_is_named(tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text("asn,pop,sessions\n20,pop7,3\n")
    with pytest.raises(TopologyError, match=r":2: no PoP is named 'pop7'"):
        load_measured(path, GRAPH, fleet((0, 10)))
