"""The life of planned work: draining, waiting for the sessions that are left, withdrawn, over.

Rules. A stage is never gone back from: what was withdrawn stays so, whatever meters say later. Nobody waits for longer
than was ordered. That no session is left is believed only of meters that all answer. When it is over nothing is forced:
the service comes back as it does after any other absence, through warm-up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from popctl.model.instant import NEVER, Instant
from popctl.model.maintenance import Maintenance, Progress, Sessions, Stage
from popctl.model.pop import Announce
from popctl.model.reason import Reason

_LONGEST_S = 366 * 86400.0
"""Longer than a year is a typing error."""


class MaintenanceError(ValueError):
    """An order that cannot be meant."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a maintenance wants announced, and until when time alone keeps it so."""

    announce: Announce
    reason: Reason
    until: Instant


def check(maintenance: Maintenance, unix_s: float) -> None:
    """Refuse an order that cannot be meant. Raises `MaintenanceError`."""
    if not maintenance.reason.strip():
        raise MaintenanceError("reason", "says nothing")
    if not 0.0 <= maintenance.drain_s <= _LONGEST_S:
        raise MaintenanceError("drain", f"{maintenance.drain_s:g} s is not a time to wait")
    expires = maintenance.expires_unix_s
    if expires is None:
        return
    if expires <= unix_s:
        raise MaintenanceError("expiry", "is in the past")
    if expires > unix_s + _LONGEST_S:
        raise MaintenanceError("expiry", "is more than a year away")
    if expires <= unix_s + maintenance.drain_s:
        raise MaintenanceError("expiry", "comes before the drain is over: the service would never be withdrawn")


def with_deadlines(maintenance: Maintenance, *, unix_s: float, now: Instant) -> Maintenance:
    """Turn wall times into deadlines of this run. `unix_s` and `now` are the same moment on both clocks.

    A wall clock that was set back cannot keep a drain going for longer than ordered.
    """
    left_s = min(max(maintenance.created_unix_s + maintenance.drain_s - unix_s, 0.0), maintenance.drain_s)
    expires = maintenance.expires_unix_s
    return replace(
        maintenance,
        began=now - (maintenance.drain_s - left_s),
        drain_until=now + left_s,
        expires=NEVER if expires is None else now + max(expires - unix_s, 0.0),
    )


def extended(maintenance: Maintenance, expires_unix_s: float | None, *, unix_s: float, now: Instant) -> Maintenance:
    """Return the order with another expiry; what is under way goes on. Raises `MaintenanceError`."""
    changed = replace(maintenance, expires_unix_s=expires_unix_s)
    # Its drain is not begun again, so it cannot be the reason to refuse.
    check(replace(changed, drain_s=0.0), unix_s)
    return replace(changed, expires=NEVER if expires_unix_s is None else now + expires_unix_s - unix_s)


def advance(
    maintenance: Maintenance, progress: Progress, sessions: Sessions, convergence_s: float, now: Instant
) -> Progress:
    """Move on as far as this moment allows. Idempotent at one `now`."""
    if now >= maintenance.expires or progress.stage is Stage.OVER:
        return _at(progress, Stage.OVER, now)
    if progress.stage is Stage.WITHDRAWN or now >= maintenance.drain_until:
        return _at(progress, Stage.WITHDRAWN, now)
    if now < maintenance.began + convergence_s:
        return progress
    return _at(progress, Stage.WITHDRAWN if sessions.count == 0 else Stage.WAITING, now)


def _at(progress: Progress, stage: Stage, now: Instant) -> Progress:
    return progress if progress.stage is stage else Progress(stage=stage, since=now)


def standing(maintenance: Maintenance, progress: Progress, convergence_s: float) -> Standing | None:
    """Return what the stage wants; None when it is over."""
    match progress.stage:
        case Stage.DRAINING:
            turned_away = min(maintenance.began + convergence_s, maintenance.drain_until, maintenance.expires)
            return Standing(announce=Announce.GRACEFUL_SHUTDOWN, reason=Reason.OPERATOR_DRAIN, until=turned_away)
        case Stage.WAITING:
            until = min(maintenance.drain_until, maintenance.expires)
            return Standing(announce=Announce.GRACEFUL_SHUTDOWN, reason=Reason.SESSIONS_LEAVING, until=until)
        case Stage.WITHDRAWN:
            return Standing(announce=Announce.WITHDRAWN, reason=Reason.OPERATOR_WITHDRAW, until=maintenance.expires)
        case Stage.OVER:
            return None
