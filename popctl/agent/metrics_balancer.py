"""The balancer's metrics: what is in force, where each backend is, and what the rules have counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from popctl.core.decide import Decision
from popctl.lb.balancer import KernelError
from popctl.model.desired import Place
from popctl.model.pop import Pop
from popctl.model.view import View
from popctl.wire.errors import WireError
from popctl.wire.nft_counters import Counters

_LOG = structlog.get_logger("popctl.metrics")


def balancer_families(
    pop: Pop, view: View, decision: Decision | None, counters: Callable[[], Counters]
) -> Iterator[Metric]:
    """Return the families. Reading the counters blocks for milliseconds: call it in a thread."""
    actual = view.balancer
    yield GaugeMetricFamily("popctl_balancer_in_force", "Rules and routes were read back.", value=actual.in_force)
    for name, documentation, value in (
        ("popctl_balancer_writes", "Transactions on the kernel.", actual.writes),
        ("popctl_balancer_elements_changed", "Elements that health and drains changed.", actual.elements_changed),
        ("popctl_balancer_drift_repairs", "Changes of others that were put right.", actual.drift_repairs),
    ):
        yield CounterMetricFamily(name, documentation, value=value)
    places = GaugeMetricFamily("popctl_backend_place", "1 for where it should be.", labels=("backend", "place"))
    for one in decision.desired.backends if decision else ():
        for place in Place:
            places.add_metric((pop.backends[one.backend].name, place), one.place is place)
    yield places
    yield from _counted(pop, counters)


def _counted(pop: Pop, counters: Callable[[], Counters]) -> Iterator[Metric]:
    try:
        found = counters()
    except (KernelError, WireError) as error:
        _LOG.warning("counters not read", problem=str(error))
        return
    steered, refused = ("backend", "reason"), ("service", "reason")
    packets = CounterMetricFamily("popctl_balancer_packets", "Steered to a backend.", labels=steered)
    volume = CounterMetricFamily("popctl_balancer_bytes", "Steered to a backend.", labels=steered)
    dropped = CounterMetricFamily("popctl_balancer_dropped_packets", "Given to nobody.", labels=refused)
    lost = CounterMetricFamily("popctl_balancer_dropped_bytes", "Given to nobody.", labels=refused)
    for (number, reason), count in found.forwarded.items():
        if number in pop.backends:
            packets.add_metric((pop.backends[number].name, reason), count.packets)
            volume.add_metric((pop.backends[number].name, reason), count.bytes)
    for (service, reason), count in found.dropped.items():
        dropped.add_metric((service, reason), count.packets)
        lost.add_metric((service, reason), count.bytes)
    yield from (packets, volume, dropped, lost)
    yield CounterMetricFamily(
        "popctl_balancer_icmp_over_limit", "ICMP errors that were not copied to all.", value=found.copies_over_limit
    )
