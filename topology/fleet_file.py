"""The fleet in files: JSON, or GraphML by way of networkx.

JSON (places are [latitude, longitude] in degrees; everything under a session but `upstream` may be left out):

    {"name": "example", "asn": 64500,
     "regions": {"europe": [50, 12]},
     "profile": {"bit_s_per_session": 200000, "handshake_interval_s": 3600, "reconnect_window_s": 60},
     "pops": [{"name": "fra1", "region": "europe", "place": [50.1, 8.7],
               "capacity": {"sessions": 20000, "bit_s": 40000000000, "handshakes_s": 400},
               "sessions": [{"upstream": 1299, "name": "fra1-as1299", "relation": "transit", "prepend": 1, "med": 0,
                             "no_export": false, "local_pref": "customer",
                             "actions": [{"asn": 174, "prepend": 2}, {"neighbors": "peers"}]}]}]}

`name` is what the agents' configuration calls the fleet; only a playbook needs it. `profile` says what a session costs
(`topology.demand.Profile`); what it leaves out is as written here. An action without `prepend` blocks.
GraphML holds the same as a graph: see `to_networkx`.
"""

from __future__ import annotations

import json
import reprlib
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.etree.ElementTree import ParseError

import networkx as nx

from popctl.wire import strict_json
from popctl.wire.errors import WireError
from topology.announce import LocalPref
from topology.demand import Profile
from topology.errors import Problem, TopologyError
from topology.fleet_check import Checker, line_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from topology.fleet import Fleet

FleetGraph: TypeAlias = "nx.MultiDiGraph[str]"
"""What `to_networkx` returns."""


def load(path: Path) -> Fleet:
    """Read a fleet; `.graphml` by networkx, everything else as JSON.

    Raises:
        TopologyError: with every problem of the file, by line and key path where it is JSON.
    """
    text = _text_of(path)
    if path.suffix == ".graphml":
        return from_networkx(_graph_of(text, source=str(path)), source=str(path))
    return parse(text, source=str(path))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError([Problem(file=str(path), line=0, text=f"cannot be read: {error}")]) from error


def _graph_of(text: str, *, source: str) -> FleetGraph:
    """Return the graph of a GraphML file."""
    try:
        graph: FleetGraph = nx.parse_graphml(text, force_multigraph=True)
    except (ParseError, nx.NetworkXError, ValueError, LookupError, TypeError, AttributeError) as error:
        # networkx lets out what its own conversions raise: of an unknown attr.type, say, a KeyError.
        reason = f"{type(error).__name__}: {reprlib.repr(str(error))}"
        raise TopologyError([Problem(file=source, line=0, text=f"cannot be read as GraphML: {reason}")]) from error
    if not graph.is_directed():
        text = 'is undirected: a session goes from a PoP to its upstream, so write edgedefault="directed"'
        raise TopologyError([Problem(file=source, line=0, text=text)])
    return graph


def load_pop(path: Path, fleet: Fleet) -> Fleet:
    """Read one more PoP, an entry of `pops`, from JSON; return the fleet with it. Raises `TopologyError` as `load`."""
    text = _text_of(path)
    return Checker(str(path), text).with_pop(fleet, _value_of(text, source=str(path)))


def place_finder(path: Path, fleet: Fleet, *, added: Path | None = None) -> Callable[[int], tuple[str, int]]:
    """Return what tells file and line of a session's upstream, by the session's index; line 0 where it is no JSON.

    The last PoP may have come from a file of its own, `added`.
    """

    def place(session: int) -> tuple[str, int]:
        pop = fleet.sessions[session].pop
        number = session - next(index for index, one in enumerate(fleet.sessions) if one.pop == pop)
        file: Path = path
        start: tuple[str | int, ...] = ("pops", pop)
        if added is not None and pop == len(fleet.pops) - 1:
            file, start = added, ()
        try:
            return str(file), line_of(file.read_text(encoding="utf-8"), (*start, "sessions", number, "upstream"))
        except (OSError, ValueError, IndexError):
            return str(file), 0

    return place


def parse(text: str, *, source: str) -> Fleet:
    """Read a fleet from JSON. Raises `TopologyError` as `load` does."""
    return Checker(source, text).fleet(_value_of(text, source=source))


def _value_of(text: str, *, source: str) -> object:
    try:
        return strict_json.read(text)
    except WireError as error:
        line = text.count("\n", 0, error.offset) + 1 if error.offset else 0
        said = f"{error.problem}: {error.found!s}" if error.found else error.problem
        raise TopologyError([Problem(file=source, line=line, text=said)]) from error


