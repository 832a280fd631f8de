"""Metrics of load: what each backend uses, and where the PoP stands. What is unknown has no line; it is never 0."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from popctl.core import damping, load, load_step
from popctl.model.desired import LoadDecision
from popctl.model.instant import Instant
from popctl.model.load import Symptom
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
    yield from _told(pop, view, now)


def _told(pop: Pop, view: View, now: Instant) -> Iterator[Metric]:
    """Return what the meters said last, while it may be believed: who moves much, and what looks like overload."""
    labels = ("backend", "class")
    sessions = GaugeMetricFamily("popctl_backend_class_sessions", "Sessions by what they move.", labels=labels)
    bits = GaugeMetricFamily("popctl_backend_class_bit_s", "Bits per second that they move.", labels=labels)
    symptoms = GaugeMetricFamily("popctl_backend_symptom", "1: seen at the last look.", labels=("backend", "symptom"))
    for number, one in dict(view.loads).items():
        if not load.heard(one, pop.load_timing, now):
            continue
        name = pop.backends[number].name
        for symptom in Symptom:
            symptoms.add_metric((name, symptom), symptom in one.symptoms)
        if one.classes is not None:
            for kind, share in (("interactive", one.classes.interactive), ("bulk", one.classes.bulk)):
                sessions.add_metric((name, kind), share.sessions)
                bits.add_metric((name, kind), share.bit_s)
    yield sessions
    yield bits
    yield symptoms


def level_families(pop: Pop, view: View, found: LoadDecision | None, now: Instant) -> Iterator[Metric]:
    """Return where the PoP stands on its ladder, how full it is, what neighbours keep of it, and the playbook."""
    if pop.load is None:
        return
    if found is not None:
        yield GaugeMetricFamily("popctl_load_level", "Level on the PoP's ladder; 0 is normal.", value=found.level)
        yield GaugeMetricFamily("popctl_load_settling", "The last step is not verified yet.", value=found.settling)
        yield _reason(found)
        if found.tightness.resource is not None:
            full = GaugeMetricFamily(
                "popctl_load_full", "Used by capacity of the tightest resource, at least.", labels=("resource", "exact")
            )
            full.add_metric((found.tightness.resource, str(found.tightness.exact).lower()), found.tightness.at_least)
            yield full
    penalty = GaugeMetricFamily("popctl_flap_penalty", "What an upstream may keep of our changes.", labels=("asn",))
    for asn, one in load_step.penalties(pop, view, now).items():
        penalty.add_metric((str(asn),), damping.value(one, now, pop.load.policies.damping))
    yield penalty
    if pop.load.playbook is not None:
        yield from _playbook(view, now)


def _reason(found: LoadDecision) -> Metric:
    family = GaugeMetricFamily("popctl_load_reason", "1 for the reason of the level.", labels=("reason",))
    if found.reason is not None:
        family.add_metric((found.reason,), 1.0)
    return family


def _playbook(view: View, now: Instant) -> Iterator[Metric]:
    book = view.playbook
    good = book is not None and book.playbook is not None and not book.problem
    yield GaugeMetricFamily("popctl_playbook_good", "The file is what is in force. 0: alarm.", value=good)
    if book is not None and book.playbook is not None:
        age_s = max(now - book.created, 0.0)
        yield GaugeMetricFamily("popctl_playbook_age_seconds", "Of the playbook in force.", value=age_s)
