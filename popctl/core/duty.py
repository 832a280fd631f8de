"""What a PoP owes its fleet: whom it asks before it withdraws, and what it tells the others. `guard` judges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from popctl.core import guard, health, lifecycle
from popctl.core.guard import Cause, Permission, Ruling, Withdrawal
from popctl.model.desired import Actual, ServiceDecision
from popctl.model.fleet import FleetWish, PopReport, ServiceReport
from popctl.model.floor import FleetSettings
from popctl.model.instant import NEVER, Instant
from popctl.model.load import PopLoad
from popctl.model.observation import IntentKind
from popctl.model.pop import Announce, Pop, Service
from popctl.model.reason import Reason
from popctl.model.route import Prefix
from popctl.model.view import Memory, Phase, Verdict, View

_CERTAIN = (Reason.REFUSED, Reason.DAEMON_DIED)
"""What no shared dependency can feign: the host, or the kernel of the backend, said so."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """An order to leave: its drain may still be going on."""

    forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One service as it was just chosen, and what the guard said if it was asked."""

    service: Service
    decision: ServiceDecision
    memory: Memory
    ruling: Ruling | None
    forced: bool


def ruling(
    service: Service, pop: Pop, view: View, memory: Memory, order: Leaving | None, now: Instant
) -> Ruling | None:
    """Ask the guard, if there is anything to ask; None means that nobody has to be asked.

    A drain asks at its beginning for what it wants at its end, so that its end does not have to wait.
    """
    if pop.fleet is None or memory.phase is Phase.START:
        return None
    if order is None and not lifecycle.wants_out(memory):
        return None
    ordered = order is not None
    since = memory.ordered_since if ordered else memory.bad_since
    stage, certain = _evidence(service, pop, view, now)
    wanted = Withdrawal(
        pop=pop.name,
        region=pop.fleet.region,
        service=service.name,
        cause=Cause.OPERATOR if ordered else Cause.HEALTH,
        carried=_carried(service, view.actual),
        bad_since=now if since is None else since,
        stage=stage,
        certain=certain,
        forced=order is not None and order.forced,
    )
    return guard.judge(wanted, pop.fleet.floor, view.fleet, now)


def load_ruling(service: Service, pop: Pop, view: View, since: Instant, now: Instant) -> Ruling | None:
    """Ask the guard for a withdraw for load, wanted since `since`; None without a fleet."""
    if pop.fleet is None:
        return None
    wanted = Withdrawal(
        pop=pop.name,
        region=pop.fleet.region,
        service=service.name,
        cause=Cause.LOAD,
        carried=_carried(service, view.actual),
        bad_since=since,
    )
    return guard.judge(wanted, pop.fleet.floor, view.fleet, now)


_NEEDED = (Reason.FLEET_FLOOR, Reason.REGION_FLOOR, Reason.CAPACITY_FLOOR)


def needed(service: Service, pop: Pop, view: View, now: Instant) -> Reason | None:
    """Return why a service that load has withdrawn has to be announced again, if it has to.

    It works. When the others do not serve the floor any more, or nobody can say whether they do, it is worth more than
    the room it lacks. That somebody's load is not known is no such reason: it says nothing about who serves.
    """
    if pop.fleet is None:
        return Reason.SINGLE_POP
    if now > view.fleet.current_at + pop.fleet.floor.view_age_bound_s:
        return Reason.FLEET_VIEW_STALE if view.fleet.connected else Reason.FLEET_UNREACHABLE
    against = guard.floor_refusal(pop.fleet.floor, service.name, pop.name, pop.fleet.region, view.fleet.members)
    return against if against in _NEEDED else None


def forecast(service: Service, pop: Pop, view: View, now: Instant) -> tuple[int | None, Reason]:
    """Return how many others would be left serving if the PoP withdrew now by order, and what speaks against it.

    None and `single-pop` without a fleet; `permitted` when nothing is seen that speaks against it, though only the
    store can grant it.
    """
    if pop.fleet is None:
        return None, Reason.SINGLE_POP
    left = sum(one.counts(service.name) for name, one in view.fleet.members.items() if name != pop.name)
    wanted = Withdrawal(
        pop=pop.name,
        region=pop.fleet.region,
        service=service.name,
        cause=Cause.OPERATOR,
        carried=_carried(service, view.actual),
        bad_since=now,
    )
    found = guard.judge(wanted, pop.fleet.floor, view.fleet, now)
    if found.permission is Permission.HOLD or found.reason is Reason.NOT_ANNOUNCED:
        return left, found.reason
    against = guard.floor_refusal(pop.fleet.floor, service.name, pop.name, pop.fleet.region, view.fleet.members)
    return left, against or Reason.PERMITTED


