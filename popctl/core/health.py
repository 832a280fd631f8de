"""Health: fold outcomes into verdicts, probes into backends. Says what UNKNOWN and silence mean; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping

from popctl.model.instant import NEVER, Instant
from popctl.model.observation import Observation, Outcome
from popctl.model.pop import Backend
from popctl.model.probe import ProbeKey, Thresholds
from popctl.model.reason import Reason
from popctl.model.view import Health, Verdict

UNHEARD = Health()


def step(health: Health, observation: Observation, need: Thresholds) -> Health:
    """Fold one outcome into `health`; a verdict flips only after a full streak.

    An UNKNOWN outcome changes nothing: it says something about us, not about the backend. A verdict
    that has gone stale is forgotten: it takes a full streak again, else a first FAIL after a long silence would revive
    an "up" that nobody believed any more.
    """
    if observation.outcome is Outcome.UNKNOWN:
        return health
    if _is_stale(health, need, observation.at):
        health = Health(answered_at=health.answered_at)
    passed = observation.outcome is Outcome.PASS
    leaning = Verdict.UP if passed else Verdict.DOWN
    streak = health.streak + 1 if leaning is health.leaning else 1
    refused = health.refused + 1 if observation.reason is Reason.REFUSED else 0
    full = streak >= need.rise if passed else streak >= need.fall or refused >= need.fall_refused
    verdict = leaning if full else health.verdict
    changed_at = observation.at if verdict is not health.verdict else health.changed_at
    reason = None if passed else _evidence(health, observation.reason)
    answered_at = observation.at if passed else health.answered_at
    return Health(verdict, leaning, streak, refused, observation.at, changed_at, reason, answered_at)


def _evidence(health: Health, found: Reason) -> Reason:
    """Return what "down" rests on after another FAIL: probes of a daemon that died say less than its kernel did."""
    return Reason.DAEMON_DIED if health.reason is Reason.DAEMON_DIED else found


def probe_verdict(health: Health, need: Thresholds, now: Instant) -> tuple[Verdict, Reason]:
    """Return what is believed now: a verdict nobody has confirmed for `stale_after_s` is not believed any more."""
    if health.heard_at is None:
        return Verdict.UNKNOWN, Reason.NOT_YET_KNOWN
    if _is_stale(health, need, now):
        return Verdict.UNKNOWN, Reason.STALE
    match health.verdict:
        case Verdict.UP:
            return Verdict.UP, Reason.RISEN
        case Verdict.DOWN:
            return Verdict.DOWN, health.reason or Reason.FALLEN
        case Verdict.UNKNOWN:
            return Verdict.UNKNOWN, Reason.NOT_YET_KNOWN


def _is_stale(health: Health, need: Thresholds, now: Instant) -> bool:
    return health.heard_at is not None and now >= health.heard_at + need.stale_after_s


def backend_verdict(
    backend: Backend, health: Mapping[ProbeKey, Health], now: Instant
) -> tuple[Verdict, Reason, str | None]:
    """Return the backend's verdict, why, and the name of the probe that decided it.

    All probes must agree on "up", because IKE, NAT-T and L2TP of one client end at one place. One that is down
    settles it; else one that is unknown leaves the backend unknown.
    """
    unknown: tuple[Verdict, Reason, str | None] | None = None
    for spec in backend.probes:
        record = health.get(ProbeKey(backend.id, spec.name), UNHEARD)
        verdict, reason = probe_verdict(record, spec.thresholds, now)
        if verdict is Verdict.DOWN:
            return verdict, reason, spec.name
        if verdict is Verdict.UNKNOWN and unknown is None:
            unknown = (verdict, reason, spec.name)
    return unknown or (Verdict.UP, Reason.RISEN, None)


def next_stale(backend: Backend, health: Mapping[ProbeKey, Health], now: Instant) -> Instant:
    """Return when the next verdict of `backend` goes stale by time alone, or `NEVER`."""
    return min(
        (
            record.heard_at + spec.thresholds.stale_after_s
            for spec in backend.probes
            if (record := health.get(ProbeKey(backend.id, spec.name), UNHEARD)).heard_at is not None
            and record.heard_at + spec.thresholds.stale_after_s > now
        ),
        default=NEVER,
    )
