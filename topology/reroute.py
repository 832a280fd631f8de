"""Keys brought up to date after a change at a few upstreams, by plain loops like those of `topology.kernels`.

The three sweeps again, run only where something differs, each node once and in the order of its sweep (a heap), so that
all that it hears is settled.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from topology.kernels import CUSTOMERS, told
from topology.keys import NONE, PEER_KEY, PROVIDER_KEY, TIE_BITS, TIE_MASK

if TYPE_CHECKING:
    from topology.flat import Adjacency, Ints, Links, Longs


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


def concerns(key: int, heard: int, place: int) -> bool:
    """Tell whether a node with this route must look again when the neighbour at `place` tells something else."""
    return heard < key or key & TIE_MASK == place + 1


def resettle_peer(peers: Adjacency, order: Ints, seed: Longs, best: Longs, node: np.int64, heard: int) -> None:
    """Let a node without a customer route hear that the route of a peer changed that concerns it."""
    if heard < best[node]:
        best[node] = heard
    elif best[node] < min(PROVIDER_KEY, heard):
        own = seed[node] if seed[node] >= PEER_KEY else NONE
        best[node] = hear(peers, node, 1, order, best, own)


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
            # Most peers neither use the route nor would: no call for those.
            if best[other] >= PEER_KEY and concerns(best[other], heard, order[node]):
                resettle_peer(peers, order, seed, best, other, heard)
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
            heard = told(best[node], 2, order[node]) if best[node] != NONE else NONE
            for edge in range(links.customers.ptr[node], links.customers.ptr[node + 1]):
                other = np.int64(links.customers.to[edge])
                if best[other] >= PROVIDER_KEY and concerns(best[other], heard, order[node]):
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


HELPERS = (customer_part, hear, concerns, resettle_up, resettle_peer, resettle_across, resettle_down)
"""What `resettle` calls, for the compiler."""
