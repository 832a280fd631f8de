"""From routes to catchments and load: which PoP every atom of demand reaches, how surely, and what that adds up to.

Among the PoPs that stay tied for an AS the nearest to the users' region is chosen (hot potato). Where sessions were
measured the measurement wins, as long as the model sees no reason why they should have moved: their PoP still
announces, and the AS's routes are what they were in the baseline, or at least still lead to that PoP too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from topology.carry import carry
from topology.demand import NOT_MEASURED
from topology.flat import Longs, Shorts
from topology.fleet import announced_pops
from topology.keys import NONE, PEER_KEY, PROVIDER_KEY, TIE_BITS

if TYPE_CHECKING:
    from topology.demand import Demand, Profile
    from topology.fleet import Capacity
    from topology.model import Model, Solution

UNREACHED: Final = -1
_WORD: Final = 64


class Source(StrEnum):
    """What an answer rests on, best first."""

    MEASURED = "measured"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catchment:
    """Where every atom of demand goes. Aligned with the demand's columns."""

    pop: Shorts
    """Index of the PoP, or `UNREACHED`."""
    certain: npt.NDArray[np.bool_]
    """Measured, or only one PoP possible: no tie can take these sessions elsewhere."""
    measured: npt.NDArray[np.bool_]


def catchment(model: Model, demand: Demand, solution: Solution, *, measured_under: Solution | None = None) -> Catchment:
    """Return where the demand goes under a plan: the one that it was measured under, unless another is named."""
    return chosen(model, demand, solution, np.arange(len(demand.node)), measured_under=measured_under or solution)


def changed_catchment(
    model: Model,
    demand: Demand,
    solution: Solution,
    baseline: Solution,
    where: Catchment,
    *,
    measured_under: Solution | None = None,
) -> Catchment:
    """Return where the demand goes under another plan than the baseline's, under which it goes `where`.

    Only what can differ is looked at: ASes whose tied sets changed, and all that was measured: in the baseline, unless
    another solution is named.
    """
    differs = (solution.spread != baseline.spread).any(axis=1)
    atoms = np.flatnonzero(differs[demand.node] | (demand.measured != NOT_MEASURED))
    found = chosen(model, demand, solution, atoms, measured_under=measured_under or baseline)
    after = Catchment(pop=where.pop.copy(), certain=where.certain.copy(), measured=where.measured.copy())
    after.pop[atoms], after.certain[atoms], after.measured[atoms] = found.pop, found.certain, found.measured
    return after


def chosen(model: Model, demand: Demand, solution: Solution, atoms: Longs, *, measured_under: Solution) -> Catchment:
    """Return where some atoms of the demand go, in their order."""
    preference = model.attachment.preference
    last = len(model.attachment.fleet.pops) - 1
    nodes, regions = demand.node[atoms], demand.region[atoms]
    reached = solution.best[nodes] != NONE
    rank = np.where(reached, solution.spread[nodes, regions], 0)
    where = Catchment(
        pop=np.where(reached, preference.pop_of_rank[regions, rank], UNREACHED).astype(np.int16),
        certain=reached & (solution.spread[nodes, -2] == last - solution.spread[nodes, -1]),
        measured=np.zeros(len(atoms), dtype=bool),
    )
    seen = np.flatnonzero(demand.measured[atoms] != NOT_MEASURED)
    if len(seen):
        held = seen[_still_holds(model, demand, atoms[seen], solution, measured_under)]
        where.pop[held] = demand.measured[atoms[held]]
        where.certain[held] = True
        where.measured[held] = True
    return where


def _still_holds(
    model: Model, demand: Demand, seen: Longs, solution: Solution, baseline: Solution
) -> npt.NDArray[np.bool_]:
    """Tell for each measured atom whether the measurement says something about this solution."""
    nodes, pops = demand.node[seen], demand.measured[seen]
    announced = announced_pops(model.attachment.fleet, solution.plan)
    holds: npt.NDArray[np.bool_] = np.isin(pops, list(announced)) & (solution.best[nodes] != NONE)
    same = solution.best[nodes] >> TIE_BITS == baseline.best[nodes] >> TIE_BITS
    same &= (solution.spread[nodes] == baseline.spread[nodes]).all(axis=1)
    for index in np.flatnonzero(holds & ~same):
        holds[index] = int(pops[index]) in possible_pops(model, solution, int(nodes[index]))
    return holds


def possible_pops(model: Model, solution: Solution, node: int) -> frozenset[int]:
    """Return the PoPs that stay tied for one node, by following every tied route back to the sessions."""
    if not solution.seeds.has_actions:
        return _walk_back(model, solution, node)
    bits = tied_sets(model, solution)[node]
    return frozenset(pop for pop in range(len(model.attachment.fleet.pops)) if _has(bits, pop))


