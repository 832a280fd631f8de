"""The only place that chooses what is announced.

In order: the stop of the agent, orders of operators, health through the service's life cycle, then load; and before
anything is withdrawn, the guard of the fleet. Load never makes an announcement milder than what comes before it. Every
choice has one `Reason`. The result is computed afresh on every turn and depends on nothing but the arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from popctl.core import duty, health, lifecycle, load_step, members, orders, pop_load
from popctl.core.guard import Permission, Ruling
from popctl.core.lifecycle import Condition
from popctl.core.load_step import LoadStep, Movable, severest
from popctl.core.orders import Order
from popctl.core.pop_load import Weight
from popctl.model.capacity import LoadState
from popctl.model.desired import Desired, ServiceDecision
from popctl.model.instant import NEVER, Instant
from popctl.model.load import PopLoad
from popctl.model.observation import IntentKind
from popctl.model.pop import Announce, Neighbor, Pop, Service
from popctl.model.reason import Reason
from popctl.model.route import Family, Prefix, Route, RouteKey, RouteTable, route_table
from popctl.model.view import Memory, Phase, Verdict, View

_NEW = Memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One turn's result: what should be, what to remember, and when to look again for time alone."""

    desired: Desired
    memory: Mapping[str, Memory]
    load_state: LoadState
    """To remember, too: where the PoP stands on its ladder of levels."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Felt:
    """One service as orders, health and the guard leave it, before load has its say."""

    service: Service
    count: _Count
    order: Order | None
    condition: Condition
    ruling: Ruling | None
    memory: Memory
    base: _Rung

    @property
    def movable(self) -> bool:
        """Load may move it, or keeps it where it is."""
        return self.memory.phase is Phase.IN and self.order is None

    @property
    def closed(self) -> bool:
        """New SAs are refused by order. One that the guard holds may be the last that serves: it refuses nobody."""
        ordered = self.order is not None and self.order.refuse_new
        return ordered and (self.ruling is None or self.ruling.permission is Permission.ALLOW)

    @property
    def free(self) -> bool:
        """Nothing but load has a say."""
        return self.movable and self.condition is Condition.GOOD and not lifecycle.wants_out(self.memory)


@dataclass(frozen=True, slots=True)
class _Rung:
    """A rung of the ladder, why, and when time alone may change it."""

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
    felt = [_feel(service, pop, view, verdicts, now) for service in pop.services]
    weight = pop_load.weigh(pop, view, verdicts, now) if pop.load or pop.fleet else None
    step = load_step.look(pop, view, weight, _movable(pop, felt), now)
    standings, wakes = zip(*(_stand(one, step, pop, now) for one in felt), strict=True)
    decisions = tuple(one.decision for one in standings)
    stale = (health.next_stale(backend, view.health, now) for backend in pop.backends.values())
    closed = frozenset(one.service.name for one in felt if one.closed)
    places = members.places(pop, view, closed, now)
    bases = {one.service.name: one.base.announce for one in felt}
    desired = Desired(
        routes=route_table(_routes(pop, bases, step)),
        services=decisions,
        tables=members.tables(pop, places),
        backends=places,
        balanced=members.balanced(pop),
        closed=closed,
        fleet=duty.wish(pop, view, standings, _told(pop, weight, bases, step), now),
        load=step.decision,
    )
    return Decision(
        desired=desired,
        memory={one.service.name: one.memory for one in standings},
        load_state=step.state if step.decision else view.load_state,
        wake_at=min((*wakes, *stale, step.until, members.next_cut(view, now)), default=NEVER),
    )


def _feel(service: Service, pop: Pop, view: View, verdicts: Mapping[int, Verdict | None], now: Instant) -> _Felt:
    of_service = [verdicts[backend] for backend in service.backends]
    count = _Count(of_service.count(Verdict.UP), of_service.count(Verdict.UNKNOWN))
    before = view.memory.get(service.name, _NEW)
    ordered = orders.of_service(service, pop, view, before, now)
    order = ordered.order
    inputs = lifecycle.Inputs(
        condition=count.condition(service.minimum_healthy),
        inherited=view.actual.inherited,
        carried=any(key.prefix in service.prefixes for key in view.actual.routes),
        kept_out=order is not None and order.announce is Announce.WITHDRAWN,
        stays_out=order is not None,
        carried_at=_carried_at(service, pop, view.actual.routes) if before.phase is Phase.START else None,
    )
    felt = lifecycle.feel(replace(before, work=ordered.progress), inputs, pop.timing, now)
    leaving = None if order is None else duty.Leaving(forced=order.forced)
    ruling = duty.ruling(service, pop, view, felt, leaving, now)
    memory = _advance(felt, inputs, ruling, pop, now)
    base = _rung(memory, order, ruling, inputs.condition, pop, now)
    if memory.phase is Phase.IN:
        memory = replace(memory, lowered=base.announce)
    return _Felt(
        service=service, count=count, order=order, condition=inputs.condition, ruling=ruling, memory=memory, base=base
    )


def _carried_at(service: Service, pop: Pop, routes: RouteTable) -> Announce | None:
    """Return where on the ladder the carried routes of a service stand: the mildest, where they differ."""
    neighbors = {neighbor.address: neighbor for neighbor in pop.neighbors}
    found = {
        rung
        for key, route in routes.items()
        if key.prefix in service.prefixes and (neighbor := neighbors.get(key.neighbor)) is not None
        for rung in Announce
        if Family.of(key.prefix) in neighbor.families
        and rung in neighbor.attributes
        and route == route_for(key.prefix, neighbor, rung, pop.asn)
    }
    # Where two rungs have the same attributes, routers know of no difference.
    return next((rung for rung in Announce if rung in found), None)


def _movable(pop: Pop, felt: Iterable[_Felt]) -> Iterable[Movable]:
    named = frozenset[str]() if pop.load is None else pop.load.services
    return [Movable(one.service, one.free) for one in felt if one.movable and one.service.name in named]


def _stand(one: _Felt, step: LoadStep, pop: Pop, now: Instant) -> tuple[duty.Standing, Instant]:
    """Say where a service stands, and when time alone may change that."""
    base, ruling, memory = one.base, one.ruling, one.memory
    until = base.until if ruling is None else min(base.until, ruling.wake_at)
    if memory.phase is Phase.IN and now < (patient := duty.patient_until(pop, memory)):
        until = min(until, patient)
    announce, reason = base.announce, base.reason
    steered = pop.load is not None and one.service.name in pop.load.services and memory.phase is Phase.IN
    if steered:
        announce = severest(announce, step.rungs.summary)
    if steered and reason is Reason.HEALTHY and step.decision is not None:
        reason = step.decision.reason or reason
        until = min(until, NEVER if step.decision.until is None else step.decision.until)
    decision = ServiceDecision(
        service=one.service.name,
        announce=announce,
        reason=reason,
        healthy=one.count.healthy,
        unknown=one.count.unknown,
        needed=one.service.minimum_healthy,
        until=until if until < NEVER else None,
        held=memory.held,
    )
    forced = one.order is not None and one.order.forced
    asked = ruling or step.rulings.get(one.service.name)
    return duty.Standing(service=one.service, decision=decision, memory=memory, ruling=asked, forced=forced), until


def _advance(felt: Memory, inputs: lifecycle.Inputs, ruling: Ruling | None, pop: Pop, now: Instant) -> Memory:
    permission = Permission.ALLOW if ruling is None else ruling.permission
    memory = lifecycle.advance(felt, inputs, pop.timing, now, may_leave=permission is Permission.ALLOW)
    if memory.phase is Phase.IN and permission is Permission.HOLD and now >= duty.patient_until(pop, memory):
        return replace(memory, held=True)
    return memory


def _rung(
    memory: Memory, order: Order | None, ruling: Ruling | None, condition: Condition, pop: Pop, now: Instant
) -> _Rung:
    """Return the rung of the ladder."""
    if memory.phase is Phase.IN:
        if ruling is not None and lifecycle.wants_out(memory):
            return _kept(memory, order, ruling)
        return _announced(memory, order, pop)
    if order is not None and order.announce is Announce.WITHDRAWN:
        return _Rung(order.announce, order.reason, order.until)
    match memory.phase:
        case Phase.START:
            return _Rung(Announce.WITHDRAWN, Reason.NOT_YET_KNOWN)
        case Phase.OUT:
            if order is not None and condition is Condition.GOOD:
                return _Rung(Announce.WITHDRAWN, order.reason, order.until)
            reason = Reason.TOO_FEW_BACKENDS if condition is Condition.BAD else Reason.TOO_FEW_KNOWN
            return _Rung(Announce.WITHDRAWN, reason, order.until if order else NEVER)
        case Phase.WARMING:
            warm_at = memory.since + pop.timing.warm_up_s
            held_until = lifecycle.hold_down_until(memory, pop.timing)
            reason = Reason.WARMING_UP if now < warm_at else Reason.FLAP_HOLD_DOWN
            return _Rung(Announce.WITHDRAWN, reason, max(warm_at, held_until))


def _kept(memory: Memory, order: Order | None, ruling: Ruling) -> _Rung:
    """Return where a service stands that should leave and may not, or not yet.

    While the permit is on its way nothing is told to routers. What they were told before stays: a service that was
    drained stays where its drain has taken it, which is the lowest preference of all.
    """
    announce = Announce.DEPREFERRED if memory.held else Announce.NORMAL
    if order is not None and order.announce is Announce.GRACEFUL_SHUTDOWN:
        announce = order.announce
    return _Rung(severest(memory.lowered, announce), ruling.reason, NEVER if order is None else order.until)


def _announced(memory: Memory, order: Order | None, pop: Pop) -> _Rung:
    held_until = NEVER if memory.unknown_since is None else memory.unknown_since + pop.timing.unknown_hold_s
    if order is not None:
        return _Rung(severest(memory.lowered, order.announce), order.reason, min(order.until, held_until))
    reason = Reason.HEALTHY if memory.unknown_since is None else Reason.HELD_UNKNOWN
    return _Rung(memory.lowered, reason, held_until)


def _routes(pop: Pop, bases: Mapping[str, Announce], step: LoadStep) -> Iterable[tuple[RouteKey, Route]]:
    for service in pop.services:
        for neighbor in pop.neighbors:
            rung = step.rung(service, bases[service.name], neighbor, pop.load)
            if rung is Announce.WITHDRAWN:
                continue
            for prefix in service.prefixes:
                if Family.of(prefix) in neighbor.families:
                    yield RouteKey(neighbor.address, prefix), route_for(prefix, neighbor, rung, pop.asn)


def _told(pop: Pop, weight: Weight | None, bases: Mapping[str, Announce], step: LoadStep) -> PopLoad | None:
    """Return what the fleet is told of the load; None: it is not known what the PoP can carry."""
    if weight is None or pop.fleet is None:
        return None

    def told(service: Service, neighbor: Neighbor) -> Announce:
        return step.rung(service, bases[service.name], neighbor, pop.load)

    announcing = any(
        told(service, neighbor) is not Announce.WITHDRAWN for service in pop.services for neighbor in pop.neighbors
    )
    level = load_step.level_of(pop, told, step.state.level)
    return weight.told(level=level, announcing=announcing, settling=step.state.settling)


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
