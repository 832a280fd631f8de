"""From a plan to seeds: what each upstream holds from us before BGP spreads it.

All sessions of one upstream form a group. Of a group the sessions with the best (class, AS-path length), then the
lowest MED, are in use; they stay tied, because an AS is not a point: each of its routers takes the nearest. Action
communities bind while the group's route is strictly better than all that the upstream learns from its neighbours; where
it is only as good, its routers tell one route or the other, and the model lets both out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from topology import keys
from topology.announce import LocalPref, Neighbors, Relation
from topology.flat import Ints, Longs, Shorts

if TYPE_CHECKING:
    from topology.announce import Action, Announcement, Plan
    from topology.attach import Attachment
    from topology.flat import FlatGraph

BLOCKED = -1
"""Extra length of a neighbour that is not told at all."""
NO_SEED = -1
_LONGEST = np.iinfo(np.int16).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What one upstream holds from us."""

    key: int
    pops: frozenset[int]
    """PoPs of the tied sessions."""
    bound: tuple[tuple[Shorts, Ints], ...] | None = None
    """For its providers, peers and customers, aligned with their rows: extra length, index into `told`."""
    told: tuple[frozenset[int], ...] = ()
    """Sets of PoPs that some neighbours are told of."""


class Acts(NamedTuple):
    """Action blocks: what those upstreams tell their neighbours that do not tell all of them the same."""

    block: Ints
    """Number of the block per node, `NO_SEED` where every neighbour is told alike."""
    ptr: Ints
    """Three rows per block: providers, peers, customers; each aligned with the upstream's row of these."""
    extra: Shorts
    """Extra AS-path length, or `BLOCKED`."""
    told: Ints
    """Row of `Seeds.sets`: the PoPs that the neighbour is told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """The groups of a plan, and the same as arrays over all nodes."""

    groups: Mapping[int, Group]
    """Node -> group."""
    key: Longs
    """Own key per node, `keys.NONE` without a group."""
    own_set: Ints
    """Row of `sets` per node, `NO_SEED` without a group."""
    sets: Shorts
    """Spread rows."""
    acts: Acts

    @property
    def has_actions(self) -> bool:
        """Tell whether any upstream treats its neighbours differently."""
        return len(self.acts.ptr) > 1


def is_lowered(relation: Relation, announcement: Announcement) -> bool:
    """Tell whether the upstream ranks the route below what the session's relation gives it."""
    return announcement.local_pref > (LocalPref.PEER if relation is Relation.PEER else LocalPref.CUSTOMER)


def seeds_of(attachment: Attachment, plan: Plan, lowered: frozenset[int] = frozenset()) -> Seeds:
    """Compile a plan.

    Sessions whose local preference is lowered take no part, but for those whose index is in `lowered`: these count as
    customers' (see `topology.model`).
    """
    built = {node: _group(attachment, node, plan, lowered) for node in attachment.sessions_at}
    return _assemble(attachment, {node: group for node, group in built.items() if group is not None})


def reseed(attachment: Attachment, seeds: Seeds, plan: Plan, sessions: Iterable[int]) -> tuple[Seeds, tuple[int, ...]]:
    """Return the seeds of a plan that differs from that of `seeds` in `sessions` only, and the nodes that changed."""
    groups = dict(seeds.groups)
    changed = []
    for node in sorted({attachment.node_of_session[session] for session in sessions}):
        group = _group(attachment, node, plan, frozenset())
        if group == groups.get(node):
            continue
        changed.append(node)
        if group is None:
            del groups[node]
        else:
            groups[node] = group
    if seeds.has_actions or any(groups[node].bound for node in changed if node in groups):
        return _assemble(attachment, groups), tuple(changed)
    return _patch(attachment, seeds, groups, changed), tuple(changed)


def _group(attachment: Attachment, node: int, plan: Plan, lowered: frozenset[int]) -> Group | None:
    """Return what the upstream at `node` holds, or None."""
    routes = []
    for index in attachment.sessions_at[node]:
        session, announcement = attachment.fleet.sessions[index], plan[index]
        if announcement is None or (is_lowered(session.relation, announcement) and index not in lowered):
            continue
        route_class = keys.PEER if session.relation is Relation.PEER else keys.CUSTOMER
        routes.append(((route_class, 1 + announcement.prepend, announcement.med), session.pop, announcement))
    if not routes:
        return None
    best = min(rank for rank, _, _ in routes)
    used = [(pop, announcement) for rank, pop, announcement in routes if rank == best]
    group = Group(key=keys.own_key(best[0], best[1]), pops=frozenset(pop for pop, _ in used))
    if not any(announcement.no_export or announcement.actions for _, announcement in used):
        return group
    return _bind(attachment.graph, node, group, used)


