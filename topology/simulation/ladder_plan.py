"""Ladders planned ahead: which upstreams a PoP should turn away first, if some region asks for more.

The live gate takes one step at a time, and a ladder has no side exits: a first step that the gate refuses blocks all
that follow. So each level is chosen by the gate's own criterion in rehearsals, in each of which one region asks for
more: the change with the largest gain that takes nobody past the watermark. A PoP without such a change has the plain
ladder, and will stand by when it is hot.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from popctl.model.capacity import GatePolicy
from popctl.model.playbook import NORMAL, Level
from popctl.model.pop import Announce
from topology.catchment import chosen
from topology.simulation.curves import UNIT
from topology.simulation.ladder import plain_ladder, told
from topology.simulation.room import rooms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from topology.controllers import Floats
    from topology.demand import Profile
    from topology.flat import Longs
    from topology.simulation.routing import Routing

_RISES: Final = (1.2, 0.8, 0.5)
"""How much more a region asks for, in the rehearsals."""
_MOST_SUBSETS: Final = 4
"""With more upstreams only single ones and all are tried."""
_MOST_LEVELS: Final = 4
_GATE: Final = GatePolicy()

_Rungs: TypeAlias = dict[int, Announce]
_Flows: TypeAlias = "tuple[Longs, Longs, Longs]"


@dataclass(frozen=True, slots=True)
class _Crowd:
    """One rehearsal: a region asks for more."""

    factors: Longs
    load: Floats
    excess: Floats


class LadderPlanner:
    """Plans the ladders of a fleet whose routes and demand are those of `routing`."""

    def __init__(self, routing: Routing, profile: Profile, prepend: int, error: float) -> None:
        self._routing = routing
        self._prepend = prepend
        self._error = error
        self._fleet = routing.model.attachment.fleet
        self._room: Floats = rooms(self._fleet, profile).astype(np.float64)
        self._regions = routing.model.attachment.graph.regions
        self._sessions: list[list[int]] = [[] for _ in self._fleet.pops]
        for index, session in enumerate(self._fleet.sessions):
            self._sessions[session.pop].append(index)
        self._atoms = np.argsort(routing.where.pop, kind="stable")
        """Atoms of demand, sorted by PoP,"""
        self._first = np.searchsorted(routing.where.pop[self._atoms], np.arange(len(self._fleet.pops) + 1))
        """and where those of each PoP begin."""
        self._crowds = [self._crowd(region, rise) for region in range(len(self._regions)) for rise in _RISES]

    def _crowd(self, region: int, rise: float) -> _Crowd:
        factors = np.full(len(self._regions) + 1, UNIT, dtype=np.int64)
        factors[region] = round(UNIT * (1.0 + rise))
        load = (self._routing.matrix @ factors)[:-1] / UNIT
        return _Crowd(factors, load, np.maximum(load - _GATE.saturation * self._room, 0.0))

    def ladder(self, pop: int) -> tuple[Level, ...]:
        """Return the ladder of one PoP."""
        upstreams = sorted({self._fleet.sessions[index].upstream for index in self._sessions[pop]})
        levels = self._rehearse(pop, upstreams)
        if not levels:
            return plain_ladder(upstreams)
        named = [
            Level(name=_name(rungs), upstreams={asn: r for asn, r in rungs.items() if r is not Announce.NORMAL})
            for rungs in levels
        ]
        return (NORMAL, *named, Level(name="withdrawn", others=Announce.WITHDRAWN))

    def _rehearse(self, pop: int, upstreams: list[int]) -> list[_Rungs]:
        """Return the levels that help most, one after the other; none if not even a first one helps."""
        crowds = [one for one in self._crowds if one.excess[pop] > 0]
        flows: dict[tuple[Announce, ...], _Flows] = {}
        here: _Rungs = dict.fromkeys(upstreams, Announce.NORMAL)
        gained = np.zeros(len(crowds))
        levels: list[_Rungs] = []
        while crowds and len(levels) < _MOST_LEVELS:
            wanted = np.array(
                [max(_GATE.minimum_gain * one.excess[pop], _GATE.minimum_gain_sessions) for one in crowds]
            )
            best, found, score = here, gained, 0.0
            for rungs in _raised(here):
                gains = np.array([self._gain(pop, rungs, one, flows) for one in crowds])
                helps = gains >= gained + wanted
                total = float(((gains - gained) / wanted)[helps].sum())
                if total > score:
                    best, found, score = rungs, np.where(helps, gains, gained), total
            if not score:
                break
            here, gained = best, found
            levels.append(best)
        return levels

    def _gain(self, pop: int, rungs: _Rungs, crowd: _Crowd, flows: dict[tuple[Announce, ...], _Flows]) -> float:
        """Return by how many sessions the overload falls, or -1 if somebody would be taken past the watermark."""
        key = tuple(rungs.values())
        if key not in flows:
            flows[key] = self._flows(pop, rungs)
        targets, regions, sessions = flows[key]
        amounts = sessions * crowd.factors[regions] / UNIT
        came = np.bincount(targets + 1, weights=amounts, minlength=len(self._room) + 1)
        gains = came[1:] * (1.0 + self._error)
        after = crowd.load + gains
        after[pop] -= amounts.sum() * (1.0 - self._error)
        full = (gains > 0) & (after > _GATE.watermark * self._room)
        if full.any():
            return -1.0
        limits = _GATE.saturation * self._room
        return float(crowd.excess.sum() - np.maximum(after - limits, 0.0).sum() - came[0])

    def _flows(self, pop: int, rungs: Mapping[int, Announce]) -> _Flows:
        """Return where the PoP's sessions would go: per atom the PoP (-1: none), its region, its sessions."""
        routing = self._routing
        level = Level(name="rehearsed", upstreams=dict(rungs))
        plan = list(routing.solution.plan)
        indices = self._sessions[pop]
        routes = told(level, [self._fleet.sessions[index] for index in indices], self._prepend)
        for index, route in zip(indices, routes, strict=True):
            plan[index] = route
        solution = routing.model.update(routing.solution, tuple(plan))
        # To be told less at this PoP takes nobody there, and moves nobody who was not there.
        atoms, demand = self._atoms[self._first[pop] : self._first[pop + 1]], routing.demand
        where = chosen(routing.model, demand, solution, atoms, measured_under=routing.normal)
        there, regions = where.pop.astype(np.int64), demand.region[atoms]
        gone = there != pop
        return there[gone], regions[gone].astype(np.int64), demand.sessions[atoms[gone]]


def _raised(here: _Rungs) -> Iterator[_Rungs]:
    """Return every way to tell some upstreams less; never nothing to nobody, which is the last level."""
    asns = list(here)
    sizes = range(1, len(asns) + 1) if len(asns) <= _MOST_SUBSETS else (1, len(asns))
    for size in sizes:
        for some in combinations(asns, size):
            for rung in (Announce.DEPREFERRED, Announce.WITHDRAWN):
                if all(_milder(here[asn], rung) for asn in some):
                    found = {**here, **dict.fromkeys(some, rung)}
                    if set(found.values()) != {Announce.WITHDRAWN}:
                        yield found


def _milder(one: Announce, other: Announce) -> bool:
    order = list(Announce)
    return order.index(one) < order.index(other)


def _name(rungs: _Rungs) -> str:
    told_less = [f"{rung} at AS{asn}" for asn, rung in rungs.items() if rung is not Announce.NORMAL]
    return ", ".join(told_less)
