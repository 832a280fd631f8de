"""The loop: events in, fold, decide, plan, apply. The only task that touches the World."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from popctl.agent.events import Event
from popctl.agent.world import World
from popctl.bgp.speaker import Speaker
from popctl.core import reconcile
from popctl.core.decide import Decision
from popctl.model.balancer import Tables
from popctl.model.fleet import FleetWish
from popctl.model.instant import Instant

HEARTBEAT_S = 0.5
"""The loop turns at least this often, so that silence of the loop is a fault that others can see."""


class TurnSink(Protocol):
    """Who wants to know of every turn: journal, metrics, API."""

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:
        """Take note. Called in the loop's task after the fold and, if there was one, the decision."""


class Steering(Protocol):
    """Who takes orders for the balancer. Takes them at once: what can block has a task of its own."""

    def order_tables(self, tables: Tables) -> None:
        """Make these the wanted tables."""

    def order_end(self, backends: frozenset[int]) -> None:
        """End the SAs of these backends, and go on doing so until told otherwise."""


class NoSteering:
    """A PoP without a balancer."""

    def order_tables(self, tables: Tables) -> None:
        """Cannot be: nobody decides upon tables here."""
        raise AssertionError(f"tables without a balancer: {tables}")

    def order_end(self, backends: frozenset[int]) -> None:
        """Cannot be either."""
        raise AssertionError(f"SAs to end without a balancer: {backends}")


class Duty(Protocol):
    """Who takes what the fleet is to be told and asked. Takes it at once."""

    def set(self, wish: FleetWish) -> None:
        """Make `wish` the wanted state; see `popctl.fleet.fleet`."""


class NoDuty:
    """A PoP without a fleet."""

    def set(self, wish: FleetWish) -> None:
        """Cannot be: nobody wishes anything here."""
        raise AssertionError(f"a wish without a fleet: {wish}")


class Loop:
    """Owns the queue and the World's only thread of control."""

    def __init__(
        self,
        world: World,
        speaker: Speaker,
        clock: Callable[[], Instant],
        sinks: tuple[TurnSink, ...] = (),
        steering: Steering | None = None,
        fleet: Duty | None = None,
    ) -> None:
        self.world = world
        self.turned_at: Instant = clock()
        """When the loop last turned: the lease is renewed and the watchdog fed only while this moves."""
        self.decision: Decision | None = None
        """The last one made; None before the first turn."""
        self._speaker = speaker
        self._steering = steering or NoSteering()
        self._fleet = fleet or NoDuty()
        self._clock = clock
        self._sinks = sinks
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._turned = asyncio.Condition()
        self._ordered = reconcile.Ordered()

    def put(self, event: Event) -> None:
        """Queue an event. Never blocks; call from the event loop's thread."""
        self._queue.append(event)
        self._wake.set()

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            await self._wait()
            await self.turn()
            async with self._turned:
                self._turned.notify_all()

    async def until(self, condition: Callable[[Loop], bool]) -> None:
        """Wait until `condition` holds after some turn. For the API and the stop order; bound it with a timeout."""
        async with self._turned:
            await self._turned.wait_for(lambda: condition(self))

    async def _wait(self) -> None:
        timeout = min(self.world.wake_at - self._clock(), HEARTBEAT_S)
        if timeout > 0 and not self._queue:
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    async def turn(self) -> None:
        """Fold all that is queued, decide if anything can have changed, and apply."""
        now = self._clock()
        self.turned_at = now
        events = tuple(self._queue)
        self._queue.clear()
        changed = False
        for event in events:
            changed |= self.world.fold(event, now)
        decision = self.world.decide(now) if changed or now >= self.world.wake_at else None
        if decision is not None:
            self.decision = decision
            await self._apply(decision)
        for sink in self._sinks:
            sink.turn(now, events, decision)

    async def _apply(self, decision: Decision) -> None:
        if decision.desired.fleet is not None:
            # Before any route moves: a permit that is given up here is gone from the view of the next turn.
            self._fleet.set(decision.desired.fleet)
        view = self.world.view()
        for step in reconcile.plan(decision.desired, view.actual, self._ordered, view.balancer):
            match step:
                case reconcile.SetRoutes(routes):
                    await self._speaker.set(routes)
                case reconcile.SetTables(tables):
                    self._steering.order_tables(tables)
                case reconcile.EndSas(backends):
                    self._steering.order_end(backends)
            self._ordered = self._ordered.after(step)
