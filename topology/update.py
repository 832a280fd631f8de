"""What changes when a few upstreams change: keys by `topology.reroute`, then the sets of tied PoPs.

Plain loops like those of `topology.kernels`, compiled by numba or run as Python in tests. Sets are settled in the order
of the sweeps (a heap of turns), so every node is looked at once, when all that it hears is settled, and the result is
that of a full run: property tests hold them against each other. No upstream may have action communities;
`topology.model` runs everything anew where one does.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from topology.kernels import CUSTOMERS, merge
from topology.keys import LENGTH_BITS, LENGTH_MASK, NONE, PEER_KEY, PROVIDER_KEY, TIE_BITS
from topology.reroute import resettle

if TYPE_CHECKING:
    import numpy.typing as npt

    from topology.flat import Adjacency, Ints, Links, Longs, Shorts

    Flags = npt.NDArray[np.bool_]


NOTHING: Final = np.iinfo(np.int16).max
"""Element of the spread row of a node without a route."""


class Own(NamedTuple):
    """The columns of `topology.seeds.Seeds` that say what each upstream has from us."""

    key: Longs
    own_set: Ints
    sets: Shorts


class States(NamedTuple):
    """Routes and sets before the change and, under way, after it."""

    before: Longs
    best: Longs
    was: Shorts
    spread: Shorts
    anew: Flags
    """Nodes that must gather their set from all neighbours when their turn comes."""
    rerouted: Flags
    """Nodes whose class or length changed."""


def uses(listener_key: int, teller_key: int, route_class: int) -> bool:
    """Tell whether a route told at this link is as good as the one the listener has."""
    if teller_key >= (PEER_KEY if route_class < CUSTOMERS else NONE):
        return False
    length = ((teller_key >> TIE_BITS) & LENGTH_MASK) + 1
    return listener_key >> TIE_BITS == (route_class << LENGTH_BITS) | length


def turn(node: np.int64, best: Longs) -> np.int64:
    """Return when a node's set can be settled: customer routes from below, then peers', then providers' from above."""
    if best[node] < PEER_KEY:
        return len(best) - 1 - node
    return node + len(best) if best[node] < PROVIDER_KEY else node + 2 * len(best)


def forewarn(rows: Adjacency, node: np.int64, route_class: int, states: States, heap: list[np.int64]) -> None:
    """Mark those neighbours of one row that used a node's route and do not any more: their turn may come first."""
    before, best, was, _, anew, _ = states
    for edge in range(rows.ptr[node], rows.ptr[node + 1]):
        other = np.int64(rows.to[edge])
        if not uses(before[other], before[node], route_class) or uses(best[other], best[node], route_class):
            continue
        loses = False
        for column in range(was.shape[1]):
            loses |= was[node, column] == was[other, column]
        if loses and not anew[other]:
            anew[other] = True
            heap.append(turn(other, best))


def retell(rows: Adjacency, node: np.int64, route_class: int, states: States, heap: list[np.int64]) -> None:
    """Tell the neighbours of one row that use a node's route that its set is another one than before.

    A neighbour that gains takes the gain at once. One that may lose, because what it has is what the node no longer
    tells, is marked to gather its set anew when its turn comes. To all others it makes no difference.
    """
    before, best, was, spread, anew, _ = states
    for edge in range(rows.ptr[node], rows.ptr[node + 1]):
        other = np.int64(rows.to[edge])
        if not uses(best[other], best[node], route_class):
            continue
        used = uses(before[other], before[node], route_class)
        changed = False
        for column in range(spread.shape[1]):
            new = spread[node, column]
            if new < spread[other, column]:
                spread[other, column] = new
                changed = True
            elif used and was[node, column] == spread[other, column] and new > spread[other, column]:
                anew[other] = True
                changed = True
        if changed:
            heappush(heap, turn(other, best))


def gather(rows: Adjacency, node: np.int64, route_class: int, own: Own, states: States, row: Shorts) -> None:
    """Compute one node's set anew, by way of the scratch `row`.

    A node that kept its route has taken all gains already, so its set can only be as good as what it has now or worse:
    once every element is found again, nothing is lost and the rest of the neighbours need not be asked.
    """
    best, spread = states.best, states.spread
    row[0, :] = NOTHING
    if own.key[node] != NONE and own.key[node] == best[node]:
        merge(row, 0, own.sets, own.own_set[node])
    missing = row.shape[1]
    for column in range(row.shape[1]):
        missing -= row[0, column] == spread[node, column]
    for edge in range(rows.ptr[node], rows.ptr[node + 1]):
        if missing == 0 and not states.rerouted[node]:
            return
        other = rows.to[edge]
        if not uses(best[node], best[other], route_class):
            continue
        for column in range(row.shape[1]):
            if spread[other, column] < row[0, column]:
                row[0, column] = spread[other, column]
                missing -= row[0, column] == spread[node, column]
    for column in range(row.shape[1]):
        spread[node, column] = row[0, column]


def take_turn(links: Links, place: np.int64, own: Own, states: States, row: Shorts) -> np.int64:
    """Settle the set of the node whose turn it is; return the node."""
    count = len(states.best)
    phase = place // count
    node = count - 1 - place if phase == 0 else place - phase * count
    if states.anew[node]:
        states.anew[node] = False
        if phase == 0:
            gather(links.customers, node, 0, own, states, row)
        elif phase == 1:
            gather(links.peers, node, 1, own, states, row)
        else:
            gather(links.providers, node, 2, own, states, row)
    return node


def respread(links: Links, own: Own, states: States, heap: list[np.int64]) -> None:
    """Bring the sets up to date, from the nodes whose turns are in the heap."""
    row = np.empty((1, states.spread.shape[1]), dtype=np.int16)
    last = np.int64(-1)
    while len(heap) > 0:
        place = heappop(heap)
        if place == last:
            continue
        last = place
        node = take_turn(links, place, own, states, row)
        differs = states.rerouted[node]
        for column in range(states.spread.shape[1]):
            differs |= states.spread[node, column] != states.was[node, column]
        if differs:
            # Only a customer route is told to anybody but customers.
            if states.best[node] < PEER_KEY:
                retell(links.providers, node, 0, states, heap)
                retell(links.peers, node, 1, states, heap)
            retell(links.customers, node, 2, states, heap)


def update(links: Links, order: Ints, own: Own, states: States, changed: Longs) -> None:
    """Bring `best` and `spread`, copies of `before` and `was`, up to date with seeds that differ at `changed` only."""
    altered = resettle(links, order, own.key, states.before, states.best, changed)
    heap = [turn(node, states.best) for node in changed]
    for node in changed:
        states.anew[node] = True
    for node in altered:
        states.anew[node] = True
        states.rerouted[node] = True
        heap.append(turn(node, states.best))
    for node in altered:
        if states.before[node] < PEER_KEY:
            forewarn(links.providers, node, 0, states, heap)
            forewarn(links.peers, node, 1, states, heap)
        forewarn(links.customers, node, 2, states, heap)
    heapify(heap)
    respread(links, own, states, heap)


HELPERS = (
    resettle,
    uses,
    turn,
    forewarn,
    retell,
    gather,
    take_turn,
    respread,
)
"""What `update` calls, for the compiler."""
