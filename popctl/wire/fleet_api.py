"""What `GET /v1/fleet` answers: the fleet as one agent sees it. Encoded and decoded by `agent_api`.

Ages are seconds relative to the answer. What a PoP says of itself travels as text: a CLI that is older than the fleet
shows what it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from popctl.model.fleet import FleetView, FloorPolicy, Member, Permit, Record, ServiceReport
from popctl.model.instant import NEVER, Instant

if TYPE_CHECKING:
    from popctl.model.load import PopLoad


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetServiceStatus:
    """One service of one PoP."""

    name: str
    announce: str
    announced: tuple[str, ...]
    stance: str
    asking: bool
    good: bool
    certain: bool
    healthy: int
    needed: int
    reason: str
    stage: str
    bad_for_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetResourceStatus:
    """One resource of one PoP; null is unknown (used) or no limit (capacity)."""

    name: str
    used: float | None
    capacity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPopStatus:
    """One PoP."""

    name: str
    own: bool
    lost: bool
    """Its lease ended; nothing else below is known."""
    age_s: float
    """Since its last word, or since it was lost."""
    region: str = ""
    incarnation: str = ""
    config_digest: str = ""
    level: int | None = None
    services: tuple[FleetServiceStatus, ...] = ()
    resources: tuple[FleetResourceStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitStatus:
    """One permit that the answering PoP wants or holds."""

    service: str
    state: str
    for_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatus:
    """The whole answer."""

    fleet: str
    pop: str
    """Who answers."""
    connected: bool
    problem: str
    age_s: float | None
    """Of the view; null when nothing was ever read."""
    age_bound_s: float
    minimum_announcing: int
    revision: int
    pops: tuple[FleetPopStatus, ...]
    permits: tuple[PermitStatus, ...]


def fleet_status(fleet: str, pop: str, policy: FloorPolicy, view: FleetView, now: Instant) -> FleetStatus:
    """Return the answer of `pop` at `now`."""
    present = [_pop(name, member, now, own=name == pop) for name, member in view.members.items()]
    lost = [FleetPopStatus(name=name, own=name == pop, lost=True, age_s=now - at) for name, at in view.lost.items()]
    return FleetStatus(
        fleet=fleet,
        pop=pop,
        connected=view.connected,
        problem=view.problem,
        age_s=None if view.current_at == -NEVER else max(now - view.current_at, 0.0),
        age_bound_s=policy.view_age_bound_s,
        minimum_announcing=policy.minimum_announcing,
        revision=view.revision,
        pops=tuple(sorted([*present, *lost], key=lambda one: one.name)),
        permits=tuple(_permit(permit, now) for permit in view.permits.values()),
    )


def _pop(name: str, member: Member, now: Instant, *, own: bool) -> FleetPopStatus:
    record = member.record
    report = record.report
    return FleetPopStatus(
        name=name,
        own=own,
        lost=False,
        age_s=max(now - member.heard_at, 0.0),
        region=report.region,
        incarnation=report.incarnation,
        config_digest=report.config_digest,
        level=None if report.load is None else report.load.level,
        services=tuple(_service(service, record, now) for service in report.services.values()),
        resources=() if report.load is None else _resources(report.load),
    )


def _service(service: ServiceReport, record: Record, now: Instant) -> FleetServiceStatus:
    return FleetServiceStatus(
        name=service.service,
        announce=service.announce.value,
        announced=tuple(str(prefix) for prefix in service.announced),
        stance=record.stance(service.service).value,
        asking=service.service in record.asking,
        good=service.good,
        certain=service.certain,
        healthy=service.healthy,
        needed=service.needed,
        reason=service.reason,
        stage=service.stage,
        bad_for_s=None if service.bad_since is None else max(now - service.bad_since, 0.0),
    )


def _resources(load: PopLoad) -> tuple[FleetResourceStatus, ...]:
    names = sorted({*load.used, *load.capacity})
    return tuple(
        FleetResourceStatus(name=name.value, used=load.used.get(name), capacity=load.capacity.get(name))
        for name in names
    )


def _permit(permit: Permit, now: Instant) -> PermitStatus:
    return PermitStatus(
        service=permit.service,
        state=permit.state.value,
        for_s=max(now - permit.since, 0.0),
        reason=permit.reason.value if permit.reason is not None else "",
    )
