"""Fleet files: what is read, and that everything wrong with one is said at once, by line and key path."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import networkx as nx
import pytest

from tests.unit.topology.worlds import graph
from topology.announce import Action, Announcement, LocalPref, Neighbors, Relation
from topology.attach import attach
from topology.demand import Profile
from topology.errors import TopologyError
from topology.flat import compile_links
from topology.fleet import Fleet, Place
from topology.fleet_file import from_networkx, load, load_pop, parse, place_finder, to_json, to_networkx

if TYPE_CHECKING:
    from pathlib import Path

FLEET: dict[str, Any] = {
    "asn": 64500,
    "regions": {"europe": [50, 12], "asia": [30, 100]},
    "pops": [
        {
            "name": "fra1",
            "region": "europe",
            "place": [50.1, 8.7],
            "capacity": {"sessions": 20000, "bit_s": 40_000_000_000, "handshakes_s": 400},
            "sessions": [
                {"upstream": 1299},
                {
                    "upstream": 3320,
                    "relation": "peer",
                    "prepend": 1,
                    "med": 5,
                    "no_export": True,
                    "local_pref": "backup",
                    "actions": [{"asn": 174, "prepend": 2}, {"neighbors": "peers", "region": "asia"}],
                },
            ],
        },
        {
            "name": "sin1",
            "region": "asia",
            "capacity": {"sessions": 1, "bit_s": 1, "handshakes_s": 1},
            "sessions": [{"upstream": 1299, "name": "second"}],
        },
    ],
}


def fleet() -> Fleet:
    return parse(json.dumps(FLEET), source="f")


def test_a_fleet_file_is_read_with_its_defaults() -> None:
    one = fleet()
    assert [session.name for session in one.sessions] == ["fra1-as1299", "fra1-as3320", "second"]
    assert one.sessions[0].announcement == Announcement()
    assert one.sessions[1].relation is Relation.PEER
    assert one.sessions[1].announcement == Announcement(
        prepend=1,
        med=5,
        no_export=True,
        local_pref=LocalPref.BACKUP,
        actions=(Action(prepend=2, asn=174), Action(prepend=None, neighbors=Neighbors.PEERS, region="asia")),
    )
    assert one.pops[0].place == Place(latitude_deg=50.1, longitude_deg=8.7)
    assert one.pops[1].place is None
    assert one.profile == Profile()
    assert parse(change(["profile"], {"reconnect_window_s": 5}), source="f").profile == Profile(reconnect_window_s=5)


def test_a_fleet_survives_json_networkx_and_graphml(tmp_path: Path) -> None:
    one = fleet()
    assert parse(json.dumps(to_json(one)), source="f") == one
    assert from_networkx(to_networkx(one)) == one
    costly = Profile(bit_s_per_session=2_000_000, handshake_interval_s=600, reconnect_window_s=30)
    named = replace(one, name="vpn-eu", profile=costly)
    assert parse(json.dumps(to_json(named)), source="f") == from_networkx(to_networkx(named)) == named
    path = tmp_path / "fleet.graphml"
    nx.write_graphml(to_networkx(named), path)
    assert load(path) == named


def change(path: list[str | int], value: object) -> str:
    """Return the fleet file with one value replaced, or removed when it is None."""
    copy = json.loads(json.dumps(FLEET))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(copy, indent=1)


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        (["asn"], 0, "asn: 0 is not a whole number of 1..4294967294"),
        (["asn"], None, "asn is missing"),
        (["extra"], 1, "extra: is not known here"),
        (["pops"], [], "pops: no PoP has a session"),
        (["pops"], 7, "pops: is not a list"),
        (["pops", 0], 7, "pops[0]: is not an object"),
        (["regions", "asia"], [100, 0], "regions.asia: [100, 0] is not [latitude, longitude] in degrees"),
        (
            ["pops", 0, "capacity", "sessions"],
            0,
            "pops[0].capacity.sessions: 0 is not a whole number of 1..1099511627776",
        ),
        (
            ["pops", 0, "capacity", "sessions"],
            2**40 + 1,
            "pops[0].capacity.sessions: 1099511627777 is not a whole number of 1..1099511627776",
        ),
        (
            ["pops", 0, "capacity", "handshakes_s"],
            2**40 + 1,
            "pops[0].capacity.handshakes_s: 1099511627777 is not a whole number of 1..1099511627776",
        ),
        (
            ["pops", 0, "capacity", "bit_s"],
            2**60 + 1,
            "pops[0].capacity.bit_s: 1152921504606846977 is not a whole number of 1..1152921504606846976",
        ),
        (["pops", 0, "capacity", "bit_s"], None, "pops[0].capacity: bit_s is missing"),
        (["pops", 0, "capacity"], None, "pops[0]: capacity is missing"),
        (
            ["profile"],
            {"bit_s_per_session": 0},
            "profile.bit_s_per_session: 0 is not a whole number of 1..1152921504606846976",
        ),
        (
            ["profile"],
            {"reconnect_window_s": 86_401},
            "profile.reconnect_window_s: 86401 is not a whole number of 1..86400",
        ),
        (["profile"], {"bits": 1}, "profile.bits: is not known here"),
        (["profile"], 7, "profile: is not an object"),
        (["pops", 1, "name"], "fra1", "pops[1].name: a second PoP named 'fra1'"),
        (["pops", 0, "name"], "a\nb", "pops[0].name: 'a\\nb' is not a name"),
        (["pops", 1, "sessions", 0, "name"], "fra1-as1299", "pops[1].sessions: a second session named 'fra1-as1299'"),
        (
            ["pops", 0, "sessions", 0, "upstream"],
            2**32,
            "pops[0].sessions[0].upstream: 4294967296 is not a whole number of 1..4294967294",
        ),
        (
            ["pops", 0, "sessions", 1, "relation"],
            "friend",
            "pops[0].sessions[1].relation: 'friend' is none of transit, peer",
        ),
        (
            ["pops", 0, "sessions", 1, "local_pref"],
            "low",
            "pops[0].sessions[1].local_pref: 'low' is none of customer, peer, provider, backup",
        ),
        (["pops", 0, "sessions", 1, "no_export"], 1, "pops[0].sessions[1].no_export: 1 is neither true nor false"),
        (
            ["pops", 0, "sessions", 1, "actions", 0, "prepend"],
            0,
            "pops[0].sessions[1].actions[0].prepend: 0 is not a whole number of 1..255",
        ),
    ],
)
def test_a_mistake_is_named_by_key_path(path: list[str | int], value: object, wanted: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse(change(path, value), source="f")
    assert [problem.text for problem in caught.value.problems] == [wanted]


def test_all_mistakes_are_listed_with_their_lines() -> None:
    text = """{
        "asn": -1,
        "pops": [{"name": "a", "region": "r",
        "capacity": {"sessions": 1,
        "bit_s": 0},
        "sessions": [{}]}]}"""
    with pytest.raises(TopologyError) as caught:
        parse(text, source="f")
    assert [(problem.line, problem.text.split(":")[0]) for problem in caught.value.problems] == [
        (2, "asn"),
        (4, "pops[0].capacity"),
        (5, "pops[0].capacity.bit_s"),
        (6, "pops[0].sessions[0]"),
    ]


def test_text_that_is_no_json_is_named_by_line() -> None:
    with pytest.raises(TopologyError, match=r"f:2: not JSON"):
        parse('{\n"asn" 1}', source="f")


@pytest.mark.parametrize("name", ["fleet.json", "fleet.graphml"])
def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(TopologyError, match="cannot be read"):
        load(tmp_path / name)


def test_broken_graphml_is_said_to_be_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "fleet.graphml"
    path.write_text("<graphml>")
    with pytest.raises(TopologyError, match="cannot be read"):
        load(path)


def test_a_graph_of_unknown_nodes_is_refused_with_all_of_them() -> None:
    wrong: nx.MultiDiGraph[str] = nx.MultiDiGraph(asn=64500)
    wrong.add_node("a", kind="router")
    wrong.add_node("b")
    wrong.add_node("p", kind="pop", region="europe", sessions=1, bit_s=1, handshakes_s=1)
    wrong.add_edge("p", "c")
    wrong.add_node("c", kind="upstream")
    with pytest.raises(TopologyError) as caught:
        from_networkx(wrong, source="g")
    assert [problem.text for problem in caught.value.problems] == [
        "node a: unknown kind 'router'",
        "node b: unknown kind None",
        "edge p-c: not to an AS number, or actions are not JSON",
    ]


def test_sessions_with_ases_outside_the_graph_are_all_named() -> None:
    with pytest.raises(TopologyError) as caught:
        attach(compile_links(graph([(1299, 1)])), fleet(), source="f")
    assert str(caught.value) == "f: session fra1-as3320: AS 3320 is not in the AS graph"


def test_of_a_file_the_line_of_such_a_session_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps(to_json(fleet()), indent=1), encoding="utf-8")
    line = next(number for number, text in enumerate(path.read_text().splitlines(), start=1) if "3320," in text)
    with pytest.raises(TopologyError) as caught:
        attach(compile_links(graph([(1299, 1)])), fleet(), place_of=place_finder(path, fleet()))
    assert str(caught.value) == f"{path}:{line}: session fra1-as3320: AS 3320 is not in the AS graph"
    none = tmp_path / "none.graphml"
    assert place_finder(none, fleet())(0) == (str(none), 0)


def test_one_more_pop_is_read_from_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "pop.json"
    path.write_text(json.dumps(FLEET["pops"][1] | {"name": "hkg1", "sessions": [{"upstream": 7}]}))
    grown = load_pop(path, fleet())
    assert [pop.name for pop in grown.pops] == ["fra1", "sin1", "hkg1"]
    assert grown.sessions[-1].pop == 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{", ":1: not JSON"),
        (json.dumps(FLEET["pops"][0]), ":1: name: a second PoP named 'fra1'"),
        ('{"name": "x",\n"region": "",\n"capacity": 1, "sessions": []}', ":2: region: '' is not a name"),
    ],
)
def test_a_bad_new_pop_is_refused(tmp_path: Path, text: str, wanted: str) -> None:
    path = tmp_path / "pop.json"
    path.write_text(text)
    with pytest.raises(TopologyError) as caught:
        load_pop(path, fleet())
    assert wanted in str(caught.value)
