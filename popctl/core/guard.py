"""The guard: may this PoP withdraw a service now? Keeps a shared cause from emptying the fleet.

Two things have to agree before a PoP with a fleet withdraws. A *permit*: a transaction of the store after which no
other PoP counts on this one. And *evidence*: the view of the fleet, not older than its bound, shows enough others that
serve. The permit makes it safe against everything that other agents do at the same time, whatever either of them has
not heard; the evidence makes it sensible against what happened since. Only the store hands out permits, so an agent
without the store can use one that it already holds and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, inf

from popctl.core.load import columns
from popctl.model.fleet import (
    FleetView,
    FloorPolicy,
    Member,
    Permit,
    PermitState,
    ServiceReport,
    Stance,
)
from popctl.model.instant import NEVER, Instant
from popctl.model.reason import Reason

_SEVERAL = 2
"""One bad PoP is no common cause, however small the fleet."""


class Cause(StrEnum):
    """Why a PoP wants to withdraw."""

    HEALTH = "health"
    LOAD = "load"
    OPERATOR = "operator"
    """An order, or the agent being told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What one PoP wants to do, and what it knows of itself."""

    pop: str
    region: str
    service: str
    cause: Cause
    carried: bool
    """A route of the service is out, or would be replayed by a session that comes back."""
    bad_since: Instant
    """When health or load turned against it, or the order was given."""
    stage: str = ""
    """Which probe fails first."""
    certain: bool = False
    """All backends refuse at the protocol level, none of them merely hangs."""
    forced: bool = False
    """The operator said so."""


class Permission(StrEnum):
    """The guard's answer."""

    ALLOW = "allow"
    HOLD = "hold"
    """Announce at the lowest preference, and alarm."""
    NEED_PERMIT = "need-permit"
    """Stay as it is: the permit is on its way, for a bounded time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The answer, why, and what follows for the wish."""

    permission: Permission
    reason: Reason
    ask: bool
    """Whether the permit is to be in the wish: asked for, or kept."""
    wake_at: Instant = NEVER
    """When time alone may change the answer."""


