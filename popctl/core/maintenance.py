"""The life of planned work: draining, waiting for the sessions that are left, withdrawn, over.

Rules. A stage is never gone back from: what was withdrawn stays so, whatever meters say later. Nobody waits for longer
than was ordered. That no session is left is believed only of meters that all answer. When it is over nothing is forced:
the service comes back as it does after any other absence, through warm-up.
"""

from __future__ import annotations

from dataclasses import dataclass

from popctl.model.instant import Instant
from popctl.model.maintenance import Maintenance, Progress, Sessions, Stage
from popctl.model.pop import Announce
from popctl.model.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a maintenance wants announced, and until when time alone keeps it so."""

    announce: Announce
    reason: Reason
    until: Instant


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
