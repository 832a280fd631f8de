"""Policy routing of marked packets: one `ip rule` and one table per backend, read back and put right."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from popctl.lb.balancer import KernelError
from popctl.model.balancer import MAX_SLOT, Marks, Tables
from popctl.wire.nft import ROUTE_MASK

if TYPE_CHECKING:
    from popctl.model.route import Address

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_BLACKHOLE_METRIC = 20000
_UNICAST, _BLACKHOLE = 1, 6


@dataclass(frozen=True, slots=True, order=True)
class MarkRule:
    """`ip rule add fwmark MARK/MASK lookup TABLE priority PRIORITY`."""

    version: int
    mark: int
    table: int


@dataclass(frozen=True, slots=True, order=True)
class BackendRoute:
    """The default route of a backend's table; without a gateway the blackhole behind it."""

    version: int
    table: int
    gateway: Address | None
    """None: what keeps packets from falling through to the main table, and so back out, while the link is down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """All rules and routes of ours."""

    rules: frozenset[MarkRule] = frozenset()
    routes: frozenset[BackendRoute] = frozenset()


def wanted(tables: Tables) -> Routing:
    """Return the rules and routes that these tables need."""
    marks = tables.marks
    rules, routes = set(), set()
    for backend, forward in tables.backends.items():
        table, mark = marks.table_base + backend + 1, marks.base | (backend + 1)
        for version, gateway in ((4, forward.ipv4), (6, forward.ipv6)):
            if gateway is not None:
                rules.add(MarkRule(version, mark, table))
                routes |= {BackendRoute(version, table, gateway), BackendRoute(version, table, None)}
    return Routing(rules=frozenset(rules), routes=frozenset(routes))


class Routes:
    """The kernel's rules and routes, in the namespace of the thread that made it."""

    def __init__(self) -> None:
        self._netlink = IPRoute(strict_check=True)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def addresses(self) -> frozenset[Address]:
        """Return every address of this host."""
        return frozenset(
            ip_address(text) for answer in self._netlink.get_addr() if (text := answer.get_attr("IFA_ADDRESS"))
        )

    def read(self, marks: Marks) -> Routing:
        """Return what is there of ours: by the priority and tables that `marks` names."""
        rules = frozenset(self._rules(marks))
        tables = {(rule.version, rule.table) for rule in rules}
        return Routing(rules=rules, routes=frozenset(r for v, t in tables for r in self._table(v, t)))

    def _rules(self, marks: Marks) -> Iterator[MarkRule]:
        for version, family in _FAMILIES.items():
            for answer in self._netlink.get_rules(family=family):
                mark, table = answer.get_attr("FRA_FWMARK"), answer.get_attr("FRA_TABLE")
                ours = answer.get_attr("FRA_PRIORITY") == marks.priority and answer.get_attr("FRA_FWMASK") == ROUTE_MASK
                if ours and mark and 0 < table - marks.table_base <= MAX_SLOT:
                    yield MarkRule(version, mark, table)

    def _table(self, version: int, table: int) -> Iterator[BackendRoute]:
        for answer in self._netlink.get_routes(family=_FAMILIES[version], table=table):
            if answer.get_attr("RTA_TABLE") != table:
                continue
            if answer["type"] == _BLACKHOLE:
                yield BackendRoute(version, table, None)
            elif answer["type"] == _UNICAST and answer["dst_len"] == 0 and (via := answer.get_attr("RTA_GATEWAY")):
                yield BackendRoute(version, table, ip_address(via))

    def apply(self, marks: Marks, want: Routing, seen: Routing) -> int:
        """Change what differs: routes before the rules that lead to them. Returns how many changes.

        Raises:
            KernelError: the kernel refused one; the others were tried.
        """
        steps: list[tuple[str, str, dict[str, Any]]] = []
        steps += [("route", "add", _route(r)) for r in sorted(want.routes - seen.routes, key=repr)]
        steps += [("rule", "add", _rule(marks, r)) for r in sorted(want.rules - seen.rules)]
        steps += [("rule", "del", _rule(marks, r)) for r in sorted(seen.rules - want.rules)]
        steps += [("route", "del", _route(r)) for r in sorted(seen.routes - want.routes, key=repr)]
        failed = []
        for noun, verb, fields in steps:
            try:
                getattr(self._netlink, noun)(verb, **fields)
            except (NetlinkError, OSError) as error:
                if getattr(error, "code", None) != 17:  # noqa: PLR2004 - EEXIST: it is there, which is what was wanted
                    failed.append(f"{noun} {verb} {fields}: {error}")
        if failed:
            raise KernelError("ip", "; ".join(failed))
        return len(steps)


def _rule(marks: Marks, rule: MarkRule) -> dict[str, Any]:
    return {
        "family": _FAMILIES[rule.version],
        "fwmark": rule.mark,
        "fwmask": ROUTE_MASK,
        "table": rule.table,
        "priority": marks.priority,
    }


def _route(route: BackendRoute) -> dict[str, Any]:
    base = {"family": _FAMILIES[route.version], "dst": "default", "table": route.table}
    if route.gateway is None:
        return {**base, "type": "blackhole", "priority": _BLACKHOLE_METRIC}
    return {**base, "gateway": str(route.gateway)}
