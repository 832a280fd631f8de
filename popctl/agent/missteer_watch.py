"""Mis-steers as the backends tell them: counted from their own counters, and their SAs looked at for the silent form.

Tells operators; decides nothing. Counters come with the load of a meter, or over VICI; SAs only over VICI. A backend
with neither is unknown, never 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from popctl.agent.events import Event
from popctl.core.decide import Decision
from popctl.core.missteer import follow, grown
from popctl.lb import sas
from popctl.lb.sas import Walk
from popctl.model.balancer import SpiPlan
from popctl.model.desired import Place
from popctl.model.instant import Instant
from popctl.model.load import LoadSample
from popctl.model.missteer import History, RefusalKind, Split
from popctl.model.pop import Backend, Pop, ViciEndpoint
from popctl.vici.errors import ViciError

_LOG = structlog.get_logger("popctl.missteer")

EVERY_S = 5.0
"""Between two looks at the counters of a charon."""
WALK_EVERY_S = 30.0
WALK_SHARE = 50.0
"""SAs are walked for at most one part in so many of the time."""
ALARM_S = 600.0
"""How long an alarm stands after the last time."""
FORGET_S = 600.0

Refused = Callable[[ViciEndpoint], Awaitable[int]]
Walker = Callable[[ViciEndpoint, int, tuple[SpiPlan, ...], int], Awaitable[Walk]]


@dataclass(slots=True)
class _Counter:
    """One counter of one backend."""

    last: int | None = None
    total: int = 0
    at: Instant | None = None
    """When it last grew."""


@dataclass(slots=True)
class _Book:
    """What is known of all backends."""

    counters: dict[tuple[int, RefusalKind], _Counter] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    """Why a backend does not label as it should; empty when it does."""
    history: History = field(default_factory=History)
    split: dict[Split, Instant] = field(default_factory=dict)
    splits: int = 0


class MissteerWatch:
    """A sink of the loop, for what meters tell, with a task of its own for VICI."""

    def __init__(
        self,
        pop: Pop,
        clock: Callable[[], Instant],
        *,
        refused: Refused = sas.refused,
        walk: Walker = sas.walk,
        walk_every_s: float = WALK_EVERY_S,
    ) -> None:
        self._walk_every_s = walk_every_s
        self._pop = pop
        self._clock = clock
        self._refused = refused
        self._walk = walk
        members = pop.tables.backends if pop.tables else {}
        self._members = frozenset(members)
        self._asked = [one for one in pop.backends.values() if one.vici is not None and one.id in members]
        self._working = self._members
        self._book = _Book()

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:
        """Take what meters told, and who works."""
        for event in events:
            if isinstance(event, LoadSample) and event.backend in self._members:
                for kind, count in ((RefusalKind.IKE, event.refused_ike), (RefusalKind.ESP, event.refused_esp)):
                    if count is not None:
                        self._count(event.backend, kind, count, now)
        if decision is not None:
            places = decision.desired.backends
            # Who drains still has to answer those whose SAs it holds, also when they re-authenticate.
            self._working = frozenset(one.backend for one in places if one.place in (Place.ALIVE, Place.DRAINING))

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            # Where nobody can be asked there is nothing to do, for ever: a part that ends would end the agent.
            group.create_task(asyncio.Event().wait())
            for backend in self._asked:
                if backend.meter is None:
                    group.create_task(self._ask(backend))
                group.create_task(self._walk_on(backend))

    @property
    def splits(self) -> int:
        """Return how many clients were split since the start."""
        return self._book.splits

    def total(self) -> int | None:
        """Return all packets that backends could not use, since the start; None: nobody tells."""
        counters = self._book.counters
        return sum(one.total for one in counters.values()) if counters else None

    def alarms(self, now: Instant) -> tuple[str, ...]:
        """Return what is wrong, or was a short time ago."""
        found = []
        for (backend, kind), one in sorted(self._book.counters.items()):
            if one.at is not None and now - one.at <= ALARM_S:
                found.append(
                    f"{self._name(backend)} got {kind.upper()} for SAs that it does not have: {one.total} packets since"
                    " the start (steered wrong, or of clients that outlived its restart)"
                )
        found += [
            f"client {split.address} port {split.port} was answered by {self._name(split.before)} and sends to"
            f" {self._name(split.now)}, which never answers: it has no L2TP tunnel of this client"
            for split, at in sorted(self._book.split.items())
            if now - at <= ALARM_S
        ]
        found += [
            f"{self._name(b)} does not label: {problem}" for b, problem in sorted(self._book.labels.items()) if problem
        ]
        return tuple(found)

    def families(self) -> Iterator[Metric]:
        """Return the metrics; a counter that is absent is unknown."""
        refused = CounterMetricFamily(
            "popctl_missteered_packets", "Packets that a backend had no SA for.", labels=("backend", "kind")
        )
        for (backend, kind), one in sorted(self._book.counters.copy().items()):
            refused.add_metric((self._name(backend), kind), one.total)
        yield refused
        yield CounterMetricFamily(
            "popctl_split_clients", "Clients that send to a backend that never answers them.", value=self._book.splits
        )
        labels = GaugeMetricFamily("popctl_backend_labels", "1 if its SAs follow a plan in force.", labels=("backend",))
        for backend, problem in sorted(self._book.labels.copy().items()):
            labels.add_metric((self._name(backend),), not problem)
        yield labels

    async def _ask(self, backend: Backend) -> None:
        assert backend.vici is not None  # noqa: S101 - `_asked` holds no others
        while True:
            try:
                count = await self._refused(backend.vici)
            except ViciError as error:
                _LOG.debug("charon does not tell what it refused", backend=backend.name, problem=str(error))
            else:
                self._count(backend.id, RefusalKind.IKE, count, self._clock())
            await asyncio.sleep(EVERY_S)

    async def _walk_on(self, backend: Backend) -> None:
        assert backend.vici is not None  # noqa: S101 - `_asked` holds no others
        while True:
            begin = self._clock()
            try:
                walk = await self._walk(backend.vici, backend.id, self._pop.spi_plans, self._pop.id)
            except ViciError as error:
                _LOG.debug("SAs not walked", backend=backend.name, problem=str(error))
            else:
                self._walked(backend, walk)
            await asyncio.sleep(max(self._walk_every_s, WALK_SHARE * (self._clock() - begin)))

    def _count(self, backend: int, kind: RefusalKind, count: int, now: Instant) -> None:
        one = self._book.counters.setdefault((backend, kind), _Counter())
        more = grown(one.last, count)
        one.last = count
        if more:
            one.total += more
            one.at = now
            _LOG.error(
                "packets for SAs that the backend does not have", backend=self._name(backend), kind=kind, packets=more
            )

    def _walked(self, backend: Backend, walk: Walk) -> None:
        now = self._clock()
        self._book.history, found = follow(
            self._book.history, backend.id, walk.clients, now, working=self._working, forget_s=FORGET_S
        )
        for split in found:
            self._book.splits += 1
            self._book.split[split] = now
            before, after = self._name(split.before), self._name(split.now)
            _LOG.error("client split", address=split.address, port=split.port, answered_by=before, sends_to=after)
        for split, at in list(self._book.split.items()):
            if now - at > ALARM_S:
                del self._book.split[split]
        if walk.label_problem and walk.label_problem != self._book.labels.get(backend.id):
            _LOG.error("backend without its label", backend=backend.name, problem=walk.label_problem)
        self._book.labels[backend.id] = walk.label_problem

    def _name(self, backend: int) -> str:
        return self._pop.backends[backend].name
