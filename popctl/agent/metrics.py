"""Metrics for Prometheus: plain counters on the probe path, turned into families only when somebody scrapes.

`turn` runs in the loop's task thousands of times a second and looks up no label; `text` may run in another thread, so
it copies each table before it walks it. docs/api.md lists every metric.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from popctl.agent.api_status import route_state
from popctl.agent.events import Event
from popctl.agent.metrics_balancer import balancer_families
from popctl.agent.metrics_fleet import fleet_families
from popctl.agent.metrics_load import level_families, load_families
from popctl.agent.metrics_meter import meter_families
from popctl.agent.world import World
from popctl.core import health
from popctl.core.decide import Decision
from popctl.model.desired import ServiceDecision
from popctl.model.instant import Instant
from popctl.model.meter import Heard
from popctl.model.observation import IntentKind, Observation
from popctl.model.pop import Announce, Pop
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason
from popctl.model.route import route_table
from popctl.model.view import Verdict, View
from popctl.wire.agent_api import RouteState
from popctl.wire.nft_counters import Counters

RTT_BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)
LAG_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LAG_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A counter that somebody else keeps, such as the speaker's lease renewals."""

    name: str
    """Without `_total`."""
    documentation: str
    read: Callable[[], float]


class Histogram:
    """Counts by bucket. Cheap to feed: one search in a dozen bounds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value` into its bucket."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Iterable[str] = ()) -> None:
        """Add what was counted, cumulated as Prometheus wants it."""
        total, buckets = 0, []
        names = (*(repr(bound) for bound in self._bounds), "+Inf")
        for name, count in zip(names, self._counts.copy(), strict=True):
            total += count
            buckets.append((name, float(total)))
        family.add_metric(tuple(labels), buckets=buckets, sum_value=self._sum)


class _Probe:
    """What is counted of one probe of one backend."""

    __slots__ = ("labels", "last_rtt_s", "outcomes", "rtt")

    def __init__(self, backend: str, probe: str, rtt: Histogram) -> None:
        self.labels = (backend, probe)
        self.outcomes: dict[tuple[str, str], int] = {}
        self.rtt = rtt
        self.last_rtt_s: float | None = None

    def count(self, observation: Observation) -> None:
        kind = (observation.outcome, observation.reason)
        self.outcomes[kind] = self.outcomes.get(kind, 0) + 1
        if observation.rtt_s is not None:
            self.last_rtt_s = observation.rtt_s
            self.rtt.observe(observation.rtt_s)


class Metrics(Collector):
    """A sink of the loop, and the collector of its own registry."""

    def __init__(
        self,
        *,
        pop: Pop,
        world: World,
        clock: Callable[[], Instant],
        version: str,
        readings: tuple[Reading, ...] = (),
        counters: Callable[[], Counters] = Counters,
        missteers: Callable[[], Iterable[Metric]] = tuple,
        heard: Callable[[], Mapping[int, Heard]] = dict,
    ) -> None:
        self._missteers = missteers
        self._heard = heard
        self._pop = pop
        self._world = world
        self._clock = clock
        self._version = version
        self._readings = readings
        self._counters = counters
        self._decision: Decision | None = None
        names = {spec.name for backend in pop.backends.values() for spec in backend.probes}
        self._rtts = {name: Histogram(RTT_BOUNDS_S) for name in sorted(names)}
        self._probes = {
            ProbeKey(backend.id, spec.name): _Probe(backend.name, spec.name, self._rtts[spec.name])
            for backend in pop.backends.values()
            for spec in backend.probes
        }
        self._standing: dict[str, ServiceDecision] = {}
        self._decided: Counter[tuple[str, Reason]] = Counter()
        self._moved: Counter[tuple[str, Announce, Announce, Reason]] = Counter()
        self._turn_s = Histogram(LAG_BOUNDS_S)
        self._lag_s = Histogram(LAG_BOUNDS_S)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:
        """Count one turn of the loop."""
        for event in events:
            if isinstance(event, Observation):
                probe = self._probes.get(event.key)
                if probe is not None:
                    probe.count(event)
        if decision is not None:
            self._decision = decision
            self._count_decision(decision)
        self._turn_s.observe(self._clock() - now)

    async def watch_lag(self) -> None:
        """Measure, until cancelled, how late the event loop wakes a task: what every probe's clock suffers."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._lag_s.observe(max(loop.time() - due, 0.0))

    def text(self) -> bytes:
        """Return everything in the text format of Prometheus. Takes a while; may run in another thread."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Return the families, as `prometheus_client` asks for them."""
        view = self._world.view()
        yield from self._agent(view)
        yield from self._services()
        if self._pop.fleet is not None:
            yield from fleet_families(self._pop, view.fleet, self._standing.copy(), self._clock())
        yield from self._backends(view)
        if any(backend.meter is not None for backend in self._pop.backends.values()):
            yield from load_families(self._pop, view, self._clock())
            yield from meter_families(self._pop, self._heard(), self._clock())
        found = None if self._decision is None else self._decision.desired.load
        yield from level_families(self._pop, view, found, self._clock())
        yield from self._probe_families()
        yield from self._bgp(view)
        if self._pop.tables is not None:
            yield from balancer_families(self._pop, view, self._decision, self._counters)
            yield from self._missteers()

    def describe(self) -> Iterator[Metric]:
        """Return nothing: names do not clash in a registry of our own."""
        return iter(())

    def _count_decision(self, decision: Decision) -> None:
        for one in decision.desired.services:
            self._decided[one.service, one.reason] += 1
            before = self._standing.get(one.service)
            if before is not None and before.announce is not one.announce:
                self._moved[one.service, before.announce, one.announce, one.reason] += 1
            self._standing[one.service] = one

    def _agent(self, view: View) -> Iterator[Metric]:
        yield _gauge(
            "popctl_build_info", "Which popctl, for which PoP.", [((self._version, self._pop.name), 1)], _BUILD
        )
        yield _plain("popctl_connected", "ExaBGP answers through the relay.", view.actual.connected)
        yield _plain("popctl_state_corrupt", "The state file could not be believed.", view.state_corrupt)
        yield _plain("popctl_stopping", "The agent was told to stop.", view.stopping_since is not None)
        kinds = Counter(intent.kind for intent in view.intents)
        yield _gauge("popctl_intents", "Orders in force.", [((kind,), kinds[kind]) for kind in IntentKind], ("kind",))
        yield _histogram("popctl_turn_duration_seconds", "One turn: fold, decide, apply.", self._turn_s)
        yield _histogram("popctl_loop_lag_seconds", "How late the event loop wakes a task.", self._lag_s)
        for reading in self._readings:
            yield CounterMetricFamily(reading.name, reading.documentation, value=reading.read())

    def _services(self) -> Iterator[Metric]:
        standing, decided = self._standing.copy(), self._decided.copy()
        rungs = [((name, rung), one.announce is rung) for name, one in standing.items() for rung in Announce]
        yield _gauge("popctl_service_announce", "1 for the rung the service stands on.", rungs, ("service", "announce"))
        reasons = [((name, reason), standing[name].reason is reason) for name, reason in decided if name in standing]
        yield _gauge("popctl_service_reason", "1 for the reason of it.", reasons, ("service", "reason"))
        counts = [
            ((name, state), count)
            for name, one in standing.items()
            for state, count in (("healthy", one.healthy), ("unknown", one.unknown), ("needed", one.needed))
        ]
        yield _gauge("popctl_service_backends", "Backends by what counts.", counts, ("service", "state"))
        yield _counter("popctl_decisions", "Decisions by reason.", decided.items(), ("service", "reason"))
        moved = self._moved.copy().items()
        yield _counter("popctl_service_transitions", "Moves on the ladder.", moved, ("service", "from", "to", "reason"))

    def _backends(self, view: View) -> Iterator[Metric]:
        now = self._clock()
        draining = {intent.target for intent in view.intents if intent.kind is IntentKind.DRAIN}
        verdicts: list[tuple[tuple[str, ...], float]] = []
        for backend in self._pop.backends.values():
            found = health.backend_verdict(backend, view.health, now)[0]
            verdicts.extend(((backend.name, verdict), found is verdict) for verdict in Verdict)
        yield _gauge("popctl_backend_verdict", "1 for what is believed.", verdicts, ("backend", "verdict"))
        drains = [((backend.name,), backend.name in draining) for backend in self._pop.backends.values()]
        yield _gauge("popctl_backend_draining", "An operator drains it.", drains, ("backend",))

    def _probe_families(self) -> Iterator[Metric]:
        outcomes = CounterMetricFamily(
            "popctl_probe_outcomes", "Finished probes.", labels=(*_PROBE, "outcome", "reason")
        )
        last = GaugeMetricFamily("popctl_probe_last_rtt_seconds", "Of the last answer.", labels=_PROBE)
        for probe in self._probes.values():
            for kind, count in probe.outcomes.copy().items():
                outcomes.add_metric((*probe.labels, *kind), count)
            if probe.last_rtt_s is not None:
                last.add_metric(probe.labels, probe.last_rtt_s)
        yield outcomes
        yield last
        rtts = HistogramMetricFamily("popctl_probe_rtt_seconds", "From question to verdict.", labels=("probe",))
        for name, histogram in self._rtts.items():
            histogram.add_to(rtts, (name,))
        yield rtts

    def _bgp(self, view: View) -> Iterator[Metric]:
        actual, desired = view.actual, self._decision.desired.routes if self._decision else route_table()
        neighbors = [neighbor.address for neighbor in self._pop.neighbors]
        sessions = [((str(address),), actual.sessions.get(address, False)) for address in neighbors]
        yield _gauge("popctl_session_established", "BGP session by neighbour.", sessions, ("neighbor",))
        counts: Counter[tuple[str, str]] = Counter()
        for key, route in desired.items():
            counts[str(key.neighbor), "wanted"] += 1
            counts[str(key.neighbor), "proven"] += route_state(key, route, actual) is RouteState.PROVEN
        for state, keys in (("carried", actual.routes), ("pending", actual.pending), ("failed", actual.failed)):
            counts.update((str(key.neighbor), state) for key in keys)
        states = ("wanted", "proven", "carried", "pending", "failed")
        rows = [((str(address), state), counts[str(address), state]) for address in neighbors for state in states]
        yield _gauge("popctl_routes", "Routes by how far they have come.", rows, ("neighbor", "state"))


_PROBE = ("backend", "probe")
_BUILD = ("version", "pop")

_Rows = Iterable[tuple[tuple[str, ...], float]]


def _gauge(name: str, documentation: str, rows: _Rows, labels: tuple[str, ...]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _counter(name: str, documentation: str, rows: _Rows, labels: tuple[str, ...]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _plain(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)


def _histogram(name: str, documentation: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=())
    histogram.add_to(family)
    return family