def _bind(graph: FlatGraph, node: int, group: Group, used: list[tuple[int, Announcement]]) -> Group:
    """Work out what each neighbour of the upstream is told, by which of the tied sessions."""
    told: dict[frozenset[int], int] = {}
    bound = []
    for kind, adjacency in zip(Neighbors, graph.links, strict=True):
        row = adjacency.row(node)
        extra = np.stack([_extra(graph, announcement, kind, row) for _, announcement in used])
        # A blocked session must lose against every other one, so compare as if it were longest.
        extra[extra == BLOCKED] = _LONGEST
        least = extra.min(axis=0)
        sets = np.zeros(len(row), dtype=np.int32)
        for column in range(len(row)):
            pops = frozenset(pop for (pop, _), one in zip(used, extra[:, column], strict=True) if one == least[column])
            sets[column] = told.setdefault(pops, len(told))
        bound.append((np.where(least == _LONGEST, BLOCKED, least).astype(np.int16), sets))
    return replace(group, bound=tuple(bound), told=tuple(told))


def _extra(graph: FlatGraph, announcement: Announcement, kind: Neighbors, row: Ints) -> Shorts:
    """Return how many times the upstream prepends for each neighbour of the row, or `BLOCKED`."""
    extra = np.zeros(len(row), dtype=np.int16)
    if announcement.no_export:
        extra[:] = BLOCKED
        return extra
    for action in announcement.actions:
        hit = _matches(graph, action, kind, row)
        if action.prepend is None:
            extra[hit] = BLOCKED
        else:
            extra[hit & (extra != BLOCKED)] = np.maximum(extra[hit & (extra != BLOCKED)], action.prepend)
    return extra


def _matches(graph: FlatGraph, action: Action, kind: Neighbors, row: Ints) -> npt.NDArray[np.bool_]:
    hit = np.full(len(row), action.neighbors in (None, kind))
    if action.asn is not None:
        hit &= row == graph.node(action.asn)
    if action.region is not None:
        known = graph.regions.index(action.region) if action.region in graph.regions else -2
        hit &= graph.region[row] == known
    return hit


def _assemble(attachment: Attachment, groups: Mapping[int, Group]) -> Seeds:
    """Lay groups out as arrays."""
    count, width = len(attachment.graph), attachment.preference.width
    key = np.full(count, keys.NONE, dtype=np.int64)
    own_set = np.full(count, NO_SEED, dtype=np.int32)
    block = np.full(count, NO_SEED, dtype=np.int32)
    sets: dict[frozenset[int], int] = {}
    extras: list[Shorts] = []
    told: list[Ints] = []
    for node, group in groups.items():
        key[node] = group.key
        own_set[node] = sets.setdefault(group.pops, len(sets))
        if group.bound is None:
            continue
        block[node] = len(extras) // 3
        numbers = np.array([sets.setdefault(pops, len(sets)) for pops in group.told], dtype=np.int32)
        for extra, column in group.bound:
            extras.append(extra)
            told.append(numbers[column])
    rows = [attachment.preference.row(pops) for pops in sets]
    lengths = np.array([0, *(len(extra) for extra in extras)])
    return Seeds(
        groups=groups,
        key=key,
        own_set=own_set,
        sets=np.array(rows, dtype=np.int16).reshape(len(rows), width),
        acts=Acts(
            block=block,
            ptr=np.cumsum(lengths).astype(np.int32),
            extra=np.concatenate([np.zeros(0, dtype=np.int16), *extras]),
            told=np.concatenate([np.zeros(0, dtype=np.int32), *told]),
        ),
    )


def _patch(attachment: Attachment, seeds: Seeds, groups: Mapping[int, Group], changed: Iterable[int]) -> Seeds:
    """Lay out what changed over a copy of the arrays. Sets that nobody uses any more stay: they are few."""
    key, own_set = seeds.key.copy(), seeds.own_set.copy()
    rows = [seeds.sets]
    for node in changed:
        group = groups.get(node)
        key[node] = keys.NONE if group is None else group.key
        own_set[node] = NO_SEED if group is None else sum(len(part) for part in rows)
        if group is not None:
            rows.append(attachment.preference.row(group.pops)[np.newaxis, :])
    return replace(seeds, groups=groups, key=key, own_set=own_set, sets=np.concatenate(rows))
