"""Whatever the values: one line out, the relay accepts it, it reads back; whatever the text: only `WireError`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.model.route import Community, LargeCommunity, Route, RouteKey
from popctl.wire import exabgp_api, relay_api
from popctl.wire.errors import WireError
from tests.unit.bgp.relay_modules import allowlist

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
ASN = 65010


def _prefix(version: int) -> st.SearchStrategy[IPv4Network | IPv6Network]:
    if version == 4:
        return st.builds(lambda bits, length: IPv4Network((bits, length), strict=False), U32, st.integers(0, 32))
    wide = st.integers(0, 2**128 - 1)
    return st.builds(lambda bits, length: IPv6Network((bits, length), strict=False), wide, st.integers(0, 128))


def _address(version: int) -> st.SearchStrategy[IPv4Address | IPv6Address]:
    return U32.map(IPv4Address) if version == 4 else st.integers(0, 2**128 - 1).map(IPv6Address)


def _sorted(one: st.SearchStrategy[Community] | st.SearchStrategy[LargeCommunity]) -> st.SearchStrategy[tuple]:
    return st.lists(one, max_size=4, unique=True).map(lambda values: tuple(sorted(values)))


def _routes(version: int) -> st.SearchStrategy[Route]:
    return st.builds(
        Route,
        prefix=_prefix(version),
        next_hop=_address(version),
        as_path=st.lists(st.just(ASN), max_size=5).map(tuple),
        med=st.none() | U32,
        local_preference=st.none() | U32,
        communities=_sorted(st.builds(Community, U16, U16)),
        large_communities=_sorted(st.builds(LargeCommunity, U32, U32, U32)),
    )


ROUTES = st.sampled_from([4, 6]).flatmap(_routes)
NEIGHBORS = st.sampled_from([4, 6]).flatmap(_address)


@given(neighbor=NEIGHBORS, route=ROUTES)
def test_every_route_is_one_line_that_the_relay_accepts_only_with_a_fitting_allowlist(
    neighbor: IPv4Address | IPv6Address, route: Route
) -> None:
    line = exabgp_api.announce(neighbor, route)
    assert line.isascii()
    assert line.isprintable()
    names = (route.communities, route.large_communities)
    config = allowlist.Config(
        socket="relay.sock",
        lease_s=1.0,
        hold=False,
        asn=ASN,
        neighbors=frozenset((str(neighbor),)),
        prefixes=frozenset((str(route.prefix),)),
        next_hops=frozenset((str(route.next_hop),)),
        communities=frozenset(map(str, names[0])),
        large_communities=frozenset(map(str, names[1])),
    )
    allowlist.check(config, line)
    allowlist.check(config, exabgp_api.withdraw(neighbor, route.prefix, route.next_hop))
    with contextlib.suppress(allowlist.RefusedError):
        allowlist.check(config, line + " ")
        raise AssertionError("a line with something behind it was accepted")


@given(neighbor=NEIGHBORS, route=ROUTES)
def test_a_rib_line_reads_back_as_the_route_that_was_announced(
    neighbor: IPv4Address | IPv6Address, route: Route
) -> None:
    attributes = {
        "as-path": {"0": {"element": "as-sequence", "value": list(route.as_path)}},
        "med": route.med,
        "local-preference": route.local_preference,
        "community": [str(one) for one in route.communities],
        "large-community": [str(one) for one in route.large_communities],
    }
    nlri = {"prefix": str(route.prefix), "nexthop": str(route.next_hop)}
    line = json.dumps({"peer": {"address": str(neighbor)}, "route": {"nlri": nlri, "attributes": attributes}})
    assert exabgp_api.rib_line(line) == (RouteKey(neighbor, route.prefix), route)


_NAMES = """type neighbor address peer state direction message update announce withdraw eor event id result lines
    sessions protocol sent attribute nlri route attributes prefix nexthop fsm families"""
KEYS = st.sampled_from(_NAMES.split()) | st.text(max_size=4)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=6,
)
DATA = Path(__file__).parents[1] / "data" / "exabgp"
READERS: dict[str, Callable[[str], object]] = {
    "events.jsonl": exabgp_api.event,
    "adj_rib_out_v2.jsonl": exabgp_api.rib_line,
    "show_neighbor.jsonl": lambda line: exabgp_api.neighbors([line]),
}
"""What ExaBGP said, by file, and who reads it."""


def shapes(file: str) -> list[Any]:
    """Return the lines of a file, one of each shape: of many that differ in their values alone, the last."""
    found = [json.loads(line) for line in (DATA / file).read_text().splitlines()]
    return list({tuple(places(one)): one for one in found}.values())


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:  # noqa: ANN401 - JSON
    """Yield where something stands in a document, the document itself included."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def replaced(document: Any, path: tuple[str | int, ...], by: object) -> Any:  # noqa: ANN401 - JSON
    """Return `document` with another value in one place."""
    if not path:
        return by
    key, *rest = path
    copy: Any = dict(document) if isinstance(document, dict) else list(document)
    copy[key] = replaced(document[key], tuple(rest), by)
    return copy


