"""Where the PoP stands on its ladder of levels: `capacity` chooses, this gathers what it chooses by.

The level belongs to the PoP, not to a service: the catchment that a step moves is one, and the other PoPs know of one
level. It moves only while some service that load may move is in, healthy and under no order. While nothing is in, it
is kept as it is: a PoP that comes back comes back where it left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from popctl.core import capacity, damping, duty
from popctl.core.fleet_load import fleet_load
from popctl.core.gate import Case
from popctl.core.guard import Permission, Ruling
from popctl.core.pop_load import Weight
from popctl.model.announce import Announce
from popctl.model.capacity import CALM, LoadSettings, LoadState
from popctl.model.desired import LoadDecision
from popctl.model.instant import NEVER, Instant
from popctl.model.load import FleetLoad
from popctl.model.playbook import NORMAL, Level
from popctl.model.pop import Neighbor, Pop, Service
from popctl.model.route import Family, RouteKey
from popctl.model.view import View


@dataclass(frozen=True, slots=True)
class Movable:
    """A service that load may move, as health and orders leave it."""

    service: Service
    free: bool
    """In, healthy, and under no order. A service that is not is in, and stays where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStep:
    """Where the PoP stands, and what follows."""

    rungs: Level
    state: LoadState
    decision: LoadDecision | None
    """None: announcements are not steered by load."""
    rulings: Mapping[str, Ruling]
    """By service: what the guard says to a withdraw for load, where one is wanted or stands."""
    until: Instant

    def rung(self, service: Service, base: Announce, neighbor: Neighbor, settings: LoadSettings | None) -> Announce:
        """Return what a neighbour is told of a service: never anything milder than health and orders want."""
        if settings is None or service.name not in settings.services:
            return base
        return severest(base, self.rungs.rung(neighbor.asn))


_ORDER = tuple(Announce)
_NOTHING = LoadStep(rungs=NORMAL, state=CALM, decision=None, rulings={}, until=NEVER)


def severest(one: Announce, other: Announce) -> Announce:
    """Return the one that is farther up the announce ladder."""
    return max(one, other, key=_ORDER.index)


def look(pop: Pop, view: View, weight: Weight | None, movable: Iterable[Movable], now: Instant) -> LoadStep:
    """Return the level. `movable` are the services that are in."""
    settings = pop.load
    if settings is None or weight is None:
        return _NOTHING
    ladder = settings.ladder
    state = view.load_state
    if state.level >= len(ladder):
        # A new configuration has fewer levels.
        state = replace(state, level=len(ladder) - 1, since=now, pending=None)
    every = tuple(movable)
    state = _called_back(state, pop, view, ladder, every, now)
    rulings: Mapping[str, Ruling] = {}
    if not any(one.free for one in every):
        state = state if every else _left(state, now)
        found = capacity.Choice(
            level=state.level, rungs=ladder[state.level], reason=state.reason, until=NEVER, state=state
        )
    else:
        found, rulings = _choose(pop, view, weight, settings, state, every, now)
    until = min((found.until, weight.until, *(ruling.wake_at for ruling in rulings.values())))
    if pop.fleet is not None and found.rungs.withdrawn:
        until = min(until, _after(view.fleet.current_at + pop.fleet.floor.view_age_bound_s))
    decision = LoadDecision(
        level=found.level,
        name=found.rungs.name,
        reason=found.reason,
        tightness=weight.tightness,
        until=found.until if found.until < NEVER else None,
        settling=found.state.settling,
    )
    return LoadStep(rungs=found.rungs, state=found.state, decision=decision, rulings=rulings, until=until)


def _called_back(
    state: LoadState, pop: Pop, view: View, ladder: tuple[Level, ...], movable: tuple[Movable, ...], now: Instant
) -> LoadState:
    """Return the state of a PoP that load has withdrawn and the fleet needs: at the lowest preference, at once.

    No gate and no dwell: while others are preferred to it nothing moves there, and if there is nobody else, anything is
    better than nothing.
    """
    level = state.level
    while level and ladder[level].withdrawn:
        level -= 1
    if level == state.level:
        return state
    reasons = (duty.needed(one.service, pop, view, now) for one in movable)
    reason = next((one for one in reasons if one is not None), None)
    if reason is None:
        return state
    return replace(state, level=level, since=now, reason=reason, pending=None)


