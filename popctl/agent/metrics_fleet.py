"""Metrics of a PoP in a fleet: the view, the permits, and what is held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from popctl.agent.label_alarm import clashing
from popctl.model.desired import ServiceDecision
from popctl.model.fleet import FleetView, PermitState
from popctl.model.instant import NEVER, Instant
from popctl.model.pop import Pop


def fleet_families(
    pop: Pop, view: FleetView, standing: Mapping[str, ServiceDecision], now: Instant
) -> Iterator[Metric]:
    """Return them."""
    clashing_pops = len(clashing(pop.labelling, pop.name, view))
    yield GaugeMetricFamily("popctl_fleet_label_clashes", "PoPs whose labels clash with ours.", value=clashing_pops)
    yield GaugeMetricFamily("popctl_fleet_connected", "The store answers.", value=view.connected)
    yield GaugeMetricFamily("popctl_fleet_pops", "PoPs with a record in the store.", value=len(view.members))
    if view.current_at > -NEVER:
        age_s = max(now - view.current_at, 0.0)
        yield GaugeMetricFamily("popctl_fleet_view_age_seconds", "How old the view may be.", value=age_s)
    permits = GaugeMetricFamily("popctl_fleet_permit", "1 for where it stands.", labels=("service", "state"))
    held = GaugeMetricFamily(
        "popctl_service_held", "1: should withdraw, and the guard does not allow it. Alarm.", labels=("service",)
    )
    for name, one in standing.items():
        permit = view.permits.get(name)
        for state in PermitState:
            permits.add_metric((name, state), permit is not None and permit.state is state)
        held.add_metric((name,), one.held)
    yield permits
    yield held
