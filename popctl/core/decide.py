"""The only place that chooses what is announced.

In order: the stop of the agent, orders of operators, health through the service's life cycle. Every choice has one
`Reason`. The result is computed afresh on every turn and depends on nothing but the arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from popctl.core import health, lifecycle, members
from popctl.core.lifecycle import Condition
from popctl.model.desired import Desired, ServiceDecision
from popctl.model.instant import NEVER, Instant
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Announce, Neighbor, Pop, Service
from popctl.model.reason import Reason
from popctl.model.route import Family, Prefix, Route, RouteKey, route_table
from popctl.model.view import Memory, Phase, Verdict, View

_NEW = Memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One turn's result: what should be, what to remember, and when to look again for time alone."""

    desired: Desired
    memory: Mapping[str, Memory]
    wake_at: Instant


@dataclass(frozen=True, slots=True)
class _Count:
    """How many backends of a service are what."""

    healthy: int
    unknown: int

    def condition(self, needed: int) -> Condition:
        if self.healthy >= needed:
            return Condition.GOOD
        return Condition.UNSURE if self.healthy + self.unknown >= needed else Condition.BAD


@dataclass(frozen=True, slots=True)
class _Order:
    """What overrides health for a service: a rung of the ladder, and until when time alone keeps it there."""

    announce: Announce
    reason: Reason
    until: Instant = NEVER


def decide(pop: Pop, view: View, now: Instant) -> Decision:
    """Choose the announcement of every service of `pop`."""
    draining = {intent.target for intent in view.intents if intent.kind is IntentKind.DRAIN}
    verdicts = {
        backend.id: None if backend.name in draining else health.backend_verdict(backend, view.health, now)[0]
        for backend in pop.backends.values()
    }
    chosen = [_choose(service, pop, view, verdicts, now) for service in pop.services]
    decisions = tuple(decision for decision, _, _ in chosen)
    stale = (health.next_stale(backend, view.health, now) for backend in pop.backends.values())
    places = members.places(pop, view, now)
    desired = Desired(
        routes=route_table(_routes(pop, decisions)),
        services=decisions,
        tables=members.tables(pop, places),
        backends=places,
        balanced=members.balanced(pop),
    )
    return Decision(
        desired=desired,
        memory={service.name: memory for service, (_, memory, _) in zip(pop.services, chosen, strict=True)},
        wake_at=min((*(wake for _, _, wake in chosen), *stale, members.next_cut(view, now)), default=NEVER),
    )


def _choose(
    service: Service, pop: Pop, view: View, verdicts: Mapping[int, Verdict | None], now: Instant
) -> tuple[ServiceDecision, Memory, Instant]:
    of_service = [verdicts[backend] for backend in service.backends]
    count = _Count(of_service.count(Verdict.UP), of_service.count(Verdict.UNKNOWN))
    order = _order(service, pop, view, now)
    memory = lifecycle.advance(
        view.memory.get(service.name, _NEW),
        lifecycle.Inputs(
            condition=count.condition(service.minimum_healthy),
            inherited=view.actual.inherited,
            carried=any(key.prefix in service.prefixes for key in view.actual.routes),
            kept_out=order is not None and order.announce is Announce.WITHDRAWN,
        ),
        pop.timing,
        now,
    )
    announce, reason, until = _rung(memory, order, count.condition(service.minimum_healthy), pop, now)
    decision = ServiceDecision(
        service=service.name,
        announce=announce,
        reason=reason,
        healthy=count.healthy,
        unknown=count.unknown,
        needed=service.minimum_healthy,
        until=until if until < NEVER else None,
    )
    return decision, memory, until


