"""Whatever the values: one line out, the relay accepts it, it reads back; whatever the text: only `WireError`."""

from __future__ import annotations

import contextlib
import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import given
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
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(data=JSON)
def test_any_json_is_read_or_raises_wire_error(data: object) -> None:
    text = json.dumps(data)
    for read in (exabgp_api.event, exabgp_api.rib_line, lambda line: exabgp_api.neighbors([line])):
        with contextlib.suppress(WireError):
            read(text)
    with contextlib.suppress(WireError):
        relay_api.message(text.encode())


@given(data=st.binary(max_size=200))
def test_any_bytes_from_the_relay_are_read_or_raise_wire_error(data: bytes) -> None:
    with contextlib.suppress(WireError):
        relay_api.message(data)
