"""Propagation as plain loops over flat arrays: compiled by numba where that is installed, run as Python in tests.

`climb`, `cross` and `descend` are the three sweeps of Gao-Rexford routing (customer routes go up, then one step across
a peering, then everything goes down); `spread_*` repeat them for the sets of PoPs that stay tied. No function
allocates; each writes into what it is given. `best` holds keys of `topology.keys`; `bound` marks nodes whose route is
their own session's alone, so that its action communities bind.

`spread` has one row per node as `topology.attach.Preference.row` lays it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from topology.keys import LENGTH_BITS, LENGTH_MASK, NONE, PEER_KEY, PROVIDER_KEY, TIE_BITS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from topology.flat import Adjacency, Ints, Links, Longs, Shorts
    from topology.seeds import Acts

    Flags = npt.NDArray[np.bool_]

PROVIDERS, PEERS, CUSTOMERS = 0, 1, 2
"""Rows of an action block. Also the class under which that kind of neighbour learns a route."""


def told(key: int, route_class: int, place: int) -> int:
    """Return the key under which a neighbour learns a route: one AS longer, of the class it is to that neighbour."""
    length = ((key >> TIE_BITS) & LENGTH_MASK) + 1
    return (((route_class << LENGTH_BITS) | length) << TIE_BITS) | (place + 1)


def offer(rows: Adjacency, node: int, key: int, acts: Acts, block: int, best: Longs) -> None:
    """Tell the neighbours of one row; each keeps the better of what it has and hears."""
    start, end = rows.ptr[node], rows.ptr[node + 1]
    if block < 0:
        # Stored whether it changes or not: a branch here would often be mispredicted.
        for other in rows.to[start:end]:
            best[other] = min(best[other], key)
        return
    for edge in range(start, end):
        extra = int(acts.extra[acts.ptr[block] + edge - start])
        if extra >= 0:
            best[rows.to[edge]] = min(best[rows.to[edge]], key + (extra << TIE_BITS))


def climb(providers: Adjacency, order: Ints, seed: Longs, acts: Acts, best: Longs, bound: Flags) -> None:
    """Carry customer routes up, from the lowest node to the highest, so that a node is settled before it tells."""
    for node in range(len(order) - 1, -1, -1):
        own = seed[node]
        if own < PEER_KEY and own <= best[node]:
            bound[node] = acts.block[node] >= 0 and own >> TIE_BITS < best[node] >> TIE_BITS
            best[node] = own
        if best[node] != NONE:
            key = told(best[node], 0, order[node])
            block = 3 * acts.block[node] + PROVIDERS if bound[node] else -1
            offer(providers, node, key, acts, block, best)


def cross(peers: Adjacency, order: Ints, seed: Longs, acts: Acts, best: Longs, bound: Flags) -> None:
    """Carry customer routes one step across peerings, then let sessions with peers compete."""
    for node in range(len(order)):
        if best[node] < PEER_KEY:
            key = told(best[node], 1, order[node])
            block = 3 * acts.block[node] + PEERS if bound[node] else -1
            offer(peers, node, key, acts, block, best)
    for node in range(len(order)):
        own = seed[node]
        if own != NONE and own >= PEER_KEY and own <= best[node]:
            bound[node] = acts.block[node] >= 0 and own >> TIE_BITS < best[node] >> TIE_BITS
            best[node] = own


def descend(links: Links, order: Ints, acts: Acts, best: Longs, bound: Flags, heard_below: Longs) -> None:
    """Carry every route down, from the highest node to the lowest.

    A node without a better route looks up to its providers, which reads far fewer edges than telling down; a bound node
    must tell, because it tells each customer another thing. `heard_below` is scratch: what a node's customers hear.
    """
    ptr, to = links.providers
    below = links.customers.ptr
    for node in range(len(order)):
        key = best[node]
        if key >= PROVIDER_KEY:
            for above in to[ptr[node] : ptr[node + 1]]:
                key = min(key, heard_below[above])
            best[node] = key
        if below[node] == below[node + 1]:
            continue
        heard_below[node] = NONE
        if key != NONE:
            heard = told(key, 2, order[node])
            if bound[node]:
                offer(links.customers, node, heard, acts, 3 * acts.block[node] + CUSTOMERS, best)
            else:
                heard_below[node] = heard


def merge(target: Shorts, row: int | np.int64, source: Shorts, from_row: int | np.int64) -> None:
    """Take the smaller of two spread rows, column by column."""
    for column in range(target.shape[1]):
        target[row, column] = min(target[row, column], source[from_row, column])


def take_own(seed: Longs, own_set: Ints, sets: Shorts, best: Longs, spread: Shorts) -> None:
    """Give every node that uses its own sessions their PoPs."""
    for node in range(len(seed)):
        if seed[node] != NONE and seed[node] == best[node]:
            merge(spread, node, sets, own_set[node])


def share(
    rows: Adjacency, node: int, route_class: int, acts: Acts, block: int, sets: Shorts, best: Longs, spread: Shorts
) -> None:
    """Pass a node's set on to those neighbours of one row that use what it tells them, tied or not."""
    length = ((best[node] >> TIE_BITS) & LENGTH_MASK) + 1
    start = rows.ptr[node]
    for edge in range(start, rows.ptr[node + 1]):
        other = rows.to[edge]
        wanted = best[other] >> TIE_BITS
        if block < 0:
            if wanted == (route_class << LENGTH_BITS) | length:
                merge(spread, other, spread, node)
            continue
        place = acts.ptr[block] + edge - start
        extra = int(acts.extra[place])
        if extra >= 0 and wanted == (route_class << LENGTH_BITS) | (length + extra):
            merge(spread, other, sets, acts.told[place])


def spread_along(
    rows: Adjacency, route_class: int, acts: Acts, sets: Shorts, best: Longs, bound: Flags, spread: Shorts
) -> None:
    """Carry sets along one kind of link: up (class 0), across (1), then down (2), settled nodes first."""
    limit = PEER_KEY if route_class < CUSTOMERS else NONE
    for step in range(len(best)):
        node = len(best) - 1 - step if route_class == PROVIDERS else step
        if best[node] < limit:
            block = 3 * acts.block[node] + route_class if bound[node] else -1
            share(rows, node, route_class, acts, block, sets, best, spread)
