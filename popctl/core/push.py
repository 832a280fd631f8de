"""What a push may do: make things worse faster. Health comes back through probes and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from popctl.model.instant import Instant
from popctl.model.pop import Backend
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason
from popctl.model.view import Health, Verdict


def died(backend: Backend, at: Instant) -> Mapping[ProbeKey, Health]:
    """Return the health of all probes of a backend whose VPN daemon ended: down, with a full streak.

    It replaces what was known. An answer that is under way leans up again but is one of `rise` that are needed, so a
    daemon that comes back at once is believed again after as many probes as after any other fall.
    """
    return {
        ProbeKey(backend.id, spec.name): Health(
            verdict=Verdict.DOWN,
            leaning=Verdict.DOWN,
            streak=spec.thresholds.fall,
            heard_at=at,
            changed_at=at,
            reason=Reason.DAEMON_DIED,
        )
        for spec in backend.probes
    }
