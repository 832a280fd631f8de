"""What changes when a few upstreams change: keys by `topology.reroute`, then the sets of tied PoPs.

Plain loops like those of `topology.kernels`, compiled by numba or run as Python in tests. Sets are settled rank by rank
in the order of the sweeps: nodes of one rank tell each other nothing, so each is looked at once, when all that it hears
is settled, and the result is that of a full run: property tests hold them against each other. No upstream may have
action communities; `topology.model` runs everything anew where one does.

Who has to be looked at is a flag, not an entry of a heap, because hundreds of neighbours wake the same node; pages of
flags where nobody waits are passed over. Every function works on all nodes of its rank that wait: a call per node would
spend most of its time on counting references to the arrays it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from topology.kernels import CUSTOMERS, PEERS, PROVIDERS
from topology.keys import LENGTH_BITS, LENGTH_MASK, NONE, PEER_KEY, PROVIDER_KEY, TIE_BITS
from topology.reroute import resettle

if TYPE_CHECKING:
    import numpy.typing as npt

    from topology.flat import Adjacency, Ints, Links, Longs, Shorts

    Flags = npt.NDArray[np.bool_]


NOTHING: Final = np.iinfo(np.int16).max
"""Element of the spread row of a node without a route."""
PAGE_BITS: Final = 6
"""A page has two to the power of so many flags."""
UNTOLD: Final = -1
"""In place of (class, length): they are told nothing."""


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


class Marks(NamedTuple):
    """Who has to be looked at, by node."""

    waiting: Flags
    """Somebody whose route it uses tells another set, or its own route is another one."""
    anew: Flags
    """It may lose something, so it must gather its set from all neighbours."""
    rerouted: Flags
    """Its class or length changed."""
    pages: Flags
    """By page: whether anybody on it waits."""


def marks_of(count: int) -> Marks:
    """Return the marks of a graph of `count` nodes, of which nobody has to be looked at."""
    waiting, anew, rerouted = np.zeros((3, count), dtype=np.bool_)
    return Marks(waiting, anew, rerouted, np.zeros((count >> PAGE_BITS) + 1, dtype=np.bool_))


def heard_as(key: int, route_class: int) -> int:
    """Return the (class, length) under which neighbours of one kind hear a route, or `UNTOLD`."""
    if key >= (PEER_KEY if route_class < CUSTOMERS else NONE):
        return UNTOLD
    return (route_class << LENGTH_BITS) | (((key >> TIE_BITS) & LENGTH_MASK) + 1)


def forewarn(rows: Adjacency, route_class: int, nodes: Longs, states: States, marks: Marks) -> None:
    """Mark those neighbours that used the route of one of these nodes and do not any more."""
    before, best, was, _ = states
    waiting, anew, _, pages = marks
    ptr, to = rows
    for node in nodes:
        told_before, told = heard_as(before[node], route_class), heard_as(best[node], route_class)
        if told_before == UNTOLD:
            continue
        for edge in range(ptr[node], ptr[node + 1]):
            other = to[edge]
            if before[other] >> TIE_BITS != told_before or best[other] >> TIE_BITS == told:
                continue
            for column in range(was.shape[1]):
                if was[node, column] == was[other, column]:
                    waiting[other] = anew[other] = pages[other >> PAGE_BITS] = True


def retell(rows: Adjacency, route_class: int, nodes: Longs, states: States, marks: Marks) -> None:
    """Tell those neighbours that use the route of one of these nodes that its set is another one than before.

    A neighbour that gains takes the gain at once. One that may lose, because what it has is what the node no longer
    tells, is marked to gather its set anew when its turn comes. To all others it makes no difference.
    """
    before, best, was, spread = states
    waiting, anew, _, pages = marks
    ptr, to = rows
    for node in nodes:
        told_before, told = heard_as(before[node], route_class), heard_as(best[node], route_class)
        if told == UNTOLD:
            continue
        for edge in range(ptr[node], ptr[node + 1]):
            other = to[edge]
            if best[other] >> TIE_BITS != told:
                continue
            used = before[other] >> TIE_BITS == told_before
            for column in range(spread.shape[1]):
                new = spread[node, column]
                if new < spread[other, column]:
                    spread[other, column] = new
                    waiting[other] = pages[other >> PAGE_BITS] = True
                elif used and new > spread[other, column] and was[node, column] == spread[other, column]:
                    waiting[other] = anew[other] = pages[other >> PAGE_BITS] = True


def gather(rows: Adjacency, route_class: int, nodes: Longs, own: Own, states: States, marks: Marks) -> None:
    """Compute the sets of those of some nodes that must anew.

    A node that kept its route has taken all gains already, so its set can only be as good as what it has now or worse:
    once every element is found again, nothing is lost and the rest of the neighbours need not be asked.
    """
    key, own_set, sets = own
    _, best, _, spread = states
    _, anew, rerouted, _ = marks
    ptr, to = rows
    row = np.empty(spread.shape[1], dtype=np.int16)
    for node in nodes:
        if not anew[node]:
            continue
        own_one = key[node] != NONE and key[node] == best[node]
        missing = 0
        for column in range(len(row)):
            row[column] = sets[own_set[node], column] if own_one else NOTHING
            missing += row[column] != spread[node, column]
        for edge in range(ptr[node], ptr[node + 1]):
            if missing == 0 and not rerouted[node]:
                break
            other = to[edge]
            if best[node] >> TIE_BITS != heard_as(best[other], route_class):
                continue
            for column in range(len(row)):
                row[column] = min(row[column], spread[other, column])
            missing = 0
            for column in range(len(row)):
                missing += row[column] != spread[node, column]
        for column in range(len(row)):
            spread[node, column] = row[column]


def waiting_in(start: int, end: int, route_class: int, best: Longs, marks: Marks, found: Longs) -> int:
    """Find those nodes of a slice that wait and have a route of this class, or (as the last class) none at all.

    Returns:
        How many; `found` begins with them.
    """
    waiting, _, _, pages = marks
    low = 0 if route_class == PROVIDERS else PEER_KEY if route_class == PEERS else PROVIDER_KEY
    high = PEER_KEY if route_class == PROVIDERS else PROVIDER_KEY if route_class == PEERS else NONE + 1
    count = 0
    for page in range(start >> PAGE_BITS, (end + (1 << PAGE_BITS) - 1) >> PAGE_BITS):
        if pages[page]:
            for node in range(max(start, page << PAGE_BITS), min(end, (page + 1) << PAGE_BITS)):
                if waiting[node] and low <= best[node] < high:
                    found[count] = node
                    count += 1
    return count


def different(nodes: Longs, states: States, rerouted: Flags) -> int:
    """Move those nodes to the front that tell something else than before; return how many they are."""
    _, _, was, spread = states
    count = 0
    for node in nodes:
        differs = rerouted[node]
        for column in range(spread.shape[1]):
            differs |= spread[node, column] != was[node, column]
        if differs:
            nodes[count] = node
            count += 1
    return count


def settle(
    links: Links, start: int, end: int, route_class: int, own: Own, states: States, marks: Marks, found: Longs
) -> None:
    """Settle the sets of a slice of nodes that tell each other nothing, and tell their neighbours."""
    nodes = found[: waiting_in(start, end, route_class, states.best, marks, found)]
    if len(nodes) == 0:
        return
    sources = links.customers if route_class == PROVIDERS else links.peers if route_class == PEERS else links.providers
    gather(sources, route_class, nodes, own, states, marks)
    nodes = nodes[: different(nodes, states, marks.rerouted)]
    # Only a customer route is told to anybody but customers.
    if route_class == PROVIDERS:
        retell(links.providers, PROVIDERS, nodes, states, marks)
        retell(links.peers, PEERS, nodes, states, marks)
    retell(links.customers, CUSTOMERS, nodes, states, marks)


def respread(links: Links, level_ptr: Ints, own: Own, states: States, marks: Marks) -> None:
    """Bring the sets up to date, from the nodes that wait: up, across and down."""
    found = np.empty(len(states.best), dtype=np.int64)
    levels = len(level_ptr) - 1
    for level in range(levels - 1, -1, -1):
        settle(links, level_ptr[level], level_ptr[level + 1], PROVIDERS, own, states, marks, found)
    settle(links, 0, len(states.best), PEERS, own, states, marks, found)
    for level in range(levels):
        settle(links, level_ptr[level], level_ptr[level + 1], CUSTOMERS, own, states, marks, found)


def update(links: Links, level_ptr: Ints, order: Ints, own: Own, states: States, marks: Marks, changed: Longs) -> None:
    """Bring `best` and `spread`, copies of `before` and `was`, up to date with seeds that differ at `changed` only."""
    altered = resettle(links, order, own.key, states.before, states.best, changed)
    for node in changed:
        marks.waiting[node] = marks.anew[node] = marks.pages[node >> PAGE_BITS] = True
    for node in altered:
        marks.waiting[node] = marks.anew[node] = marks.pages[node >> PAGE_BITS] = True
        marks.rerouted[node] = True
    forewarn(links.providers, PROVIDERS, altered, states, marks)
    forewarn(links.peers, PEERS, altered, states, marks)
    forewarn(links.customers, CUSTOMERS, altered, states, marks)
    respread(links, level_ptr, own, states, marks)


HELPERS = (resettle, heard_as, forewarn, retell, gather, waiting_in, different, settle, respread)
"""What `update` calls, for the compiler."""
