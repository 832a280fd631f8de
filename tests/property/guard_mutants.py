"""Guards and ledgers with one safeguard missing: the property must find each of them out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from popctl.core import guard
from popctl.core.guard import Cause, Permission, Ruling, Withdrawal
from popctl.fleet.ledger import Ledger
from popctl.fleet.line import Snapshot, Write
from popctl.fleet.store import MemoryStore
from popctl.fleet.target import Pace
from popctl.model.fleet import FleetView, FleetWish, FloorPolicy, Member, PermitState, Record, Stance
from popctl.model.instant import NEVER, Instant
from popctl.model.reason import Reason
from tests.property.guard_world import Rules, Timed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def _by_sight(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    """Look at the view and go: no permits."""
    ruling = guard.judge(wanted, policy, view, now)
    if policy is None or now - view.current_at > policy.view_age_bound_s:
        return ruling
    if guard.floor_refusal(policy, wanted.service, wanted.pop, wanted.region, view.members) is None:
        return replace(ruling, permission=Permission.ALLOW)
    return ruling


def _certain_needs_no_permit(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    """Believe that local certainty and a view are enough while the store is away."""
    ruling = guard.judge(wanted, policy, view, now)
    if wanted.certain and not view.connected:
        return _by_sight(wanted, policy, view, now)
    return ruling


def _permit_is_enough(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    """Use a permit without looking whether the others are still there."""
    ruling = guard.judge(wanted, policy, view, now)
    permit = view.permits.get(wanted.service)
    if permit is not None and permit.state is PermitState.HELD:
        return Ruling(permission=Permission.ALLOW, reason=Reason.PERMITTED, ask=True)
    return ruling


def _operator_goes(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    """Let an operator go without force, whatever is left."""
    ruling = guard.judge(wanted, policy, view, now)
    return replace(ruling, permission=Permission.ALLOW) if wanted.cause is Cause.OPERATOR else ruling


def _load_needs_no_permit(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    """Take a withdraw for load for one that harms nobody."""
    return (_by_sight if wanted.cause is Cause.LOAD else guard.judge)(wanted, policy, view, now)


def _never_settles(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    """Believe in the others at once after an outage."""
    return guard.judge(wanted, policy, replace(view, settled_at=-NEVER), now)


def _force_tells_nobody(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    """Leave by force before the store knows."""
    ruling = guard.judge(wanted, policy, view, now)
    return replace(ruling, permission=Permission.ALLOW) if wanted.forced else ruling


def _without_region(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    return guard.judge(wanted, None if policy is None else replace(policy, minimum_per_region={}), view, now)


def _without_capacity(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    return guard.judge(wanted, None if policy is None else replace(policy, minimum_capacity_ratio=None), view, now)


class _GrantsInAnyRegion(Ledger):
    """Grants whatever region empties."""

    def __init__(self, pop: str, incarnation: str, policy: FloorPolicy, pace: Pace | None = None) -> None:
        super().__init__(pop, incarnation, replace(policy, minimum_per_region={}), pace)


class _GrantsAnyCapacity(Ledger):
    """Grants whatever the others can carry."""

    def __init__(self, pop: str, incarnation: str, policy: FloorPolicy, pace: Pace | None = None) -> None:
        super().__init__(pop, incarnation, replace(policy, minimum_capacity_ratio=None), pace)


class _NoFence(Ledger):
    """Grants without comparing the fence."""

    def next_write(self, now: Instant) -> Write | None:
        write = super().next_write(now)
        return None if write is None else replace(write, fence=None)


class _KeepsPermit(Ledger):
    """Believes in a held permit while the write that gives it back is under way."""

    def next_write(self, now: Instant) -> Write | None:
        granted = dict(self._granted)
        write = super().next_write(now)
        self._granted = granted
        return write


class _TrustsFence(Ledger):
    """Takes its own fence for the latest news, though others may have left just before it."""

    def written(self, revision: int, now: Instant) -> None:
        write = self._in_flight[0] if self._in_flight is not None else None
        super().written(revision, now)
        if write is not None and write.renew_fence:
            self._fence = max(self._fence, revision)


class _FindsPermitAgain(Ledger):
    """Believes in the permit that it reads when it comes back, though a write that ends it may yet arrive."""

    def connected(self, snapshot: Snapshot, *, asked_at: Instant, now: Instant) -> None:
        super().connected(snapshot, asked_at=asked_at, now=now)
        if self._own is not None:
            self._own_is(self._own, now)


class _LeavesQuietly(Ledger):
    """Goes off duty without renewing the fence."""

    def next_write(self, now: Instant) -> Write | None:
        write = super().next_write(now)
        return None if write is None else replace(write, renew_fence=False)


def _as_if_on_duty(members: Mapping[str, Member]) -> dict[str, Member]:
    return {name: replace(member, record=_on_duty(member.record)) for name, member in members.items()}


def _on_duty(record: Record) -> Record:
    duty = {name: Stance.DUTY if service.announced else Stance.OUT for name, service in record.report.services.items()}
    return replace(record, stances=duty)


def _judge_by_announcements(wanted: Withdrawal, policy: FloorPolicy | None, view: FleetView, now: Instant) -> Ruling:
    return guard.judge(wanted, policy, replace(view, members=_as_if_on_duty(view.members)), now)


class _CountsPermits(Ledger):
    """Counts everybody who announces, also those who may leave at any moment."""

    def _refusal(self, service: str, wish: FleetWish) -> Reason | None:
        members = _as_if_on_duty(self._roster.members)
        return guard.floor_refusal(self._policy, service, self._pop, wish.report.region, members)


class _LastWriteWins(MemoryStore[Timed]):
    """A store used without comparing the own record."""

    def commit(
        self,
        pop: str,
        value: Timed,
        lease: int,
        *,
        replaces: int,  # noqa: ARG002 - what this mutant leaves out
        fence: int | None = None,
        renew_fence: bool = False,
        pins: Iterable[tuple[str, int]] = (),
    ) -> int | None:
        found = self.records.get(pop)
        known = found.modified if found else 0
        return super().commit(pop, value, lease, replaces=known, fence=fence, renew_fence=renew_fence, pins=pins)


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is left out, and whether chance finds it in reasonable time."""

    rules: Rules
    rare: bool = False


