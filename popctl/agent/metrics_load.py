"""Metrics of the meters: what each backend uses. What is unknown has no line; it is never 0."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from popctl.core import load
from popctl.model.instant import Instant
from popctl.model.pop import Pop
from popctl.model.view import View


def load_families(pop: Pop, view: View, now: Instant) -> Iterator[Metric]:
    """Return them."""
    labels = ("backend", "resource")
    smooth = GaugeMetricFamily("popctl_backend_load", "What the backend uses, smoothed.", labels=labels)
    peak = GaugeMetricFamily("popctl_backend_load_peak", "Its fading peak.", labels=labels)
    # Copied first: the loop may fold a sample while this runs in another thread.
    for number, one in dict(view.loads).items():
        for resource, track in load.known(one, pop.load_timing, now).items():
            smooth.add_metric((pop.backends[number].name, resource), track.smooth)
            peak.add_metric((pop.backends[number].name, resource), track.peak)
    yield smooth
    yield peak
