"""What a PoP wants to stand in the store, and when that has to be written. Pure; the ledger knows what stands there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from popctl.model.fleet import FleetWish, Member, Record, ServiceReport, Stance
from popctl.model.instant import NEVER, Instant

if TYPE_CHECKING:
    from popctl.model.reason import Reason

MAX_PINS = 64
"""Records that a grant compares; etcd refuses a transaction with more than 128 comparisons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a PoP writes."""

    quiet_s: float = 2.0
    """Between two writes, unless a rung, a stance or health changes."""
    refresh_s: float = 10.0
    """A write at least this often: its echo proves that the view is current."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The record to be."""

    record: Record
    grants: frozenset[str]
    """Services for which the floor has to allow it."""
    refusals: Mapping[str, Reason]
    """Why the floor refuses the permits that are wanted and not in it."""

    def leaves(self, before: Record | None) -> bool:
        """Whether others can count on this PoP for less than `before` says."""
        duties = () if before is None else (name for name, stance in before.stances.items() if stance is Stance.DUTY)
        return bool(self.grants) or any(self.record.stance(service) is not Stance.DUTY for service in duties)


def target(wish: FleetWish, granted: Collection[str], refusal: Callable[[str], Reason | None]) -> Target:
    """Return what the wish comes to. `refusal` asks the floor about a service."""
    stances: dict[str, Stance] = {}
    refusals: dict[str, Reason] = {}
    grants = set()
    for service, report in wish.report.services.items():
        stance = Stance.DUTY if report.announced else Stance.OUT
        if service in wish.permits:
            if service in granted or service in wish.forced:
                stance = Stance.PERMIT
            elif (refused := refusal(service)) is None:
                stance = Stance.PERMIT
                grants.add(service)
            else:
                refusals[service] = refused
        stances[service] = stance
    asking = frozenset(refusals.keys() - wish.standing)
    record = Record(report=wish.report, stances=stances, asking=asking)
    return Target(record=record, grants=frozenset(grants), refusals=refusals)


def due_at(wanted: Record, stands: Record | None, wrote_at: Instant, pace: Pace) -> Instant:
    """Return when `wanted` is to be written; `stands` is what this agent wrote and is still there, None if nothing."""
    if stands is None or _urgent(wanted) != _urgent(stands):
        return -NEVER
    return wrote_at + (pace.quiet_s if wanted != stands else pace.refresh_s)


def pins(grants: Iterable[str], pop: str, region: str, members: Mapping[str, Member]) -> tuple[tuple[str, int], ...]:
    """Return whom grants count on, by the revision that created their records.

    Where that is too many for one transaction, the own region comes first: the floor of the fleet can be met by any of
    the others, that of the region by nobody else.
    """
    counted = {
        name: member for service in grants for name, member in members.items() if name != pop and member.counts(service)
    }
    first = sorted(counted, key=lambda name: (counted[name].record.report.region != region, name))
    return tuple((name, counted[name].created) for name in first[:MAX_PINS])


def _urgent(record: Record) -> object:
    """Return what others must not wait for."""
    report = record.report
    facts = {name: _urgent_service(service) for name, service in report.services.items()}
    return facts, record.stances, record.asking, report.incarnation, report.region


def _urgent_service(service: ServiceReport) -> ServiceReport:
    return replace(service, healthy=0, needed=0, bad_since=None, reason="", stage="", certain=False)
