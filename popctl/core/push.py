"""What a push may do: make things worse faster. Health comes back through probes and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from popctl.core.health import UNHEARD
from popctl.model.instant import Instant
from popctl.model.pop import Backend
from popctl.model.probe import ProbeKey, ProbeSpec
from popctl.model.reason import Reason
from popctl.model.view import Health, Verdict


def died(backend: Backend, at: Instant, known: Mapping[ProbeKey, Health]) -> Mapping[ProbeKey, Health]:
    """Return the health of the probes of a backend whose VPN daemon ended at `at`: down, with a full streak.

    It replaces what was known, but for probes that were answered since: those know better than news of long ago. An
    answer that is under way leans up again but is one of `rise` that are needed, so a daemon that comes back at once is
    believed again after as many probes as after any other fall.
    """
    records = ((spec, ProbeKey(backend.id, spec.name)) for spec in backend.probes)
    return {key: _down(spec, known.get(key, UNHEARD), at) for spec, key in records if not _answered(known.get(key), at)}


def _answered(known: Health | None, since: Instant) -> bool:
    return known is not None and known.answered_at is not None and known.answered_at > since


def _down(spec: ProbeSpec, known: Health, at: Instant) -> Health:
    return Health(
        verdict=Verdict.DOWN,
        leaning=Verdict.DOWN,
        streak=spec.thresholds.fall,
        # A probe that has failed since keeps it fresh.
        heard_at=at if known.heard_at is None else max(at, known.heard_at),
        changed_at=at,
        reason=Reason.DAEMON_DIED,
        answered_at=known.answered_at,
    )
