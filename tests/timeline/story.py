"""A PoP's life as a story: what happens at which second, and what must be so at which second.

The real World and core run on a simulated clock. The speaker is perfect unless told otherwise: what is desired is
proven `lag_s` later.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeAlias

from popctl.agent.events import ActualChanged, Event, IntentsChanged, StopOrdered, TablesChanged, TablesInherited
from popctl.agent.loop import TurnSink
from popctl.agent.world import World
from popctl.core import reconcile
from popctl.core.decide import Decision
from popctl.model.balancer import BalancerActual, Tables
from popctl.model.desired import Actual, ServiceDecision
from popctl.model.observation import DrainEnd, Intent, IntentKind, Observation, Outcome
from popctl.model.pop import Announce, Pop
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason
from popctl.model.route import RouteTable


class _BalancerTurns:
    """The balancer has got round to what it was ordered."""


_BALANCER_TURNS = _BalancerTurns()


@dataclass(frozen=True)
class _SpeakerProves:
    """Routers have these routes now."""

    routes: RouteTable


_Happening: TypeAlias = Event | _BalancerTurns | _SpeakerProves

CONNECTED = Actual(connected=True, inherited=True)


@dataclass
class Story:
    """Runs events in the order of time and keeps every decision that differs from the one before."""

    pop: Pop
    inherited: RouteTable = field(default_factory=dict)
    connects_at: float = 0.0
    lag_s: float = 0.002
    now: float = 0.0
    sinks: list[TurnSink] = field(default_factory=list)
    kernel_alive: frozenset[int] = frozenset()
    """Whom the kernel gives new SAs to at the start."""
    kernel_read_at: float = 0.0
    tables_lag_s: float | None = None
    """Of the balancer; None: as the speaker's."""
    balancer_works: bool = True
    """What is ordered is in force `lag_s` later."""

    def __post_init__(self) -> None:
        self.world = World(self.pop)
        self.decision: Decision | None = None
        self.history: list[tuple[float, str, Announce, Reason]] = []
        self.orders: list[tuple[float, RouteTable]] = []
        self._intents: dict[tuple[IntentKind, str], Intent] = {}
        self._queue: list[tuple[float, int, _Happening]] = []
        self._tie = count()
        self.tables: list[tuple[float, Tables]] = []
        self.kernel: list[tuple[float, Tables]] = []
        self.ended: list[tuple[float, frozenset[int]]] = []
        self._ordered = reconcile.Ordered()
        if self.pop.tables is not None:
            self.happens(self.kernel_read_at, TablesInherited(self.kernel_alive))
        if self.connects_at < float("inf"):
            self.happens(self.connects_at, ActualChanged(self.carrying(self.inherited)))

    def carrying(self, routes: RouteTable) -> Actual:
        """What a speaker with every session up has proven."""
        sessions = {neighbor.address: True for neighbor in self.pop.neighbors}
        return replace(CONNECTED, routes=routes, sessions=sessions)

    # What happens.

    def happens(self, at: float, event: _Happening) -> None:
        heapq.heappush(self._queue, (at, next(self._tie), event))

    def probe(self, at: float, backend: int, outcome: Outcome, reason: Reason, *names: str) -> None:
        for name in names or tuple(spec.name for spec in self.pop.backends[backend].probes):
            key = ProbeKey(backend, name)
            self.happens(at, Observation(key=key, outcome=outcome, reason=reason, at=at))

    def passes(self, backend: int, *, begin: float, end: float, every: float = 1.0) -> None:
        for at in _steps(begin, end, every):
            self.probe(at, backend, Outcome.PASS, Reason.ANSWERED)

    def hangs(self, backend: int, *, begin: float, end: float, every: float = 1.0, only: Iterable[str] = ()) -> None:
        for at in _steps(begin, end, every):
            self.probe(at, backend, Outcome.FAIL, Reason.TIMED_OUT, *only)

    def refuses(self, backend: int, *, begin: float, end: float, every: float = 1.0) -> None:
        for at in _steps(begin, end, every):
            self.probe(at, backend, Outcome.FAIL, Reason.REFUSED)

    def orders_withdraw(
        self,
        at: float,
        service: str = "vpn",
        *,
        drain_s: float = 0.0,
        forced: bool = False,
        refuse_new: bool = False,
    ) -> None:
        self._intend(at, IntentKind.WITHDRAW, service, drain_s=drain_s, forced=forced, refuse_new=refuse_new)

    def orders_drain(self, at: float, backend: str, *, for_s: float = 0.0, then: DrainEnd = DrainEnd.WAIT) -> None:
        self._intend(at, IntentKind.DRAIN, backend, drain_s=for_s, then=then)

    def takes_back(self, at: float, kind: IntentKind, target: str) -> None:
        del self._intents[kind, target]
        self.happens(at, IntentsChanged(tuple(self._intents.values())))

    def stops(self, at: float) -> None:
        self.happens(at, StopOrdered())

    def _intend(
        self,
        at: float,
        kind: IntentKind,
        target: str,
        *,
        drain_s: float = 0.0,
        then: DrainEnd = DrainEnd.WAIT,
        forced: bool = False,
        refuse_new: bool = False,
    ) -> None:
        self._intents[kind, target] = Intent(
            kind=kind,
            target=target,
            reason="test",
            owner="tester",
            created_unix_s=at,
            drain_s=drain_s,
            drain_until=at + drain_s,
            then=then,
            forced=forced,
            refuse_new=refuse_new,
        )
        self.happens(at, IntentsChanged(tuple(self._intents.values())))

    # Running it.

    def run_to(self, end: float) -> Story:
        """Live until `end`, inclusive: every event and every deadline of the core in order."""
        while True:
            next_event = self._queue[0][0] if self._queue else float("inf")
            moment = max(self.now, min(next_event, self.world.wake_at))
            if moment > end:
                self.now = end
                return self
            self.now = moment
            changed = False
            events = []
            while self._queue and self._queue[0][0] <= self.now:
                events.append(self._happening(heapq.heappop(self._queue)[2]))
                changed |= self.world.fold(events[-1], self.now)
            decision = self._turn() if changed or self.now >= self.world.wake_at else None
            for sink in self.sinks:
                sink.turn(self.now, tuple(events), decision)

    def _turn(self) -> Decision:
        decision = self.world.decide(self.now)
        again = self.world.decide(self.now)
        assert again == decision, "a second look at the same world at the same time must see the same"
        self.decision = decision
        for service in decision.desired.services:
            entry = (self.now, service.service, service.announce, service.reason)
            if self._last(service.service)[2:] != entry[2:]:
                self.history.append(entry)
        view = self.world.view()
        for step in reconcile.plan(decision.desired, view.actual, self._ordered, view.balancer):
            self._ordered = self._ordered.after(step)
            self._move(step)
        return decision

    def _happening(self, event: _Happening) -> Event:
        if isinstance(event, _SpeakerProves):
            # What is on its way is pending from the moment of the order, an earlier order included.
            wanted = self.orders[-1][1]
            tables = [event.routes, *(routes for at, routes in self.orders if at + self.lag_s > self.now)]
            keys = {key for table in [wanted, *tables] for key in table}
            pending = frozenset(key for key in keys if any(wanted.get(key) != table.get(key) for table in tables))
            return ActualChanged(replace(self.carrying(event.routes), pending=pending))
        if not isinstance(event, _BalancerTurns):
            return event
        # Like the real one: what was ordered last, whatever was ordered before.
        tables = self.tables[-1][1]
        self.kernel.append((self.now, tables))
        return TablesChanged(BalancerActual(in_force=True, alive=tables.alive, draining=tables.draining))

    def _move(self, step: reconcile.Step) -> None:
        match step:
            case reconcile.SetRoutes(routes):
                self.orders.append((self.now, routes))
                self.happens(self.now, _SpeakerProves(self.world.view().actual.routes))
                self.happens(self.now + self.lag_s, _SpeakerProves(routes))
            case reconcile.SetTables(tables):
                self.tables.append((self.now, tables))
                if self.balancer_works:
                    lag_s = self.lag_s if self.tables_lag_s is None else self.tables_lag_s
                    self.happens(self.now + lag_s, _BALANCER_TURNS)
            case reconcile.EndSas(backends):
                self.ended.append((self.now, backends))

    def _last(self, service: str) -> tuple[object, ...]:
        return next((entry for entry in reversed(self.history) if entry[1] == service), (None, None, None, None))

    # What must be so.

    def service(self, at: float, name: str = "vpn") -> ServiceDecision:
        self.run_to(at)
        assert self.decision is not None, "nothing was decided yet"
        services: Mapping[str, ServiceDecision] = {one.service: one for one in self.decision.desired.services}
        return services[name]

    def expect(self, at: float, announce: Announce, reason: Reason, name: str = "vpn") -> None:
        found = self.service(at, name)
        assert (found.announce, found.reason) == (announce, reason), f"at {at}: {found}"

    @property
    def transitions(self) -> list[tuple[float, str]]:
        """When the rung of the ladder changed, and to which."""
        found: list[tuple[float, str]] = []
        for at, _, announce, _ in self.history:
            if not found or found[-1][1] != announce:
                found.append((at, str(announce)))
        return found


def _steps(begin: float, end: float, every: float) -> Iterable[float]:
    number = 0
    while (at := begin + number * every) < end:
        yield at
        number += 1
