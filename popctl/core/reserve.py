"""What must stay announced when a PoP leaves for load: enough for the demand, and for the loss of the largest PoP."""

from __future__ import annotations

from popctl.model.capacity import GatePolicy
from popctl.model.instant import Instant
from popctl.model.load import NOTHING_KNOWN, FleetLoad, PopLoad, Resource


def fresh(pop: PopLoad, policy: GatePolicy, now: Instant) -> bool:
    """Return whether a PoP's figures may still be believed."""
    return now <= pop.at + policy.view_stale_after_s


def _somebody_drowns(fleet: FleetLoad, policy: GatePolicy) -> bool:
    """Return whether a PoP can do no more handshakes: users wait there whom nobody counts."""
    handshakes, saturation = Resource.HANDSHAKES, policy.saturation
    # One comprehension: there may be a thousand of them.
    return bool(
        [
            True
            for pop in fleet.pops.values()
            if handshakes in pop.capacity and pop.used.get(handshakes, 0.0) > saturation * pop.capacity[handshakes]
        ]
    )


def stays(leaving: str, fleet: FleetLoad, policy: GatePolicy, now: Instant) -> bool:
    """Return whether the reserve stays when `leaving` announces nothing any more.

    Where it is violated already no step may make it worse, and leaving always does.
    """
    others = [pop.capacity for name, pop in fleet.pops.items() if pop.announcing and name != leaving]
    if not others or fleet.silent or _somebody_drowns(fleet, policy):
        # Nobody else, or somebody whose demand cannot be told.
        return False
    oldest = now - policy.view_stale_after_s
    # A PoP that does not say what it carries, or not freshly, counts as full.
    told = [(pop.used if pop.at >= oldest else NOTHING_KNOWN, pop.capacity) for pop in fleet.pops.values()]
    for resource in fleet.pops[leaving].capacity:
        limits = [limit for capacity in others if (limit := capacity.get(resource)) is not None]
        if len(limits) < len(others):
            # A PoP without a limit of this resource could take everything of it.
            continue
        left = sum(limits)
        demand = sum([used[resource] if resource in used else capacity.get(resource, 0.0) for used, capacity in told])
        if left < policy.reserve_ratio * demand or left - max(limits) < demand:
            return False
    return True
