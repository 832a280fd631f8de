"""What changes when a few upstreams change: the sweeps of `topology.kernels`, run only where something differs.

Plain loops like those, compiled by numba or run as Python in tests. `resettle` brings the keys up to date, `respread`
the sets. Both visit nodes in the order of the sweeps (a heap), so every node is looked at once, when all that it hears
is settled, and the result is that of a full run: property tests hold them against each other. No upstream may have
action communities; `topology.model` runs everything anew where one does.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from topology.kernels import CUSTOMERS, merge, told
from topology.keys import LENGTH_BITS, LENGTH_MASK, NONE, PEER_KEY, PROVIDER_KEY, TIE_BITS, TIE_MASK

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


def customer_part(key: int) -> int:
    """Return the key if it is that of a customer route: what providers and peers are told of."""
    return key if key < PEER_KEY else NONE


def hear(rows: Adjacency, node: np.int64, route_class: int, order: Ints, best: Longs, start: int) -> int:
    """Return the best of `start` and of what the neighbours in one row tell."""
    key = start
    limit = PEER_KEY if route_class < CUSTOMERS else NONE
    for edge in range(rows.ptr[node], rows.ptr[node + 1]):
        other = rows.to[edge]
        if best[other] < limit:
            key = min(key, told(best[other], route_class, order[other]))
    return key


def resettle_up(links: Links, order: Ints, seed: Longs, before: Longs, best: Longs, changed: Longs) -> list[np.int64]:
    """Settle customer routes; return the nodes that tell their providers and peers something else than before."""
    heap = [-node for node in changed]
    heapify(heap)
    moves = list(changed[:0])
    last = np.int64(-1)
    while len(heap) > 0:
        node = -heappop(heap)
        if node == last:
            continue
        last = node
        key = hear(links.customers, node, 0, order, best, customer_part(seed[node]))
        if key != NONE:
            best[node] = key
        elif best[node] < PEER_KEY:
            best[node] = NONE
        if key >> TIE_BITS != customer_part(before[node]) >> TIE_BITS:
            moves.append(node)
            for edge in range(links.providers.ptr[node], links.providers.ptr[node + 1]):
                heappush(heap, -np.int64(links.providers.to[edge]))
    return moves


def resettle_peer(
    peers: Adjacency, order: Ints, seed: Longs, best: Longs, node: np.int64, teller: np.int64, heard: int
) -> bool:
    """Let one node hear that a peer's route changed; tell whether its own did."""
    old = best[node]
    if old < PEER_KEY:
        return False
    if heard < old:
        best[node] = heard
        return True
    if old < PROVIDER_KEY and old & TIE_MASK == order[teller] + 1 and heard > old:
        own = seed[node] if seed[node] >= PEER_KEY else NONE
        best[node] = hear(peers, node, 1, order, best, own)
        return True
    return False


def resettle_across(
    peers: Adjacency, order: Ints, seed: Longs, best: Longs, changed: Longs, moves: list[np.int64]
) -> list[np.int64]:
    """Settle peer routes; return the nodes whose best route may have changed, those of `moves` and `changed` too."""
    touched = list(changed)
    touched.extend(moves)
    for node in moves:
        heard = told(best[node], 1, order[node]) if best[node] < PEER_KEY else NONE
        for edge in range(peers.ptr[node], peers.ptr[node + 1]):
            other = np.int64(peers.to[edge])
            if resettle_peer(peers, order, seed, best, other, node, heard):
                touched.append(other)
    for place in range(len(changed) + len(moves)):
        node = touched[place]
        if best[node] >= PEER_KEY:
            own = seed[node] if seed[node] >= PEER_KEY else NONE
            best[node] = hear(peers, node, 1, order, best, own)
    return touched


def resettle_down(links: Links, order: Ints, before: Longs, best: Longs, touched: list[np.int64]) -> list[np.int64]:
    """Settle provider routes; return the nodes whose class or length is another one than before."""
    heap = list(touched)
    heapify(heap)
    altered = list(touched[:0])
    last = np.int64(-1)
    while len(heap) > 0:
        node = heappop(heap)
        if node == last:
            continue
        last = node
        if best[node] >= PROVIDER_KEY:
            best[node] = hear(links.providers, node, 2, order, best, NONE)
        if best[node] >> TIE_BITS != before[node] >> TIE_BITS:
            altered.append(node)
            for edge in range(links.customers.ptr[node], links.customers.ptr[node + 1]):
                other = np.int64(links.customers.to[edge])
                if best[other] >= PROVIDER_KEY:
                    heappush(heap, other)
    return altered


def resettle(links: Links, order: Ints, seed: Longs, before: Longs, best: Longs, changed: Longs) -> Longs:
    """Bring `best`, on entry a copy of `before`, up to date with `seed`, which differs at `changed` only.

    Returns:
        The nodes whose class or length changed.
    """
    moves = resettle_up(links, order, seed, before, best, changed)
    touched = resettle_across(links.peers, order, seed, best, changed, moves)
    return np.array(resettle_down(links, order, before, best, touched), dtype=np.int64)


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
    customer_part,
    hear,
    resettle_up,
    resettle_peer,
    resettle_across,
    resettle_down,
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
