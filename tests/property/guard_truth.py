"""What is really so in the fleet in a box, by the store's own log: what no agent sees and all have to respect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.model.fleet import Record, Stance
from popctl.model.load import Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from popctl.fleet.store import MemoryStore
    from popctl.model.fleet import FleetView, FloorPolicy
    from tests.property.guard_world import Timed

SERVICE = "vpn"


class FloorBrokenError(AssertionError):
    """Fewer PoPs than the floor announce, because of what controllers did."""


def known_at(store: MemoryStore[Timed], revision: int) -> dict[str, Record]:
    """Return the records that the store held at a revision."""
    known: dict[str, Record] = {}
    for one in store.log:
        if one.revision > revision:
            break
        if one.pop is not None and one.stored is not None:
            known[one.pop] = one.stored.value.record
        elif one.pop is not None:
            known.pop(one.pop, None)
    return known


def short_of(policy: FloorPolicy, region: str, left: Iterable[Record], everybody: Iterable[Record]) -> str:
    """Say what `left` lacks of the floor, by counting; empty if it lacks nothing."""
    staying = list(left)
    if len(staying) < policy.minimum_announcing:
        return f"{len(staying)} PoPs, floor {policy.minimum_announcing}"
    near = sum(record.report.region == region for record in staying)
    if near < policy.minimum_per_region.get(region, 0):
        return f"{near} PoPs in {region}, floor {policy.minimum_per_region[region]}"
    if policy.minimum_capacity_ratio is None:
        return ""
    capacity = sum(_amount(record, capacity=True) for record in staying)
    needed = policy.minimum_capacity_ratio * sum(_amount(record, capacity=False) for record in everybody)
    return f"capacity {capacity:.1f}, floor {needed:.1f}" if capacity < needed else ""


def _amount(record: Record, *, capacity: bool) -> float:
    load = record.report.load
    assert load is not None
    return (load.capacity if capacity else load.used)[Resource.SESSIONS]


def check_evidence(policy: FloorPolicy, store: MemoryStore[Timed], pop: str, region: str, view: FleetView) -> None:
    """Refuse a withdraw whose view shows fewer on duty than the floor, or takes for on duty who was not."""
    counted = {name for name, member in view.members.items() if name != pop and member.counts(SERVICE)}
    known = known_at(store, view.revision)
    left = [known[name] for name in counted if name in known and known[name].stance(SERVICE) is Stance.DUTY]
    short = short_of(policy, region, left, known.values())
    if short:
        raise FloorBrokenError(f"{pop} had evidence of only {short}")


def check_grant(policy: FloorPolicy, store: MemoryStore[Timed], pop: str, region: str) -> None:
    """Refuse a permit after which the store itself has fewer on duty than the floor."""
    records: Mapping[str, Record] = {name: stored.value.record for name, stored in store.records.items()}
    left = [one for name, one in records.items() if name != pop and one.stance(SERVICE) is Stance.DUTY]
    short = short_of(policy, region, left, records.values())
    if short:
        raise FloorBrokenError(f"{pop} got a permit that leaves {short}")
