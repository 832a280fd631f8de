"""The order of moves: what to do so that the world becomes what is desired. Does nothing itself.

Make before break, in both directions: nobody hears of a prefix before the balancer serves it, and the balancer stops
serving it only when nobody hears of it any more. docs/decisions/006 has the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from popctl.model.balancer import BalancedService, BalancerActual, Tables
from popctl.model.desired import Actual, Desired
from popctl.model.route import Prefix, RouteTable, route_table


@dataclass(frozen=True, slots=True)
class SetRoutes:
    """Hand the whole table to the speaker."""

    routes: RouteTable


@dataclass(frozen=True, slots=True)
class SetTables:
    """Hand the whole tables to the balancer."""

    tables: Tables


@dataclass(frozen=True, slots=True)
class EndSas:
    """End what SAs are left at these backends, and at no others."""

    backends: frozenset[int]


Step: TypeAlias = SetRoutes | SetTables | EndSas

_NOTHING = BalancerActual()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """What the hands were last given; None before the first time."""

    routes: RouteTable | None = None
    tables: Tables | None = None
    ended: frozenset[int] = frozenset()

    def after(self, step: Step) -> Ordered:
        """Return the same with `step` taken."""
        match step:
            case SetRoutes(routes):
                return replace(self, routes=routes)
            case SetTables(tables):
                return replace(self, tables=tables)
            case EndSas(backends):
                return replace(self, ended=backends)


def plan(desired: Desired, actual: Actual, ordered: Ordered, balancer: BalancerActual = _NOTHING) -> tuple[Step, ...]:
    """Return the steps, in order.

    Before the inherited routes were read nothing moves: an empty table would withdraw what a restart must keep.
    What was ordered once is not ordered again; the hands themselves retry until it is proven.
    """
    if not actual.inherited and ordered.routes is None:
        return ()
    routes = _routes(desired, actual, ordered, balancer)
    tables = _tables(desired, actual, ordered)
    ended = frozenset(one.backend for one in desired.backends if one.cut and one.backend not in balancer.alive)
    steps: list[Step] = []
    if routes != ordered.routes:
        steps.append(SetRoutes(routes))
    if tables is not None and tables != ordered.tables:
        steps.append(SetTables(tables))
    # A client that is told to come back must not come back to where it was: the balancer knows first.
    if ended != ordered.ended and tables is not None and tables == ordered.tables:
        steps.append(EndSas(ended))
    return tuple(steps)


def _routes(desired: Desired, actual: Actual, ordered: Ordered, balancer: BalancerActual) -> RouteTable:
    """Return the routes that may be announced now: a new one waits for the balancer, one that is out there does not."""
    known = actual.routes if ordered.routes is None else ordered.routes
    up = {key.prefix for key in known}
    coming = {key.prefix for key in desired.routes} & desired.balanced - up
    waiting = {prefix for prefix in coming if not _served(prefix, desired.tables, ordered, balancer)}
    if not waiting:
        return desired.routes
    return route_table((key, route) for key, route in desired.routes.items() if key.prefix not in waiting)


def _served(prefix: Prefix, wanted: Tables | None, ordered: Ordered, balancer: BalancerActual) -> bool:
    """Return whether the balancer was seen to serve all VIPs of `prefix` with everybody who should."""
    if wanted is None or ordered.tables is None or not balancer.in_force:
        return False
    if (balancer.alive, balancer.draining) != (ordered.tables.alive, ordered.tables.draining):
        # An order is on its way, and may be one that takes somebody out.
        return False
    alive = [one.rows.members & wanted.alive for one in wanted.services if _serves(one, prefix)]
    return all(some and some <= balancer.alive for some in alive)


def _tables(desired: Desired, actual: Actual, ordered: Ordered) -> Tables | None:
    """Return the tables that may be in force now; None: wait.

    A service is not left without anybody while its route is out there, unless an operator ordered that, and what an
    earlier configuration served is not forgotten before its routes are gone.
    """
    wanted, before = desired.tables, ordered.tables
    if wanted is None:
        return before
    heard = _heard(desired, actual, ordered)
    if before is None and heard - desired.balanced - {key.prefix for key in desired.routes}:
        return None
    for service in wanted.services:
        ours = service.rows.members
        closed = service.name in desired.closed
        # A closed service gives nobody anything new, by order. Those it has still come to whoever is alive.
        wants_open = frozenset[int]() if closed else wanted.draining
        emptied = not ours & wanted.alive - wants_open
        if emptied and any(_serves(service, prefix) for prefix in heard):
            if before is None:
                return None
            kept = ours & before.alive - (frozenset() if closed else before.draining)
            wanted = replace(wanted, alive=wanted.alive | kept, draining=wanted.draining - (kept & wants_open))
    return wanted


def _heard(desired: Desired, actual: Actual, ordered: Ordered) -> set[Prefix]:
    """Return the prefixes that some router may have: proven, ordered, or on their way in either direction."""
    keys = {*actual.routes, *actual.pending, *actual.failed, *(ordered.routes or ())}
    # While nobody tells what ExaBGP carries, it may carry everything.
    return {key.prefix for key in keys} | (set() if actual.inherited else set(desired.balanced))


def _serves(service: BalancedService, prefix: Prefix) -> bool:
    return any(vip in prefix for vip in service.vips)