def judge(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    """Say whether `wanted` may be done now. `policy` is None in a PoP without a fleet."""
    if policy is None:
        return Ruling(permission=Permission.ALLOW, reason=Reason.SINGLE_POP, ask=False)
    permit = view.permits.get(wanted.service)
    held = permit is not None and permit.state is PermitState.HELD
    if not wanted.carried:
        return Ruling(permission=Permission.ALLOW, reason=Reason.NOT_ANNOUNCED, ask=held)
    if wanted.forced:
        return _forced(permit, policy, view, now)
    refusal = _no_evidence(policy, view, now) or floor_refusal(
        policy, wanted.service, wanted.pop, wanted.region, view.members
    )
    alone = wanted.cause is Cause.OPERATOR or (wanted.certain and refusal is None)
    shared = None if alone else _shared(wanted, policy, view, now)
    if shared is not None:
        wake_at = view.settled_at if now < view.settled_at else NEVER
        return Ruling(permission=Permission.HOLD, reason=shared, ask=held, wake_at=wake_at)
    if permit is not None and held:
        usable = _usable(permit, wanted, policy, view, now)
        if usable is not None:
            return _with(usable, policy, view, refusal)
    return _without(permit, policy, view, refusal, now)


def _shared(wanted: Withdrawal, policy: FloorPolicy, view: FleetView, now: Instant) -> Reason | None:
    if view.connected and now < view.settled_at:
        # All that could not write meanwhile still look as they did before; a cause that took the store, too, would not
        # be seen yet.
        return Reason.FLEET_SETTLING
    return common_cause(wanted, policy, view)


def _forced(permit: Permit | None, policy: FloorPolicy, view: FleetView, now: Instant) -> Ruling:
    """Let the store know first, so that nobody else counts on this PoP; but wait for it only so long.

    A permit that was wanted before, and refused, has told nobody.
    """
    since = permit.since if permit is not None and permit.forced else now
    arrives = view.connected and (permit is None or permit.state is not PermitState.HELD)
    if arrives and now < since + policy.permit_wait_s:
        wake_at = since + policy.permit_wait_s
        return Ruling(permission=Permission.NEED_PERMIT, reason=Reason.PERMIT_PENDING, ask=True, wake_at=wake_at)
    return Ruling(permission=Permission.ALLOW, reason=Reason.FORCED, ask=True)


def _usable(permit: Permit, wanted: Withdrawal, policy: FloorPolicy, view: FleetView, now: Instant) -> Reason | None:
    """Return why a held permit may be used now.

    Without the store it is good for what it was just granted for, or for what no shared dependency can feign.
    """
    granted_for_it = wanted.bad_since <= permit.since and now < permit.since + policy.permit_valid_s
    if view.connected or granted_for_it:
        return Reason.PERMITTED
    return Reason.LOCAL_CERTAINTY if wanted.certain else None


def _with(usable: Reason, policy: FloorPolicy, view: FleetView, refusal: Reason | None) -> Ruling:
    if refusal is not None:
        return Ruling(permission=Permission.HOLD, reason=refusal, ask=True)
    return Ruling(permission=Permission.ALLOW, reason=usable, ask=True, wake_at=_stale_at(policy, view))


def _without(
    permit: Permit | None, policy: FloorPolicy, view: FleetView, refusal: Reason | None, now: Instant
) -> Ruling:
    if not view.connected:
        # A permit that is held keeps its place in the wish: it may be the only way out of here.
        return Ruling(permission=Permission.HOLD, reason=Reason.FLEET_UNREACHABLE, ask=True)
    since = now if permit is None else permit.since
    if permit is not None and permit.state is PermitState.REFUSED:
        reason = permit.reason or refusal or Reason.FLEET_FLOOR
        return Ruling(permission=Permission.HOLD, reason=reason, ask=True)
    if now < since + policy.permit_wait_s:
        wake_at = since + policy.permit_wait_s
        return Ruling(permission=Permission.NEED_PERMIT, reason=Reason.PERMIT_PENDING, ask=True, wake_at=wake_at)
    return Ruling(permission=Permission.HOLD, reason=refusal or Reason.PERMIT_PENDING, ask=True)


def _stale_at(policy: FloorPolicy, view: FleetView) -> Instant:
    return view.current_at + policy.view_age_bound_s


def _no_evidence(policy: FloorPolicy, view: FleetView, now: Instant) -> Reason | None:
    if now <= _stale_at(policy, view):
        return None
    return Reason.FLEET_VIEW_STALE if view.connected else Reason.FLEET_UNREACHABLE


def floor_refusal(
    policy: FloorPolicy, service: str, pop: str, region: str, members: Mapping[str, Member]
) -> Reason | None:
    """Return what speaks against `pop` leaving `service`; None if enough PoPs on duty serve without it."""
    counted = [member for name, member in members.items() if service in member.serving and name != pop]
    if len(counted) < policy.minimum_announcing:
        return Reason.FLEET_FLOOR
    needed = policy.minimum_per_region.get(region, 0)
    if needed and sum(member.record.report.region == region for member in counted) < needed:
        return Reason.REGION_FLOOR
    if policy.minimum_capacity_ratio is None:
        return None
    if len(counted) + 1 == len(members) and pop in members:
        rest = [members[pop]]  # what is so almost always needs no search
    else:
        rest = [member for name, member in members.items() if service not in member.serving or name == pop]
    # Its lease has ended, or it is new: what it carries is missing from the demand.
    missing = None if pop in members else Reason.CAPACITY_UNKNOWN
    return _capacity_refusal(policy.minimum_capacity_ratio, counted, rest) or missing


def _capacity_refusal(ratio: float, left: list[Member], rest: list[Member]) -> Reason | None:
    """Those left must carry the demand on all, for each resource that limits all of them. Unknown is not 0."""
    # Users on their way from one PoP to another are in no average for a while, but in the peak of where they were.
    rows = [load.room_demand for member in left if (load := member.load) is not None]
    beside = [load.room_demand for member in rest if (load := member.load) is not None]
    if len(rows) < len(left) or len(beside) < len(rest):
        return Reason.CAPACITY_UNKNOWN
    # By columns: there may be a thousand rows, and this is asked on every turn of a quiet PoP.
    totals, more = list(map(sum, columns(rows))), list(map(sum, columns(beside)))
    many = len(totals) // 2
    for place, capacity in enumerate(totals[:many]):
        demand = totals[many + place] + (more[many + place] if more else 0.0)
        if capacity == inf:
            # Somebody who is left has no limit.
            continue
        if demand == inf:
            return Reason.CAPACITY_UNKNOWN
        if capacity < ratio * demand:
            return Reason.CAPACITY_FLOOR
    return None


def common_cause(wanted: Withdrawal, policy: FloorPolicy, view: FleetView) -> Reason | None:
    """Say whether what turned this PoP bad looks shared. Recovery ends it, not time."""
    service = wanted.service
    if not [member for member in view.members.values() if service not in member.serving]:
        return None  # who serves is not bad, and that needs no look at the reports
    reports = _reports_of_others(wanted.pop, service, view.members)
    bad = [report for report in reports if not report.good]
    if not bad:
        return None
    if len(bad) == len(reports) and wanted.stage and all(report.stage == wanted.stage for report in bad):
        return Reason.SAME_STAGE_EVERYWHERE
    sinces = sorted([wanted.bad_since, *(report.bad_since for report in bad if report.bad_since is not None)])
    together = _most_within(sinces, policy.common_cause_window_s, around=wanted.bad_since)
    if together >= _SEVERAL and together > policy.common_cause_share * (len(reports) + 1):
        return Reason.COMMON_CAUSE
    return None


def _reports_of_others(pop: str, service: str, members: Mapping[str, Member]) -> list[ServiceReport]:
    found = (member.record.report.services.get(service) for name, member in members.items() if name != pop)
    return [report for report in found if report is not None]


def _most_within(sinces: list[Instant], window_s: float, *, around: Instant) -> int:
    """Return how many instants at most lie in one window that contains `around`. `sinces` is sorted."""
    first, last = bisect_left(sinces, around - window_s), bisect_right(sinces, around)
    return max(bisect_right(sinces, sinces[begin] + window_s) - begin for begin in range(first, last))


def wants_standing(
    own: ServiceReport, pop: str, region: str, policy: FloorPolicy, view: FleetView, now: Instant
) -> bool:
    """Say whether this PoP, serving and content, is to hold a permit ahead of need.

    Without such permits no PoP could leave while the store is away; if all that the floor can spare held one, no other
    PoP could leave at all. So a share of them hold one, and they give it back as soon as anybody needs room.
    """
    service = own.service
    permit = view.permits.get(service)
    held = permit is not None and permit.state is PermitState.HELD
    if not view.connected or now > _stale_at(policy, view):
        return held
    if not held and not _mine_stands_ready(pop, service, view) and _somebody_before(pop, service, view):
        # The next one is for the first by name, and so for hardly anybody: nothing else has to be counted.
        return False
    if not (own.good and own.announced):
        return False
    duty: dict[str, Member] = {}
    holders: list[str] = []
    # One pass: there may be a thousand of them, and this is asked on every turn of a quiet PoP.
    for name, member in view.members.items():
        if service in member.record.asking:
            return False
        if service in member.serving:
            duty[name] = member
        elif _stands_ready(member, service):
            holders.append(name)
    if floor_refusal(policy, service, pop, region, view.members) is not None:
        return False
    limit = ceil(policy.standing_share * max(len(duty) + len(holders) - policy.minimum_announcing, 0))
    if held or pop in holders:
        return sum(name < pop for name in holders) < limit
    return len(holders) < limit and pop == min(duty, default="")


def _mine_stands_ready(pop: str, service: str, view: FleetView) -> bool:
    member = view.members.get(pop)
    return member is not None and _stands_ready(member, service)


def _somebody_before(pop: str, service: str, view: FleetView) -> bool:
    return any(view.members[name].counts(service) for name in view.members if name < pop)


def _stands_ready(member: Member, service: str) -> bool:
    report = member.record.report.services.get(service)
    released = member.record.stances.get(service) is Stance.PERMIT
    return released and report is not None and report.good and bool(report.announced)
