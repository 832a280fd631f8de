"""What the API tells of backends: verdicts, the last answer of every probe, the place in the balancer, drains.

Reads only; call from the event loop's thread.
"""

from __future__ import annotations

from popctl.agent.api_load import meter_status
from popctl.agent.api_recent import LastSeen
from popctl.agent.loop import Loop
from popctl.agent.sa_watch import SaWatch
from popctl.core import health
from popctl.model.instant import NEVER, Instant
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Backend, Pop
from popctl.model.probe import ProbeKey, ProbeSpec
from popctl.model.view import View
from popctl.wire import agent_api as wire
from popctl.wire.agent_balancer import BalancerStatus, DrainStatus, PlaceStatus


class BackendReporter:
    """Answers for the backends of one agent."""

    def __init__(self, pop: Pop, loop: Loop, last_seen: LastSeen, watch: SaWatch) -> None:
        self._pop = pop
        self._loop = loop
        self._last_seen = last_seen
        self._watch = watch

    def backend(self, backend: Backend, view: View, now: Instant) -> wire.BackendStatus:
        """Return one backend and everything that its verdict rests on."""
        verdict, reason, probe = health.backend_verdict(backend, view.health, now)
        return wire.BackendStatus(
            id=backend.id,
            name=backend.name,
            address=str(backend.address),
            verdict=verdict,
            reason=reason,
            probe=probe,
            draining=any(_drains(order, backend) for order in view.intents),
            probes=tuple(self._probe(backend, spec, view, now) for spec in backend.probes),
            balancer=self._place(backend, view),
            drain=next((self._drain(order, now) for order in view.intents if _drains(order, backend)), None),
            meter=None if backend.meter is None else meter_status(backend.id, self._pop, view, now),
        )

    def balancer(self, view: View, now: Instant) -> BalancerStatus | None:
        """Return what the kernel was last seen to hold; None where there is no balancer."""
        if self._pop.tables is None:
            return None
        actual = view.balancer
        return BalancerStatus(
            in_force=actual.in_force,
            writes=actual.writes,
            elements_changed=actual.elements_changed,
            drift_repairs=actual.drift_repairs,
            problem=actual.problem,
            mis_steered=self._watch.missteers.total(),
            split_clients=self._watch.missteers.splits,
            mis_steer_alarms=self._watch.missteers.alarms(now),
        )

    def _place(self, backend: Backend, view: View) -> PlaceStatus | None:
        decided = self._loop.decision.desired.backends if self._loop.decision else ()
        found = next((one for one in decided if one.backend == backend.id), None)
        if found is None:
            return None
        kernel = view.balancer
        agrees = (backend.id in kernel.alive, backend.id in kernel.draining) == (found.alive, found.draining)
        return PlaceStatus(place=found.place, reason=found.reason, in_kernel=kernel.in_force and agrees)

    def _drain(self, order: Intent, now: Instant) -> DrainStatus:
        progress = self._watch.progress(order.target)
        empty_in_s = progress.empty_at - now if progress and progress.empty_at < NEVER else None
        return DrainStatus(
            deadline_left_s=max(order.drain_until - now, 0.0) if order.drain_s else None,
            then=order.then,
            sas_left=progress.sas if progress else None,
            oldest_s=progress.oldest_s if progress and progress.sas else None,
            empty_in_s=None if empty_in_s is None else max(empty_in_s, 0.0),
            problem=self._watch.problem(order.target),
        )

    def _probe(self, backend: Backend, spec: ProbeSpec, view: View, now: Instant) -> wire.ProbeStatus:
        key = ProbeKey(backend.id, spec.name)
        record, last = view.health.get(key, health.UNHEARD), self._last_seen.of(key)
        verdict, reason = health.probe_verdict(record, spec.thresholds, now)
        return wire.ProbeStatus(
            name=spec.name,
            verdict=verdict,
            reason=reason,
            leaning=record.leaning,
            streak=record.streak,
            last_outcome=last.outcome if last else None,
            last_reason=last.reason if last else None,
            last_rtt_s=last.rtt_s if last else None,
            last_detail=last.detail if last else "",
            age_s=now - last.at if last else None,
        )


def _drains(order: Intent, backend: Backend) -> bool:
    return order.kind is IntentKind.DRAIN and order.target == backend.name
