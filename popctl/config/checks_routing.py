"""What must hold between values of `pop`, `neighbors`, `services` and `allowlist`. Each check yields problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING

from popctl.config import defaults
from popctl.config.attributes import STATES, ladder
from popctl.config.errors import KeyPath, Problem, render_path
from popctl.config.shape import suggestion
from popctl.model.route import GRACEFUL_SHUTDOWN

if TYPE_CHECKING:
    from popctl.config import schema
    from popctl.config.shape import Parts, Placed
    from popctl.model.route import Address, Attributes, Prefix

FAMILIES: dict[schema.FamilyName, int] = {"ipv4": 4, "ipv6": 6}


def problem(path: KeyPath, found: object, what: str, remedy: str) -> Problem:
    """Return a problem at a key path."""
    return Problem(path=render_path(path), found=str(found), problem=what, remedy=remedy)


def duplicates(values: Iterable[tuple[KeyPath, object]]) -> Iterator[Problem]:
    """Yield a problem for every value that an earlier place already has."""
    seen: dict[object, KeyPath] = {}
    for path, value in values:
        if value in seen:
            yield problem(path, value, f"is also {render_path(seen[value])}", "make the two differ")
        else:
            seen[value] = path


def repeated_neighbors(parts: Parts) -> Iterator[Problem]:
    """A route is known by neighbour and prefix, so two sessions to one address cannot be told apart."""
    yield from duplicates(((*part.path, "address"), part.value.address) for part in parts.neighbors)


def session_addresses(parts: Parts) -> Iterator[Problem]:
    """Both ends of a session are of one family, and not the same."""
    for part in parts.neighbors:
        mine, theirs = part.value.local_address, part.value.address
        path = (*part.path, "local_address")
        if mine.version != theirs.version:
            what = f"is not of the family of {render_path((*part.path, 'address'))}, {theirs}"
            yield problem(path, mine, what, f"use an IPv{theirs.version} address of this host")
        elif mine == theirs:
            what = f"is the address of the neighbour, {render_path((*part.path, 'address'))}"
            yield problem(path, mine, what, "use an address of this host")


def next_hops(parts: Parts) -> Iterator[Problem]:
    """Every family has a next hop of its own family, explicitly."""
    for part in parts.neighbors:
        for name, version in FAMILIES.items():
            path = (*part.path, "next_hops", name)
            hop: Address | None = getattr(part.value.next_hops, name)
            if hop is None:
                if name in part.value.families:
                    what = f"the family {name} has no next hop, and there is no `next-hop self`"
                    yield problem(path, "nothing", what, f"write the IPv{version} address that routers send traffic to")
            elif hop.version != version:
                yield problem(path, hop, f"is not an IPv{version} address", f"use an IPv{version} address as next hop")
            elif name not in part.value.families:
                what = f"{name} is not in {render_path((*part.path, 'families'))}"
                yield problem(path, hop, what, "add the family or remove the next hop")
            elif hop == part.value.address:
                what = "is the address of the neighbour itself, which would be told to send the traffic to itself"
                yield problem(path, hop, what, "use an address of this PoP")


def overlapping_prefixes(parts: Parts) -> Iterator[Problem]:
    """Two services cannot share an address, and one prefix inside another would outlive its withdraw."""
    for (path, prefix), (other_path, other) in combinations(_prefixes(parts), 2):
        if prefix.version == other.version and prefix.overlaps(other):
            what = f"overlaps {render_path(path)}, {prefix}"
            yield problem(other_path, other, what, "use prefixes that do not overlap")


def carried_prefixes(parts: Parts) -> Iterator[Problem]:
    """A prefix of a family that no session carries would never be announced."""
    if "neighbors" in parts.broken:
        return
    carried = {FAMILIES[name] for part in parts.neighbors for name in part.value.families}
    for path, prefix in _prefixes(parts):
        if parts.neighbors and prefix.version not in carried:
            what = f"no neighbour has the family ipv{prefix.version}"
            yield problem(path, prefix, what, f"add ipv{prefix.version} to the families of a neighbour")


def allowed_prefixes(parts: Parts) -> Iterator[Problem]:
    """Every prefix of a service is in the allowlist, exactly."""
    if parts.allowlist and "allowlist" not in parts.broken:
        allowed = frozenset(parts.allowlist.prefixes)
        yield from _outside("prefixes", allowed, _prefixes(parts))


def allowed_next_hops(parts: Parts) -> Iterator[Problem]:
    """Every next hop is in the allowlist."""
    if parts.allowlist and "allowlist" not in parts.broken:
        hops = (
            ((*part.path, "next_hops", name), hop)
            for part in parts.neighbors
            for name in FAMILIES
            if (hop := getattr(part.value.next_hops, name)) is not None
        )
        yield from _outside("next_hops", frozenset(parts.allowlist.next_hops), hops)


def allowed_communities(parts: Parts) -> Iterator[Problem]:
    """Every community that a neighbour is ever sent is in the allowlist."""
    if not parts.allowlist or "allowlist" in parts.broken:
        return
    for key, allowed in (
        ("communities", frozenset(parts.allowlist.communities) | {GRACEFUL_SHUTDOWN}),
        ("large_communities", frozenset(parts.allowlist.large_communities)),
    ):
        written = (
            ((*part.path, "attributes", state, key, index), value)
            for part in parts.neighbors
            for state in STATES
            for index, value in enumerate(getattr(getattr(part.value.attributes, state), key) or ())
        )
        yield from _outside(key, allowed, written)


def internal_and_external(parts: Parts) -> Iterator[Problem]:
    """LOCAL_PREF does not leave the AS; the own ASN in the path of an internal route is a loop."""
    if not parts.pop:
        return
    for path, written, internal in _written_attributes(parts, parts.pop.asn):
        if internal and written.prepend:
            what = "an internal neighbour (same AS) takes a repeated own ASN for a loop and drops the route"
            yield problem((*path, "prepend"), written.prepend, what, "use local_preference instead")
        if not internal and written.local_preference is not None:
            what = "LOCAL_PREF is not sent to an external neighbour (RFC 4271 section 5.1.5)"
            yield problem(
                (*path, "local_preference"), written.local_preference, what, "use prepend, med or a community"
            )


def ladder_goes_down(parts: Parts) -> Iterator[Problem]:
    """Each state of the ladder attracts no more than the one above it."""
    if not parts.pop:
        return
    for part in parts.neighbors:
        rungs = ladder(part.value, internal=part.value.asn == parts.pop.asn)
        for state, milder in (("depreferred", "normal"), ("graceful_shutdown", "depreferred")):
            path = (*part.path, "attributes", state)
            yield from _attracts_more(path, rungs[STATES[state]], milder, rungs[STATES[milder]])


def _attracts_more(path: KeyPath, worse: Attributes, name: str, milder: Attributes) -> Iterator[Problem]:
    remedy = f"make it less attractive than {name}, or leave it out"
    if (worse.med or 0) < (milder.med or 0):
        yield problem((*path, "med"), worse.med or 0, f"is lower, so preferred, than {milder.med} of {name}", remedy)
    if worse.prepend < milder.prepend:
        what = f"makes a shorter path, so preferred, than {milder.prepend} of {name}"
        yield problem((*path, "prepend"), worse.prepend, what, remedy)
    before = defaults.IBGP_LOCAL_PREFERENCE if milder.local_preference is None else milder.local_preference
    if worse.local_preference is not None and worse.local_preference > before:
        what = f"is higher, so preferred, than {before} of {name}"
        yield problem((*path, "local_preference"), worse.local_preference, what, remedy)


def service_backends(parts: Parts) -> Iterator[Problem]:
    """A service names backends that exist, each once, and needs no more of them than it has."""
    known = {part.value.name: part for part in parts.backends}
    for part in parts.services:
        names = part.value.backends
        if names is not None:
            yield from duplicates(((*part.path, "backends", index), name) for index, name in enumerate(names))
            if "backends" not in parts.broken:
                yield from (
                    problem(
                        (*part.path, "backends", index),
                        name,
                        "no backend has this name",
                        suggestion(name, known, "backend"),
                    )
                    for index, name in enumerate(names)
                    if name not in known
                )
        count = None if names is None and "backends" in parts.broken else len(known if names is None else set(names))
        yield from _minimum(part, count)


def _minimum(part: Placed[schema.Service], count: int | None) -> Iterator[Problem]:
    path, needed = (*part.path, "minimum_healthy"), part.value.minimum_healthy
    if needed < 1:
        what = "the service would stay announced with no backend at all"
        yield problem(path, needed, what, "use 1 or more")
    elif count is not None and count and needed > count:
        what = f"the service has only {count} backend{'s' * (count != 1)}, so it would never be announced"
        yield problem(path, needed, what, f"use at most {count}, or add backends")


def _prefixes(parts: Parts) -> list[tuple[KeyPath, Prefix]]:
    return [
        ((*part.path, "prefixes", index), prefix)
        for part in parts.services
        for index, prefix in enumerate(part.value.prefixes)
    ]


def _outside(key: str, allowed: frozenset[object], values: Iterable[tuple[KeyPath, object]]) -> Iterator[Problem]:
    for path, value in values:
        if value not in allowed:
            remedy = f"add it to allowlist.{key}, or remove it here"
            yield problem(path, value, f"is not in allowlist.{key}", remedy)


def _written_attributes(parts: Parts, asn: int) -> Iterator[tuple[KeyPath, schema.StateAttributes, bool]]:
    for part in parts.neighbors:
        for state in STATES:
            yield (*part.path, "attributes", state), getattr(part.value.attributes, state), part.value.asn == asn


CHECKS = (
    repeated_neighbors,
    session_addresses,
    next_hops,
    overlapping_prefixes,
    carried_prefixes,
    allowed_prefixes,
    allowed_next_hops,
    allowed_communities,
    internal_and_external,
    ladder_goes_down,
    service_backends,
)
