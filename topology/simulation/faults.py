"""The faults of a scenario: which are active, whom they hit, and what all of them together take down.

Faults overlap, so nothing is undone by an end: what is down is found anew from all that are active.
"""

from __future__ import annotations

from heapq import heapify, heappop
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from topology.scenario import EventKind
from topology.simulation.record import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from topology.fleet import Fleet
    from topology.scenario import Event, Scenario
    from topology.simulation.world import World


class _Change(NamedTuple):
    """The begin or end of an event; ends sort before begins."""

    at_s: float
    begins: int
    number: int


class Faults:
    """What befalls a world, moment by moment."""

    def __init__(self, scenario: Scenario, sessions: Sequence[Sequence[int]], world: World) -> None:
        """Take the sessions of every PoP, by index."""
        self._scenario, self._sessions = scenario, sessions
        self._upstreams = [session.upstream for session in world.fleet.sessions]
        self.targets = tuple(targets_of(event, world) for event in scenario.events)
        """PoPs that each event hits."""
        self._changes = [_Change(event.at_s, 1, number) for number, event in enumerate(scenario.events)]
        self._changes += [
            _Change(event.until_s, 0, number)
            for number, event in enumerate(scenario.events)
            if event.until_s < scenario.duration_s
        ]
        heapify(self._changes)
        self._active: set[int] = set()
        self._dead_since: dict[int, float] = {}

    def told(self, names: Sequence[str]) -> tuple[Fault, ...]:
        """Return what befalls whom, by the names of the PoPs."""
        return tuple(
            Fault(
                kind=str(event.kind),
                at_s=event.at_s,
                until_s=event.until_s,
                pops=tuple(names[pop] for pop in pops),
                share=event.share,
                upstream=event.upstream,
            )
            for event, pops in zip(self._scenario.events, self.targets, strict=True)
        )

    def active(self) -> Iterator[tuple[Event, tuple[int, ...]]]:
        """Return the events of this moment, in the order of the scenario, with the PoPs that they hit."""
        for number in sorted(self._active):
            yield self._scenario.events[number], self.targets[number]

    def befall(self, now_s: float, world: World) -> None:
        """Let everything happen that is due."""
        hit: set[int] = set()
        while self._changes and self._changes[0].at_s <= now_s:
            change = heappop(self._changes)
            (self._active.add if change.begins else self._active.discard)(change.number)
            if self._scenario.events[change.number].kind in (EventKind.POP_FAILURE, EventKind.BACKEND_FAILURE):
                hit.update(self.targets[change.number])
        for pop in sorted(hit):
            world.kill(pop, self._dead_share(pop))
        world.take_down(self._down(now_s))

    def _dead_share(self, pop: int) -> float:
        """Return the share of a PoP's backends that is gone."""
        shares = [0.0]
        for event, pops in self.active():
            if pop in pops:
                if event.kind is EventKind.POP_FAILURE:
                    return 1.0
                if event.kind is EventKind.BACKEND_FAILURE:
                    shares.append(event.share)
        return max(shares)

    def _down(self, now_s: float) -> frozenset[int]:
        """Return the sessions that are down: of PoPs that are dead for a hold time, or with an upstream that failed."""
        dead: dict[int, float] = {}
        down: set[int] = set()
        for event, pops in self.active():
            if event.kind is EventKind.POP_FAILURE:
                for pop in pops:
                    dead[pop] = min(event.at_s, dead.get(pop, event.at_s))
            elif event.kind is EventKind.UPSTREAM_FAILURE:
                hit = (index for pop in pops for index in self._sessions[pop])
                down.update(index for index in hit if self._upstreams[index] == event.upstream)
        # A PoP that one failure hands over to the next was dead all along.
        self._dead_since = {pop: self._dead_since.get(pop, since_s) for pop, since_s in dead.items()}
        for pop, since_s in self._dead_since.items():
            if since_s + self._scenario.network.hold_time_s <= now_s:
                down.update(self._sessions[pop])
        return frozenset(down)


def targets_of(event: Event, world: World) -> tuple[int, ...]:
    """Return the PoPs that an event hits in a world that has just begun."""
    fleet: Fleet = world.fleet
    if event.largest:
        sizes = world.routing.matrix[: len(fleet.pops)].sum(axis=1)
        return tuple(np.argsort(-sizes, kind="stable")[: event.largest].tolist())
    if event.region is not None:
        return tuple(index for index, pop in enumerate(fleet.pops) if pop.region == event.region)
    if event.upstream is not None and not event.pops:
        return tuple(sorted({one.pop for one in fleet.sessions if one.upstream == event.upstream}))
    return tuple(fleet.pop_named(name) for name in event.pops)
