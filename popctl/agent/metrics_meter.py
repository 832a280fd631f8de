"""Metrics of what the meters read beside what load is made of. For people and alarms: nothing is decided by it.

What a meter did not read, and what is older than figures may be, has no line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields

from prometheus_client.core import GaugeMetricFamily, Metric

from popctl.model.instant import Instant
from popctl.model.meter import Heard, Unread
from popctl.model.pop import Pop

_SOURCES = ("ike", "l2tp", "cpu", "conntrack")


def meter_families(pop: Pop, heard: Mapping[int, Heard], now: Instant) -> Iterator[Metric]:
    """Return one gauge for the sources that a host has once, and one for its links. `heard` is by id of the backend."""
    fresh = [
        (pop.backends[number].name, one.snapshot)
        for number, one in heard.items()
        if now < one.at + pop.load_timing.stale_after_s
    ]
    figures = GaugeMetricFamily(
        "popctl_backend_meter", "What the meter read at its last look.", labels=("backend", "source", "figure")
    )
    links = GaugeMetricFamily("popctl_backend_link", "Of one interface.", labels=("backend", "interface", "figure"))
    for backend, snapshot in fresh:
        for source in _SOURCES:
            for name, value in _figures(getattr(snapshot, source)):
                figures.add_metric((backend, source, name), value)
        for link in () if isinstance(snapshot.links, Unread) else snapshot.links:
            for name, value in _figures(link):
                links.add_metric((backend, link.name, name), value)
    yield figures
    yield links


def _figures(source: object) -> Iterable[tuple[str, float]]:
    """Return the numbers of what one source told, by the names that the model gives them."""
    if isinstance(source, Unread):
        return
    for one in fields(source):  # type: ignore[arg-type]
        value = getattr(source, one.name)
        if isinstance(value, (int, float)):
            yield one.name, float(value)