MUTANTS = {
    "no permits": Mutant(Rules(judge=_by_sight)),
    "no permit for local certainty": Mutant(Rules(judge=_certain_needs_no_permit)),
    "no evidence": Mutant(Rules(judge=_permit_is_enough)),
    "operator needs no permit": Mutant(Rules(judge=_operator_goes)),
    "load needs no permit": Mutant(Rules(judge=_load_needs_no_permit)),
    "no settling": Mutant(Rules(judge=_never_settles)),
    "force tells nobody": Mutant(Rules(judge=_force_tells_nobody)),
    "evidence without regions": Mutant(Rules(judge=_without_region)),
    "evidence without capacity": Mutant(Rules(judge=_without_capacity)),
    "permits without regions": Mutant(Rules(ledger=_GrantsInAnyRegion)),
    "permits without capacity": Mutant(Rules(ledger=_GrantsAnyCapacity)),
    "no fence": Mutant(Rules(ledger=_NoFence)),
    "fence not renewed": Mutant(Rules(ledger=_LeavesQuietly)),
    "fence believed unseen": Mutant(Rules(ledger=_TrustsFence)),
    "permit holders counted": Mutant(Rules(judge=_judge_by_announcements, ledger=_CountsPermits)),
    "permit kept while given back": Mutant(Rules(ledger=_KeepsPermit), rare=True),
    "own record not compared": Mutant(Rules(store=_LastWriteWins), rare=True),
    "permit found again": Mutant(Rules(ledger=_FindsPermitAgain), rare=True),
}
