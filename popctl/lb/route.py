"""Policy routing of marked packets: one `ip rule` and one table per backend, read back and put right."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from popctl.lb.balancer import KernelError
from popctl.lb.netlink import Netlink, Questions
from popctl.model.balancer import MAX_SLOT, Marks, Tables
from popctl.wire import rtnetlink
from popctl.wire.errors import WireError
from popctl.wire.nft import ROUTE_MASK
from popctl.wire.rtnetlink import Answer, Kind, RouteType

if TYPE_CHECKING:
    from popctl.model.route import Address

_VERSIONS = (4, 6)
_BLACKHOLE_METRIC = 20000
_NETLINK_ROUTE = 0
_SOL_NETLINK, _GET_STRICT_CHECK = 270, 12
_BUFFER = 1 << 16
_TIMEOUT_S = 5.0
_NONE_THERE = (0, errno.ENOENT, errno.EAFNOSUPPORT)
"""The last one: of a host that was booted without IPv6."""
_GONE = (errno.ENOENT, errno.ESRCH)


def _netlink() -> Netlink:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
    made.settimeout(_TIMEOUT_S)
    # Without it the kernel ignores the table in a question and lists every route of the host.
    made.setsockopt(_SOL_NETLINK, _GET_STRICT_CHECK, 1)
    made.bind((0, 0))
    return made


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

    def __init__(self, netlink: Callable[[], Netlink] = _netlink) -> None:
        self._questions = Questions(netlink(), _BUFFER)

    def close(self) -> None:
        """Close the socket."""
        self._questions.close()

    def addresses(self) -> frozenset[Address]:
        """Return every address of this host."""
        found = (one for v in _VERSIONS for one in self._ask(rtnetlink.dump(Kind.GET_ADDRESS, v)))
        return frozenset(one for one in found if not isinstance(one, rtnetlink.Route | rtnetlink.Rule))

    def read(self, marks: Marks, want: Routing) -> Routing:
        """Return what is there of ours: rules by the priority and tables that `marks` names, and routes.

        Those of the tables that rules lead to, and of the tables of `want`.
        """
        rules = frozenset(self._rules(marks))
        tables = {(r.version, r.table) for r in rules | want.rules} | {(r.version, r.table) for r in want.routes}
        return Routing(rules=rules, routes=frozenset(r for v, t in tables for r in self._table(v, t)))

    def _rules(self, marks: Marks) -> Iterator[MarkRule]:
        for version in _VERSIONS:
            for one in self._ask(rtnetlink.dump(Kind.GET_RULE, version)):
                if not isinstance(one, rtnetlink.Rule):
                    continue
                ours = one.priority == marks.priority and one.mask == ROUTE_MASK
                if ours and one.mark and 0 < one.table - marks.table_base <= MAX_SLOT:
                    yield MarkRule(version, one.mark, one.table)

    def _table(self, version: int, table: int) -> Iterator[BackendRoute]:
        for one in self._ask(rtnetlink.dump(Kind.GET_ROUTE, version, table=table)):
            if not isinstance(one, rtnetlink.Route) or one.table != table or not one.default:
                continue
            if one.type == RouteType.BLACKHOLE:
                yield BackendRoute(version, table, None)
            elif one.type == RouteType.UNICAST and one.gateway is not None:
                yield BackendRoute(version, table, one.gateway)

    def apply(self, marks: Marks, want: Routing, seen: Routing, excused: frozenset[int] = frozenset()) -> int:
        """Change what differs: routes before the rules that lead to them. Returns how many changes were made.

        A way to a backend whose table is in `excused` may be missing: its link is down, and so is the backend. The
        blackhole behind it keeps its packets from going elsewhere.

        Raises:
            KernelError: the kernel refused one; the others were tried.
        """
        made, failed = 0, []
        for one in _orders(marks, want, seen, excused):
            error = next(answer.error for answer in self._answers(one.message) if isinstance(answer, Answer))
            made += not error
            if error and error not in one.forgiven:
                failed.append(f"{one.what}: {os.strerror(error)}")
        if failed:
            raise KernelError("rtnetlink", "; ".join(failed))
        return made

    def _ask(self, message: bytes) -> list[rtnetlink.Route | rtnetlink.Rule | Address]:
        found = list(self._answers(message))
        if isinstance(found[-1], Answer) and found[-1].error not in _NONE_THERE:
            raise KernelError("rtnetlink dump", os.strerror(found[-1].error))
        return [one for one in found if not isinstance(one, Answer)]

    def _answers(self, message: bytes) -> Iterator[rtnetlink.Route | rtnetlink.Rule | Address | Answer]:
        """Yield what the kernel says; an `Answer` comes last."""
        try:
            for datagram in self._questions.ask(message):
                for one in rtnetlink.messages(datagram):
                    yield one
                    if isinstance(one, Answer):
                        return
        except (OSError, WireError) as error:
            raise KernelError("rtnetlink", str(error)) from error


@dataclass(frozen=True, slots=True)
class _Order:
    """One change."""

    what: str
    message: bytes
    forgiven: Collection[int]
    """Errors that are no failure: all is so already, or need not be."""


def _orders(marks: Marks, want: Routing, seen: Routing, excused: frozenset[int]) -> Iterator[_Order]:
    for route in sorted(want.routes - seen.routes, key=repr):
        # Whatever else has this place goes; if it were left, "there is one" would look like "it is as wanted".
        forgiven = errno.errorcode if route.gateway is not None and route.table in excused else ()
        yield _Order(f"route add {route}", rtnetlink.route(Kind.NEW_ROUTE, _route(route)), forgiven)
    for rule in sorted(want.rules - seen.rules):
        yield _Order(f"rule add {rule}", rtnetlink.rule(Kind.NEW_RULE, _rule(marks, rule)), (errno.EEXIST,))
    for rule in sorted(seen.rules - want.rules):
        yield _Order(f"rule del {rule}", rtnetlink.rule(Kind.DELETE_RULE, _rule(marks, rule)), _GONE)
    for route in sorted(seen.routes - want.routes, key=repr):
        yield _Order(f"route del {route}", rtnetlink.route(Kind.DELETE_ROUTE, _route(route)), _GONE)


def _rule(marks: Marks, rule: MarkRule) -> rtnetlink.Rule:
    return rtnetlink.Rule(
        version=rule.version, priority=marks.priority, mark=rule.mark, mask=ROUTE_MASK, table=rule.table
    )


def _route(route: BackendRoute) -> rtnetlink.Route:
    blackhole = route.gateway is None
    return rtnetlink.Route(
        version=route.version,
        table=route.table,
        type=RouteType.BLACKHOLE if blackhole else RouteType.UNICAST,
        gateway=route.gateway,
        priority=_BLACKHOLE_METRIC if blackhole else 0,
    )