def to_networkx(fleet: Fleet) -> FleetGraph:
    """Return the fleet as a multigraph that GraphML can hold.

    The graph has `asn`, the keys of `profile`, and `name` if the fleet has one. Nodes: a PoP under its name with
    `kind="pop"`, `region`, `latitude_deg`, `longitude_deg`, `sessions`, `bit_s` and `handshakes_s`; an upstream under
    its AS number with `kind="upstream"`; a region under `region:NAME` with `kind="region"` and its place. Edges: one
    per session, from the PoP to the upstream, with `name`, `relation`, `prepend`, `med`, `no_export`, `local_pref` and
    `actions` (as JSON).
    """
    graph: FleetGraph = nx.MultiDiGraph(asn=fleet.asn, **asdict(fleet.profile), **_named(fleet))
    for name, place in fleet.regions.items():
        graph.add_node(
            f"region:{name}", kind="region", latitude_deg=place.latitude_deg, longitude_deg=place.longitude_deg
        )
    for pop, entry in zip(fleet.pops, to_json(fleet)["pops"], strict=True):
        spot = {} if pop.place is None else dict(zip(_PLACE, entry["place"], strict=True))
        graph.add_node(pop.name, kind="pop", region=pop.region, **spot, **entry["capacity"])
        for session in entry["sessions"]:
            upstream = str(session.pop("upstream"))
            graph.add_node(upstream, kind="upstream")
            graph.add_edge(pop.name, upstream, **(session | {"actions": json.dumps(session["actions"])}))
    return graph


_PLACE = ("latitude_deg", "longitude_deg")
_CAPACITY = ("sessions", "bit_s", "handshakes_s")


def from_networkx(graph: FleetGraph, *, source: str = "graph") -> Fleet:
    """Read a fleet from a graph as `to_networkx` makes it. Raises `TopologyError` with every problem."""
    kinds: dict[str, list[tuple[str, dict[str, Any]]]] = {"region": [], "pop": [], "upstream": []}
    problems = []
    for node, attributes in graph.nodes(data=True):
        if attributes.get("kind") in kinds:
            kinds[attributes["kind"]].append((node, attributes))
        else:
            problems.append(Problem(file=source, line=0, text=f"node {node}: unknown kind {attributes.get('kind')!r}"))
    named = {"name": graph.graph["name"]} if graph.graph.get("name") else {}
    value = {
        **named,
        "asn": graph.graph.get("asn"),
        "profile": {one.name: graph.graph[one.name] for one in fields(Profile) if one.name in graph.graph},
        "regions": {node.removeprefix("region:"): [at.get(key) for key in _PLACE] for node, at in kinds["region"]},
        "pops": [_pop(graph, node, attributes, problems, source) for node, attributes in kinds["pop"]],
    }
    if problems:
        raise TopologyError(problems)
    return Checker(source, None).fleet(value)


def _pop(
    graph: FleetGraph, node: str, attributes: dict[str, Any], problems: list[Problem], source: str
) -> dict[str, Any]:
    sessions = []
    for _, upstream, edge in graph.out_edges(node, data=True):
        try:
            actions = strict_json.read(str(edge.get("actions", "[]")))
            sessions.append(edge | {"upstream": int(upstream), "actions": actions})
        except (ValueError, WireError):
            text = f"edge {node}-{upstream}: not to an AS number, or actions are not JSON"
            problems.append(Problem(file=source, line=0, text=text))
    place = [attributes[key] for key in _PLACE if key in attributes]
    return {
        "name": node,
        "region": attributes.get("region"),
        "capacity": {key: attributes[key] for key in _CAPACITY if key in attributes},
        "sessions": sessions,
        **({"place": place} if place else {}),
    }


def _named(fleet: Fleet) -> dict[str, str]:
    return {"name": fleet.name} if fleet.name else {}


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def to_json(fleet: Fleet) -> dict[str, Any]:
    """Return what `parse` reads, everything written out."""
    entries: list[dict[str, Any]] = []
    for pop in fleet.pops:
        capacity = {key: getattr(pop.capacity, key) for key in _CAPACITY}
        place = {} if pop.place is None else {"place": [pop.place.latitude_deg, pop.place.longitude_deg]}
        entries.append({"name": pop.name, "region": pop.region, **place, "capacity": capacity, "sessions": []})
    for session in fleet.sessions:
        told = session.announcement
        entries[session.pop]["sessions"].append(
            {
                "upstream": session.upstream,
                "name": session.name,
                "relation": str(session.relation),
                "prepend": told.prepend,
                "med": told.med,
                "no_export": told.no_export,
                "local_pref": LocalPref(told.local_pref).name.lower(),
                "actions": [_given(asdict(action)) for action in told.actions],
            }
        )
    regions = {name: [place.latitude_deg, place.longitude_deg] for name, place in fleet.regions.items()}
    profile = asdict(fleet.profile)
    return {**_named(fleet), "asn": fleet.asn, "regions": regions, "profile": profile, "pops": entries}
