"""What must stay announced when a PoP leaves for load: enough for the demand, and for the loss of the largest PoP."""

from __future__ import annotations

import math

from popctl.core.load import columns
from popctl.model.capacity import GatePolicy
from popctl.model.instant import Instant
from popctl.model.load import FleetLoad, PopLoad, Resource

_MANY = len(Resource)
_PLACE = {resource: place for place, resource in enumerate(Resource)}


def fresh(pop: PopLoad, policy: GatePolicy, now: Instant) -> bool:
    """Return whether a PoP's figures may still be believed."""
    return now <= pop.at + policy.view_stale_after_s


def _somebody_drowns(fleet: FleetLoad, policy: GatePolicy) -> bool:
    """Return whether a PoP can do no more handshakes: users wait there whom nobody counts."""
    handshakes, saturation = Resource.HANDSHAKES, policy.saturation
    limit = _PLACE[handshakes]
    carried = limit + _MANY
    # There may be a thousand of them; a PoP that does not tell its handshakes counts as full there, and not here.
    full = [pop for pop in fleet.pops.values() if pop.room_carried[carried] > saturation * pop.room_carried[limit]]
    return any(handshakes in pop.capacity and handshakes in pop.used for pop in full)


def stays(leaving: str, fleet: FleetLoad, policy: GatePolicy, now: Instant) -> bool:
    """Return whether the reserve stays when `leaving` announces nothing any more.

    Where it is violated already no step may make it worse, and leaving always does.
    """
    own, pops, oldest = fleet.pops[leaving], fleet.pops, now - policy.view_stale_after_s
    # A PoP that does not say what it carries, or not freshly, counts as full. By columns: there may be a thousand rows.
    rows = [
        pop.room_carried if pop.at >= oldest else pop.room_full
        for name, pop in pops.items()
        if pop.announcing and name != leaving
    ]
    if not rows or fleet.silent or _somebody_drowns(fleet, policy):
        # Nobody else, or somebody whose demand cannot be told.
        return False
    # What is so almost always needs no search.
    alone = len(rows) + 1 == len(pops)
    rest = [own] if alone else [pop for name, pop in pops.items() if name == leaving or not pop.announcing]
    more = [pop.room_carried if pop.at >= oldest else pop.room_full for pop in rest]
    whole, beside = columns(rows), columns(more)
    for place, resource in enumerate(Resource):
        limits, left = whole[place], sum(whole[place])
        if resource not in own.capacity or left == math.inf:
            # A PoP without a limit of this resource could take everything of it.
            continue
        demand = sum(whole[_MANY + place]) + sum(beside[_MANY + place])
        if left < policy.reserve_ratio * demand or left - max(limits) < demand:
            return False
    return True