def patient_until(pop: Pop, memory: Memory) -> Instant:
    """Return until when a service that wants out, and may not, waits before routers are told that it is held.

    Those who stand ready to leave make room for one that has to, which takes them two round trips; and a permit that is
    refused, or held up, for so short a time is worth no UPDATE.
    """
    since = memory.bad_since if memory.ordered_since is None else memory.ordered_since
    if pop.fleet is None or since is None:
        return NEVER
    return since + pop.fleet.floor.permit_wait_s


def _carried(service: Service, actual: Actual) -> bool:
    """Return whether a route may be out. While that has not been read it counts as out."""
    if not actual.inherited:
        return True
    return any(key.prefix in service.prefixes for keys in (actual.routes, actual.pending) for key in keys)


def _evidence(service: Service, pop: Pop, view: View, now: Instant) -> tuple[str, bool]:
    """Return which probe fails first, and whether all backends refuse. A drained backend proves nothing."""
    drained = {intent.target for intent in view.intents if intent.kind is IntentKind.DRAIN}
    found = [
        (backend.name in drained, *health.backend_verdict(backend, view.health, now))
        for backend in (pop.backends[number] for number in service.backends)
    ]
    stages = (
        probe for is_drained, verdict, _, probe in found if not is_drained and verdict is not Verdict.UP and probe
    )
    certain = all(
        not is_drained and verdict is Verdict.DOWN and reason in _CERTAIN for is_drained, verdict, reason, _ in found
    )
    return next(stages, ""), certain


def wish(pop: Pop, view: View, standings: Iterable[Standing], load: PopLoad | None, now: Instant) -> FleetWish | None:
    """Return what the fleet is to be told and asked; None without a fleet, or before the first look at the routes.

    Until then the record of the agent before this one says it better.
    """
    every = tuple(standings)
    if pop.fleet is None or any(one.memory.phase is Phase.START for one in every):
        return None
    reports = {one.service.name: _report(one, pop, view, now) for one in every}
    asked = frozenset(one.service.name for one in every if one.ruling is not None and one.ruling.ask)
    forced = frozenset(one.service.name for one in every if one.forced)
    ready = frozenset(one.service.name for one in every if _ready(one, reports, pop, pop.fleet, view, now))
    return FleetWish(
        report=PopReport(pop=pop.name, region=pop.fleet.region, services=reports, load=load),
        permits=asked | ready,
        standing=ready,
        forced=asked & forced,
    )


def _ready(
    one: Standing,
    reports: Mapping[str, ServiceReport],
    pop: Pop,
    fleet: FleetSettings,
    view: View,
    now: Instant,
) -> bool:
    if one.ruling is not None or one.memory.phase is not Phase.IN:
        return False
    report = reports[one.service.name]
    return guard.wants_standing(report, pop.name, fleet.region, fleet.floor, view.fleet, now)


def _report(one: Standing, pop: Pop, view: View, now: Instant) -> ServiceReport:
    # What the agent before this one knew to be bad is not told as good before it is known to be.
    bad_since = one.memory.known_bad_since
    stage, certain = ("", False) if bad_since is None else _evidence(one.service, pop, view, now)
    announces = one.decision.announce is not Announce.WITHDRAWN
    return ServiceReport(
        service=one.service.name,
        announce=one.decision.announce,
        announced=_announced(one.service, view.actual) if announces else (),
        healthy=one.decision.healthy,
        needed=one.decision.needed,
        good=bad_since is None,
        reason=one.decision.reason.value,
        bad_since=bad_since,
        stage=stage,
        certain=certain,
    )


def _announced(service: Service, actual: Actual) -> tuple[Prefix, ...]:
    """Return what at least one established session was proven to have been sent.

    A change of attributes that is under way replaces the route; the prefix does not go away meanwhile.
    """
    told = {key.prefix for key in actual.routes if actual.sessions.get(key.neighbor) and key not in actual.failed}
    return tuple(sorted(told.intersection(service.prefixes), key=str))
