"""Where the balancer should have each backend: health and drains, as two small sets beside the rows.

A backend that is down gets nothing new; one of which nothing is known stays where it was. When all that could be given
something new would leave at once, the last of them stay: probes can be wrong together, and a packet that is given to
nobody is lost for certain. Where their route is withdrawn for it, nobody is sent to them anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from popctl.core import health
from popctl.model.balancer import BalancedService, Tables
from popctl.model.desired import BackendDecision
from popctl.model.instant import NEVER, Instant
from popctl.model.observation import IntentKind
from popctl.model.pop import Backend, Pop
from popctl.model.reason import Reason
from popctl.model.route import Prefix
from popctl.model.view import Verdict, View


def balanced(pop: Pop) -> frozenset[Prefix]:
    """Return the prefixes that hold a VIP of the balancer."""
    vips = [vip for service in pop.tables.services for vip in service.vips] if pop.tables else []
    return frozenset(
        prefix for service in pop.services for prefix in service.prefixes if any(vip in prefix for vip in vips)
    )


def places(pop: Pop, view: View, closed: frozenset[str], now: Instant) -> tuple[BackendDecision, ...]:
    """Return where every backend of a balanced service belongs, by id. Services that are `closed` take no new SA.

    Empty while nothing may be said: the kernel has not been read, or orders of operators may be forgotten.
    """
    if pop.tables is None or view.alive is None or (view.state_corrupt and not pop.start_without_state):
        return ()
    found = {one.backend: one for one in _one_by_one(pop, view, now)}
    for service in pop.tables.services:
        ours = service.rows.members
        if not any(found[b].alive and not found[b].draining for b in ours):
            for backend in ours & view.alive:
                if not found[backend].draining:
                    found[backend] = replace(found[backend], alive=True, reason=Reason.LAST_ALIVE)
    for backend in _shut(pop.tables.services, closed):
        if found[backend].reason is not Reason.CUT:
            found[backend] = replace(found[backend], draining=True, reason=Reason.REFUSES_NEW)
    return tuple(found[backend] for backend in sorted(found))


def _shut(services: tuple[BalancedService, ...], closed: frozenset[str]) -> frozenset[int]:
    """Return the backends of the closed services; not those that another service needs, too."""
    needed = {backend for one in services if one.name not in closed for backend in one.rows.members}
    return frozenset(backend for one in services if one.name in closed for backend in one.rows.members) - needed


def tables(pop: Pop, decided: tuple[BackendDecision, ...]) -> Tables | None:
    """Return the tables with everybody in place; None while there is nothing to say."""
    if pop.tables is None or not decided:
        return None
    return replace(
        pop.tables,
        alive=frozenset(one.backend for one in decided if one.alive),
        draining=frozenset(one.backend for one in decided if one.draining),
    )


def next_cut(view: View, now: Instant) -> Instant:
    """Return when the next drain ends with a cut, or `NEVER`."""
    waiting = [one for one in view.intents if one.kind is IntentKind.DRAIN and one.drain_s and not one.cuts(now)]
    return min((one.drain_until for one in waiting if one.drain_until > now), default=NEVER)


def _one_by_one(pop: Pop, view: View, now: Instant) -> Iterator[BackendDecision]:
    drains = {intent.target: intent for intent in view.intents if intent.kind is IntentKind.DRAIN}
    everybody = {backend for service in pop.tables.services for backend in service.rows.members} if pop.tables else ()
    for number in sorted(everybody):
        backend = pop.backends[number]
        drain = drains.get(backend.name)
        cut = drain is not None and drain.cuts(now)
        alive, reason = _alive(backend, view, now)
        if cut:
            alive, reason = False, Reason.CUT
        elif drain is not None and alive:
            reason = Reason.DRAINING
        yield BackendDecision(backend=number, alive=alive, draining=drain is not None, cut=cut, reason=reason)


def _alive(backend: Backend, view: View, now: Instant) -> tuple[bool, Reason]:
    verdict, reason, _ = health.backend_verdict(backend, view.health, now)
    match verdict:
        case Verdict.UP:
            return True, reason
        case Verdict.DOWN:
            return False, reason
        case Verdict.UNKNOWN:
            return backend.id in (view.alive or ()), reason