def _has(bits: npt.NDArray[np.uint64], pop: int) -> bool:
    return bool((int(bits[pop // _WORD]) >> (pop % _WORD)) & 1)


def _walk_back(model: Model, solution: Solution, node: int) -> frozenset[int]:
    """Do that where no upstream treats its neighbours differently, so that a link passes all or nothing."""
    graph, best = model.attachment.graph, solution.best
    found: set[int] = set()
    seen, waiting = {node}, [node]
    while waiting:
        here = waiting.pop()
        key = int(best[here])
        group = solution.seeds.groups.get(here)
        if key == NONE:
            continue
        if group is not None and group.key == key:
            found |= group.pops
        providers, peers, customers = graph.links
        rows = customers if key < PEER_KEY else peers if key < PROVIDER_KEY else providers
        tellers = rows.row(here)
        limit = PEER_KEY if key < PROVIDER_KEY else NONE
        length_before = (key >> TIE_BITS & 0xFFFF) - 1
        tied = tellers[(best[tellers] < limit) & (best[tellers] >> TIE_BITS & 0xFFFF == length_before)]
        fresh = set(tied.tolist()) - seen
        seen |= fresh
        waiting += fresh
    return frozenset(found)


def tied_sets(model: Model, solution: Solution) -> npt.NDArray[np.uint64]:
    """Return the set of possible PoPs of every node, 64 to a word: bit p of word p // 64."""
    pops = len(model.attachment.fleet.pops)
    rows = _sets_of(solution)
    bits = np.zeros((len(rows), (pops + _WORD - 1) // _WORD), dtype=np.uint64)
    for index, members in rows.items():
        for pop in members:
            bits[index, pop // _WORD] |= np.uint64(1 << (pop % _WORD))
    seeds = solution.seeds
    return carry(model.attachment.graph, seeds, solution.best, solution.bound, bits, np.bitwise_or, 0)


def _sets_of(solution: Solution) -> dict[int, frozenset[int]]:
    """Return the PoPs behind every row of the seeds' sets."""
    seeds = solution.seeds
    rows: dict[int, frozenset[int]] = {index: frozenset() for index in range(len(seeds.sets))}
    for node, group in seeds.groups.items():
        rows[int(seeds.own_set[node])] = group.pops
        if group.bound is None:
            continue
        block = 3 * int(seeds.acts.block[node])
        for kind, (_, told) in enumerate(group.bound):
            start = seeds.acts.ptr[block + kind]
            for place, number in enumerate(told):
                rows[int(seeds.acts.told[start + place])] = group.told[int(number)]
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one PoP carries."""

    sessions: int
    certain: int
    """The part of it that no tie can take elsewhere."""
    bit_s: int
    handshakes_s: int
    """In the steady state, rounded up."""

    def utilisation(self, capacity: Capacity, *, more_handshakes_s: int = 0) -> float:
        """Return the share of the tightest resource."""
        return max(
            self.sessions / capacity.sessions,
            self.bit_s / capacity.bit_s,
            (self.handshakes_s + more_handshakes_s) / capacity.handshakes_s,
        )


def load_of(sessions: int, certain: int, profile: Profile) -> Load:
    """Return what so many sessions cost a PoP."""
    return Load(
        sessions=sessions,
        certain=certain,
        bit_s=sessions * profile.bit_s_per_session,
        handshakes_s=-(-sessions // profile.handshake_interval_s),
    )


def sessions_per_pop(pops: int, where: Shorts, sessions: Longs) -> Longs:
    """Add sessions up per PoP, exactly; the last element counts those that reach none."""
    # bincount adds in double precision, which is exact as long as the sum stays below 2^53.
    sums = np.bincount(np.where(where == UNREACHED, pops, where), weights=sessions, minlength=pops + 1)
    return sums.astype(np.int64)


def loads(demand: Demand, where: Catchment, pops: int, profile: Profile) -> tuple[tuple[Load, ...], int]:
    """Return the load of every PoP, and the sessions that reach none."""
    everything = sessions_per_pop(pops, where.pop, demand.sessions).tolist()
    certain = sessions_per_pop(pops, where.pop, np.where(where.certain, demand.sessions, 0)).tolist()
    pairs = zip(everything[:-1], certain[:-1], strict=True)
    return tuple(load_of(sessions, sure, profile) for sessions, sure in pairs), everything[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRisk:
    """A client AS whose sessions may flip between PoPs: equal routes lead to several."""

    asn: int
    sessions: int
    chosen: int
    possible: frozenset[int]


def at_risk(model: Model, demand: Demand, solution: Solution, where: Catchment, most: int) -> tuple[AtRisk, ...]:
    """Return the client ASes with the most sessions that a tie can move, heaviest first."""
    graph = model.attachment.graph
    loose = np.flatnonzero(~where.certain & (where.pop != UNREACHED))
    order = loose[np.lexsort((graph.asn[demand.node[loose]], -demand.sessions[loose]))][:most]
    return tuple(
        AtRisk(
            asn=int(graph.asn[demand.node[atom]]),
            sessions=int(demand.sessions[atom]),
            chosen=int(where.pop[atom]),
            possible=possible_pops(model, solution, int(demand.node[atom])),
        )
        for atom in order
    )
