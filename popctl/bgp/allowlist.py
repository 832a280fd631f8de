"""The agent's own gate: nothing outside the allowlist is even handed to the relay, which checks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.bgp.speaker import RefusedRouteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from popctl.model.pop import Pop
    from popctl.model.route import Route, RouteKey, RouteTable


def check(routes: RouteTable, pop: Pop) -> None:
    """Accept the whole table or none of it.

    Raises:
        RefusedRouteError: the first thing found outside the allowlist.
    """
    for key, route in routes.items():
        for field, found in _outside(key, route, pop):
            raise RefusedRouteError(str(key.neighbor), str(key.prefix), field, found)


def _outside(key: RouteKey, route: Route, pop: Pop) -> Iterator[tuple[str, str]]:
    allow = pop.allowlist
    if key.neighbor not in {neighbor.address for neighbor in pop.neighbors}:
        yield "neighbor", str(key.neighbor)
    if key.prefix not in allow.prefixes or key.prefix != route.prefix:
        yield "prefix", str(route.prefix)
    if route.next_hop not in allow.next_hops or route.next_hop.version != route.prefix.version:
        yield "next-hop", str(route.next_hop)
    # A foreign ASN in the path is a leak or a forgery, whatever the communities say.
    yield from (("as-path", str(asn)) for asn in route.as_path if asn != pop.asn)
    yield from (("community", str(one)) for one in route.communities if one not in allow.communities)
    yield from (("large-community", str(one)) for one in route.large_communities if one not in allow.large_communities)
