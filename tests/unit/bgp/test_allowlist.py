"""The agent's own gate, and when two routes are one to the peer."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from popctl.bgp import allowlist
from popctl.bgp.speaker import RefusedRouteError
from popctl.bgp.told import UNKNOWN, Link
from popctl.model.route import Community, LargeCommunity, RouteKey, route_table
from tests.peers.exabgp import COMMUNITY, EDGE6, KEY4, LARGE, ROUTE4, edge_pop

POP = edge_pop(Path("run"))


def test_a_table_inside_the_allowlist_is_accepted() -> None:
    dressed = replace(ROUTE4, as_path=(65010, 65010), communities=(COMMUNITY,), large_communities=(LARGE,))
    allowlist.check(route_table([(KEY4, dressed)]), POP)


@pytest.mark.parametrize(
    ("change", "field", "found"),
    [
        ({"next_hop": ip_address("192.0.2.66")}, "next-hop", "192.0.2.66"),
        ({"next_hop": EDGE6}, "next-hop", "2001:db8::10"),
        ({"as_path": (65010, 64999)}, "as-path", "64999"),
        ({"communities": (Community(1, 2),)}, "community", "1:2"),
        ({"large_communities": (LargeCommunity(1, 2, 3),)}, "large-community", "1:2:3"),
    ],
)
def test_what_is_outside_is_refused_by_name(change: dict[str, object], field: str, found: str) -> None:
    with pytest.raises(RefusedRouteError) as refused:
        allowlist.check(route_table([(KEY4, replace(ROUTE4, **change))]), POP)  # type: ignore[arg-type]
    assert (refused.value.field, refused.value.found) == (field, found)


def test_a_more_specific_prefix_and_a_foreign_neighbour_are_refused() -> None:
    specific = ip_network("198.51.100.0/25")
    with pytest.raises(RefusedRouteError, match=r"prefix 198\.51\.100\.0/25"):
        allowlist.check(route_table([(RouteKey(KEY4.neighbor, specific), replace(ROUTE4, prefix=specific))]), POP)
    with pytest.raises(RefusedRouteError, match=r"192\.0\.2\.99 .*: neighbor"):
        allowlist.check(route_table([(RouteKey(ip_address("192.0.2.99"), KEY4.prefix), ROUTE4)]), POP)


def test_defaults_that_exabgp_fills_in_make_no_difference_to_the_peer() -> None:
    outside, inside = Link(local_asn=65010, peer_asn=65000), Link(local_asn=65010, peer_asn=65010)
    assert outside.same(ROUTE4, replace(ROUTE4, as_path=(65010,), local_preference=50))
    assert not outside.same(ROUTE4, replace(ROUTE4, as_path=(65010, 65010)))
    assert inside.same(ROUTE4, replace(ROUTE4, local_preference=100))
    assert not inside.same(ROUTE4, replace(ROUTE4, local_preference=50))
    assert outside.same(None, None)
    assert not outside.same(UNKNOWN, UNKNOWN), "nothing is the same as unknown"