SAID = [(file, line, path) for file in READERS for line in shapes(file) for path in places(line)]
WELCOME = {
    "type": "welcome",
    "protocol": relay_api.PROTOCOL,
    "exabgp": "5.0.15",
    "lease_s": 3.0,
    "sessions": {
        "192.0.2.1": {
            "eor": ["ipv4 unicast"],
            "sent": {
                "198.51.100.0/24": {
                    "next_hop": "192.0.2.10",
                    "attribute": {"med": 5, "as-path": {"0": {"element": "as-sequence", "value": [ASN]}}},
                }
            },
        }
    },
}
OTHERS = [
    {"type": "refused", "reason": "fenced", "detail": "x"},
    {"type": "answer", "id": 4, "result": "done", "lines": ["a"], "detail": ""},
    {"type": "lost", "count": 3},
    {"type": "event", "event": shapes("events.jsonl")[0]},
]
TOLD = [(line, path) for line in (WELCOME, *OTHERS) for path in places(line)]


def enough_for(packets: int) -> settings:
    """Return how often to draw, when each draw makes this many packets: ten thousand for each codec, or more."""
    return settings(max_examples=max(100, -(-10_000 // packets)))


@enough_for(len(SAID))
@given(strange=JSON)
def test_whatever_stands_in_any_place_of_what_exabgp_says_is_read_or_raises_wire_error(strange: object) -> None:
    for file, line, path in SAID:
        with contextlib.suppress(WireError):
            READERS[file](json.dumps(replaced(line, path, strange)))


@enough_for(len(TOLD))
@given(strange=JSON)
def test_whatever_stands_in_any_place_of_what_the_relay_says_is_read_or_raises_wire_error(strange: object) -> None:
    for line, path in TOLD:
        with contextlib.suppress(WireError):
            relay_api.message(json.dumps(replaced(line, path, strange)).encode())


@given(data=JSON)
def test_any_json_is_read_or_raises_wire_error(data: object) -> None:
    text = json.dumps(data)
    for read in READERS.values():
        with contextlib.suppress(WireError):
            read(text)
    with contextlib.suppress(WireError):
        relay_api.message(text.encode())


LINES = [line.encode() for file in READERS for line in (DATA / file).read_text().splitlines()]
HONEST = [line for line in LINES if len(line) < 2000] + [json.dumps(one).encode() for one in (WELCOME, *OTHERS)]


@enough_for(len(HONEST))
@given(at=st.floats(0, 1), noise=st.binary(max_size=8), cut=st.integers(0, 8))
def test_any_damage_to_a_line_is_read_or_raises_wire_error(at: float, noise: bytes, cut: int) -> None:
    for line in HONEST:
        place = round(at * len(line))
        damaged = line[:place] + noise + line[place + cut :]
        for read in READERS.values():
            with contextlib.suppress(WireError):
                read(damaged.decode("ascii", "replace"))
        with contextlib.suppress(WireError):
            relay_api.message(damaged)


@settings(max_examples=1000)
@given(data=st.binary(max_size=200))
def test_any_bytes_from_the_relay_are_read_or_raise_wire_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        relay_api.message(data)
