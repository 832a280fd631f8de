"""What must hold for steering by load: a ladder that goes one way, watermarks in order, figures that can be had."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from popctl.config.capacity import amounts, ladder
from popctl.config.checks_routing import problem
from popctl.config.errors import KeyPath, Problem
from popctl.config.shape import suggestion
from popctl.model.announce import Announce

if TYPE_CHECKING:
    from popctl.config import schema
    from popctl.config.shape import Parts, Placed
    from popctl.model.playbook import Level

_LEVEL_LIMIT = 32


def services(parts: Parts) -> Iterator[Problem]:
    """Services that are named exist."""
    if parts.load is None or parts.load.services is None or "services" in parts.broken:
        return
    known = [part.key for part in parts.services]
    for index, name in enumerate(parts.load.services):
        if name not in known:
            yield problem(("load", "services", index), name, "no such service", suggestion(name, known, "service"))


def figures(parts: Parts) -> Iterator[Problem]:
    """What nobody measures, or nobody has set a limit for, cannot steer anything."""
    if "backends" in parts.broken:
        return
    if parts.load is not None:
        for part in _carriers(parts):
            yield from _told(part, "load is steered by what it carries")
    elif parts.fleet is not None and parts.fleet.floor.minimum_capacity_ratio is not None:
        # Without them every withdraw of the fleet would be refused as `capacity-unknown`.
        for part in parts.backends:
            yield from _told(part, "fleet.floor.minimum_capacity_ratio compares what all carry")


def shared(parts: Parts) -> Iterator[Problem]:
    """What the PoP can carry stands beside what its backends can: without that nothing is weighed."""
    if parts.pop is None or parts.pop.capacity is None or parts.load is not None or "backends" in parts.broken:
        # With `load` every backend has to have one anyway.
        return
    for part in parts.backends:
        if not amounts(part.value.capacity):
            why = "pop.capacity is set against what all backends carry together"
            yield problem((*part.path, "capacity"), "nothing", f"is required: {why}", "add at least `sessions`")


def _carriers(parts: Parts) -> Iterator[Placed[schema.Backend]]:
    steered = None if parts.load is None else parts.load.services
    named: set[str] = set()
    for service in parts.services:
        if steered is None or service.key in steered:
            if service.value.backends is None:
                yield from parts.backends
                return
            named.update(service.value.backends)
    yield from (part for part in parts.backends if part.value.name in named)


def _told(part: Placed[schema.Backend], why: str) -> Iterator[Problem]:
    if not amounts(part.value.capacity):
        yield problem((*part.path, "capacity"), "nothing", f"is required: {why}", "add at least `sessions`")
    elif part.value.capacity is not None and part.value.capacity.sessions is None:
        path = (*part.path, "capacity", "sessions")
        yield problem(path, "nothing", "is required: what moves is counted in sessions", "add it")
    if part.value.meter is None:
        yield problem((*part.path, "meter"), "nothing", f"is required: {why}", "run `popctl meter` there and name it")


def levels(parts: Parts) -> Iterator[Problem]:
    """Each level has a name of its own, is at least as severe as the one before, and says so where it withdraws."""
    if parts.load is None or parts.load.ladder is None:
        return
    path: KeyPath = ("load", "ladder")
    found = ladder(parts.load.ladder)
    if len(found) > _LEVEL_LIMIT:
        yield problem(path, len(found), f"is more than {_LEVEL_LIMIT} levels", "leave some out")
    if found[0].rungs() != {Announce.NORMAL}:
        yield problem((*path, 0), found[0].name, "is not normal for every upstream", "begin with `- name: normal`")
    for index, (before, after) in enumerate(pairwise(found), start=1):
        if not after.at_least(before):
            what = f"is milder for some upstream than the level before, {before.name}"
            yield problem((*path, index), after.name, what, "order levels from mild to severe")
    names = [level.name for level in found]
    for index, name in enumerate(names):
        if name in names[:index]:
            # By its name a level is known over a restart.
            remedy = "give each level a name of its own"
            yield problem((*path, index, "name"), name, "is the name of an earlier level", remedy)
    for index, level in enumerate(found):
        yield from _level(parts, level, (*path, index))


def _level(parts: Parts, level: Level, path: KeyPath) -> Iterator[Problem]:
    if "neighbors" in parts.broken:
        return
    known = sorted({part.value.asn for part in parts.neighbors})
    for asn in level.upstreams:
        if asn not in known:
            remedy = f"use one of {', '.join(map(str, known))}"
            yield problem((*path, "upstreams", str(asn)), asn, "no neighbour has this AS number", remedy)
    if level.withdrawn:
        return
    for family in ("ipv4", "ipv6"):
        told = [level.rung(part.value.asn) for part in parts.neighbors if family in part.value.families]
        if told and set(told) == {Announce.WITHDRAWN}:
            # The fleet's permit and the reserve are asked for at levels that withdraw everything.
            what = f"withdraws at every neighbour of {family} and says so only in part"
            yield problem(path, level.name, what, "keep one neighbour, or write only `others: withdrawn`")


def floor(parts: Parts) -> Iterator[Problem]:
    """What is done without a prediction never withdraws."""
    if parts.load is None:
        return
    found = ladder(parts.load.ladder)
    at = parts.load.floor
    if at >= len(found):
        what = f"the ladder has only the levels 0..{len(found) - 1}"
        yield problem(("load", "floor"), at, what, "use one of them")
    elif found[at].withdrawn:
        remedy = "use a level that still announces; popctl never withdraws for load without a prediction"
        yield problem(("load", "floor"), at, f"level {found[at].name} withdraws", remedy)


def watermarks(parts: Parts) -> Iterator[Problem]:
    """Leave below enter, enter below overload; a step cannot end where the next one begins."""
    if parts.load is None:
        return
    load, gate = parts.load, parts.load.gate
    order: tuple[tuple[KeyPath, float, str, float], ...] = (
        (("gate", "restore_below"), gate.restore_below, "load.hot", load.hot),
        (("hot",), load.hot, "load.overloaded", load.overloaded),
        (("gate", "watermark"), gate.watermark, "load.gate.saturation", gate.saturation),
    )
    for path, value, name, bound in order:
        if value >= bound:
            yield problem(("load", *path), f"{value:g}", f"is not below {name}, {bound:g}", "lower it")
    if load.restore_dwells < 1:
        what = "load would come back before a step is verified"
        yield problem(("load", "restore_dwells"), f"{load.restore_dwells:g}", what, "use 1 or more; 3 is the default")
    if load.verification.backoff > load.verification.backoff_max:
        path = ("load", "verification", "backoff")
        bound_s = load.verification.backoff_max
        yield problem(path, f"{load.verification.backoff:g} s", f"is above backoff_max, {bound_s:g} s", "lower it")


def flap_damping(parts: Parts) -> Iterator[Problem]:
    """One change must be possible: else load could never move anything."""
    if parts.load is None:
        return
    flaps = parts.load.flap_damping
    for key in ("withdraw", "attributes"):
        cost = getattr(flaps, key)
        if cost >= flaps.limit:
            what = f"is not below limit, {flaps.limit:g}: no such change could ever be made"
            yield problem(("load", "flap_damping", key), f"{cost:g}", what, "raise limit, or lower it")
    if flaps.ceiling < flaps.limit:
        what = f"is below limit, {flaps.limit:g}: nothing would ever be held back"
        yield problem(("load", "flap_damping", "ceiling"), f"{flaps.ceiling:g}", what, "raise it")


def view(parts: Parts) -> Iterator[Problem]:
    """A playbook is judged with what the other PoPs tell, which is never younger than they write."""
    if parts.load is None:
        return
    if parts.fleet is None:
        if parts.load.playbook is not None and "fleet" not in parts.broken:
            what = "needs a fleet: the gate judges by what the other PoPs carry"
            yield problem(("load", "playbook"), parts.load.playbook, what, "add `fleet`, or leave it out")
        return
    stale_s = parts.load.gate.view_stale_after
    if stale_s <= parts.fleet.refresh:
        what = f"is not above fleet.refresh, {parts.fleet.refresh:g} s: figures would be stale now and then"
        yield problem(("load", "gate", "view_stale_after"), f"{stale_s:g} s", what, "raise it")


CHECKS = (services, figures, shared, levels, floor, watermarks, flap_damping, view)