def _order(service: Service, pop: Pop, view: View, now: Instant) -> _Order | None:
    """Return what overrides health, strongest first."""
    if view.state_corrupt and not pop.start_without_state:
        return _Order(Announce.WITHDRAWN, Reason.STATE_FILE_CORRUPT)
    orders = [_withdraw_order(intent, now) for intent in view.intents if _withdraws(intent, service)]
    if view.stopping_since is not None:
        drained_at = view.stopping_since + pop.timing.stop_drain_s
        orders.append(
            _Order(Announce.GRACEFUL_SHUTDOWN, Reason.STOPPING, drained_at)
            if now < drained_at
            else _Order(Announce.WITHDRAWN, Reason.STOPPING)
        )
    withdrawn = [order for order in orders if order.announce is Announce.WITHDRAWN]
    return next(iter(withdrawn or orders), None)


def _withdraws(intent: Intent, service: Service) -> bool:
    return intent.kind is IntentKind.WITHDRAW and intent.target == service.name


def _withdraw_order(intent: Intent, now: Instant) -> _Order:
    if now < intent.drain_until:
        return _Order(Announce.GRACEFUL_SHUTDOWN, Reason.OPERATOR_DRAIN, intent.drain_until)
    return _Order(Announce.WITHDRAWN, Reason.OPERATOR_WITHDRAW)


def _rung(
    memory: Memory, order: _Order | None, condition: Condition, pop: Pop, now: Instant
) -> tuple[Announce, Reason, Instant]:
    """Return the rung of the ladder, why, and when time alone may change it."""
    if order is not None and order.announce is Announce.WITHDRAWN:
        return order.announce, order.reason, order.until
    match memory.phase:
        case Phase.START:
            return Announce.WITHDRAWN, Reason.NOT_YET_KNOWN, NEVER
        case Phase.OUT:
            reason = Reason.TOO_FEW_BACKENDS if condition is Condition.BAD else Reason.TOO_FEW_KNOWN
            return Announce.WITHDRAWN, reason, order.until if order else NEVER
        case Phase.WARMING:
            warm_at = memory.since + pop.timing.warm_up_s
            held_until = lifecycle.hold_down_until(memory, pop.timing)
            reason = Reason.WARMING_UP if now < warm_at else Reason.FLAP_HOLD_DOWN
            return Announce.WITHDRAWN, reason, max(warm_at, held_until)
        case Phase.IN:
            return _announced(memory, order, pop)


def _announced(memory: Memory, order: _Order | None, pop: Pop) -> tuple[Announce, Reason, Instant]:
    held_until = NEVER if memory.unknown_since is None else memory.unknown_since + pop.timing.unknown_hold_s
    if order is not None:
        return order.announce, order.reason, min(order.until, held_until)
    reason = Reason.HEALTHY if memory.unknown_since is None else Reason.HELD_UNKNOWN
    return Announce.NORMAL, reason, held_until


def _routes(pop: Pop, decisions: Iterable[ServiceDecision]) -> Iterable[tuple[RouteKey, Route]]:
    rungs = {decision.service: decision.announce for decision in decisions}
    for service in pop.services:
        if rungs[service.name] is Announce.WITHDRAWN:
            continue
        for neighbor in pop.neighbors:
            for prefix in service.prefixes:
                if Family.of(prefix) in neighbor.families:
                    yield RouteKey(neighbor.address, prefix), route_for(prefix, neighbor, rungs[service.name], pop.asn)


def route_for(prefix: Prefix, neighbor: Neighbor, rung: Announce, local_asn: int) -> Route:
    """Build the one route that `neighbor` is told of `prefix` on this rung of the ladder."""
    attributes = neighbor.attributes[rung]
    external = neighbor.asn != local_asn
    # An explicit AS_PATH replaces the default one, so on eBGP the own ASN stands in it once more than it is prepended.
    repeats = attributes.prepend + 1 if external and attributes.prepend else attributes.prepend
    return Route(
        prefix=prefix,
        next_hop=neighbor.next_hops[Family.of(prefix)],
        as_path=(local_asn,) * repeats,
        med=attributes.med,
        local_preference=None if external else attributes.local_preference,
        communities=tuple(sorted(set(attributes.communities))),
        large_communities=tuple(sorted(set(attributes.large_communities))),
    )