def _after(instant: Instant) -> Instant:
    """Return the next instant that is later."""
    return math.nextafter(instant, math.inf)


def _left(state: LoadState, now: Instant) -> LoadState:
    """Return the state of a PoP that is out: nothing can be verified, and the way back down begins anew."""
    if not state.level and state == CALM:
        return state
    since = now if state.level else state.since
    return replace(state, since=since, hot_since=None, pending=None)


def _choose(
    pop: Pop,
    view: View,
    weight: Weight,
    settings: LoadSettings,
    state: LoadState,
    movable: tuple[Movable, ...],
    now: Instant,
) -> tuple[capacity.Choice, Mapping[str, Ruling]]:
    calm = not state.level and state.pending is None and weight.tightness.at_least < settings.policies.load.hot
    # A quiet PoP is spared the sum over the fleet: nothing of it is asked for.
    inputs = capacity.Inputs(
        tightness=weight.tightness,
        case=case(pop, settings, view, None if calm else fleet(pop, view, weight, state), now),
        penalties={} if calm else penalties(pop, view, now),
        permitted=not _leaves(settings.ladder, state.level + 1) or pop.fleet is None,
    )
    found = capacity.choose(state, inputs, settings.policies, now)
    if found.granted is None and not _leaves(settings.ladder, found.level):
        return found, {}
    rulings = _rulings(pop, view, found.state, movable, now)
    if found.granted is not None and rulings and all(one.permission is Permission.ALLOW for one in rulings.values()):
        found = found.granted
    return found, rulings


def _leaves(ladder: tuple[Level, ...], level: int) -> bool:
    return level < len(ladder) and ladder[level].withdrawn


def _rulings(
    pop: Pop, view: View, state: LoadState, movable: tuple[Movable, ...], now: Instant
) -> Mapping[str, Ruling]:
    since = state.since if state.hot_since is None else state.hot_since
    found = {one.service.name: duty.load_ruling(one.service, pop, view, since, now) for one in movable}
    return {name: ruling for name, ruling in found.items() if ruling is not None}


def case(pop: Pop, settings: LoadSettings, view: View, seen: FleetLoad | None, now: Instant) -> Case:
    """Return what the gate judges by."""
    book = view.playbook
    return Case(
        pop=pop.name,
        ladder=settings.ladder,
        playbook=None if book is None else book.playbook,
        playbook_age_s=0.0 if book is None else now - book.created,
        fleet=seen,
    )


def fleet(pop: Pop, view: View, weight: Weight, state: LoadState) -> FleetLoad | None:
    """Return the load of the fleet, with the own PoP as it is known here and not as the store echoes it."""
    if pop.fleet is None:
        return None
    seen = fleet_load(pop.fleet.name, view.fleet)
    announcing = any(view.actual.routes)
    own = replace(
        weight.told(level=state.level, announcing=announcing, settling=state.settling), capacity=weight.capacity
    )
    return replace(seen, pops={**seen.pops, pop.name: own}, silent=seen.silent - {pop.name})


def penalties(pop: Pop, view: View, now: Instant) -> Mapping[int, damping.Penalty]:
    """Return the worst penalty per upstream, by AS number."""
    if pop.load is None:
        return {}
    named = [service for service in pop.services if service.name in pop.load.services]
    asn_of = {
        RouteKey(neighbor.address, prefix): neighbor.asn
        for service in named
        for prefix in service.prefixes
        for neighbor in pop.neighbors
        if Family.of(prefix) in neighbor.families
    }
    return damping.worst(view.ledger, asn_of, now, pop.load.policies.damping)


def level_of(pop: Pop, told: Callable[[Service, Neighbor], Announce], level: int) -> int:
    """Return the level to publish: the mildest one, not below `level`, that is as severe as what is told.

    A service that health or an order has put on a severer rung stands, for the others, on the level that says so.
    """
    ladder = (NORMAL,) if pop.load is None else pop.load.ladder
    services = [one for one in pop.services if pop.load is None or one.name in pop.load.services]
    pairs = [(neighbor.asn, told(service, neighbor)) for service in services for neighbor in pop.neighbors]
    for number in range(level, len(ladder)):
        if all(severest(ladder[number].rung(asn), rung) is ladder[number].rung(asn) for asn, rung in pairs):
            return number
    return len(ladder) - 1
