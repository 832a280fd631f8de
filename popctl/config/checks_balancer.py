"""What must hold for the balancer: VIPs, the SPI plan, ids that fit in it, a way to every backend."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING

from popctl.config import defaults
from popctl.config.checks_routing import problem
from popctl.config.errors import KeyPath, Problem
from popctl.config.tables import bare_tables, forward, plans
from popctl.core import balance
from popctl.model.balancer import MAX_SLOT, HashKey
from popctl.wire import spi_lint

if TYPE_CHECKING:
    from popctl.config import schema, schema_balancer
    from popctl.config.shape import Parts, Placed
    from popctl.model.route import Address

_MARK_LOW = 0xFFFF
_LARGEST_TABLE = 0x7FFFFFFF


def plan_fits(parts: Parts) -> Iterator[Problem]:
    """The plan has room for the site and for the SAs of its backends, and its labels and slices do not collide."""
    pop, sizes = parts.pop, parts.sizes
    if parts.spi_plan is None or pop is None or sizes is None or "spi_plan" in parts.broken:
        return
    found = plans(parts.spi_plan)[0]
    problems = spi_lint.lint(
        found,
        pops=max(sizes.pops or 1, pop.id),
        backends_per_pop=sizes.backends_per_pop or 1,  # ids are looked at one by one
        sas_per_backend=_sas(parts, sizes),
    )
    for one in problems:
        yield problem(("spi_plan", _last(one.key)), getattr(found, _last(one.key)), one.text, one.remedy)


def _sas(parts: Parts, sizes: schema_balancer.Sizes) -> int:
    """Return how many SAs a backend may have to hold: a session has one at least."""
    sessions = [capacity.sessions or 0 for part in _members(parts) if (capacity := part.value.capacity)]
    return max(sizes.sas_per_backend or 0, *map(ceil, sessions), 0) or defaults.SAS_PER_BACKEND


def plans_stand_together(parts: Parts) -> Iterator[Problem]:
    """No SPI means one thing in the plan and another in a plan before it."""
    if "spi_plan" not in parts.broken:
        for one in spi_lint.lint_previous(plans(parts.spi_plan)):
            yield Problem(path=one.key, found="plans in force together", problem=one.text, remedy=one.remedy)


def ids_fit(parts: Parts) -> Iterator[Problem]:
    """Every backend of a balanced service fits in a mark, and in the plan if there is one."""
    found = parts.spi_plan
    for part in _members(parts):
        number = part.value.id
        if number >= MAX_SLOT:
            what = f"is above {MAX_SLOT - 1}, the largest that the balancer's marks can name"
            yield problem((*part.path, "id"), number, what, "give a new backend a free id; ids are permanent")
        elif found is not None and number >= 1 << found.backend_bits:
            what = f"does not fit in spi_plan.backend_bits, {found.backend_bits}"
            remedy = "choose a free id, or widen backend_bits in a new generation"
            yield problem((*part.path, "id"), number, what, remedy)


def vips_are_of_the_service(parts: Parts) -> Iterator[Problem]:
    """A VIP is inside a prefix of its service, for the route brings the packets; and in one service, once."""
    seen: dict[object, str] = {}
    for part in _balanced(parts):
        assert part.value.balancer is not None  # noqa: S101 - `_balanced`
        for index, vip in enumerate(part.value.balancer.vips):
            path: KeyPath = (*part.path, "balancer", "vips", index)
            if not any(vip in prefix for prefix in part.value.prefixes):
                yield problem(path, vip, "is in no prefix of this service", "use an address inside one of them")
            if vip in seen:
                yield problem(path, vip, f"is a VIP of service {seen[vip]} already", "leave it in one place")
            seen.setdefault(vip, part.key)


def vips_are_nobody_elses(parts: Parts) -> Iterator[Problem]:
    """What is sent to a VIP reaches whichever backend the balancer picks: no host or router is asked for there."""
    vips = {vip for part in _balanced(parts) if part.value.balancer for vip in part.value.balancer.vips}
    for path, address, remedy in (*_of_backends(parts), *_of_sessions(parts)):
        if address in vips:
            yield problem(path, address, "is a VIP", remedy)


def _of_backends(parts: Parts) -> Iterator[tuple[KeyPath, Address | None, str]]:
    remedy = "use the backend's own address"
    for part in parts.backends:
        forward = part.value.forward
        yield (*part.path, "address"), part.value.address, remedy
        yield (*part.path, "forward", "ipv4"), forward.ipv4, remedy
        yield (*part.path, "forward", "ipv6"), forward.ipv6, remedy


def _of_sessions(parts: Parts) -> Iterator[tuple[KeyPath, Address | None, str]]:
    remedy = "use an address of this host alone"
    for part in parts.neighbors:
        hops = part.value.next_hops
        yield (*part.path, "address"), part.value.address, "use the neighbour's own address"
        yield (*part.path, "local_address"), part.value.local_address, remedy
        yield (*part.path, "next_hops", "ipv4"), hops.ipv4, remedy
        yield (*part.path, "next_hops", "ipv6"), hops.ipv6, remedy


def key_has_labels(parts: Parts) -> Iterator[Problem]:
    """Spreading by SPI needs backends whose SPIs say where they belong."""
    if parts.spi_plan is not None or "spi_plan" in parts.broken:
        return
    for part in _balanced(parts):
        if part.value.balancer and part.value.balancer.key == HashKey.SPI.value:
            what = "spreads by SPI, which needs labelled backends, and there is no spi_plan"
            yield problem((*part.path, "balancer", "key"), "spi", what, "add spi_plan, or use source-ip")


def forwards_are_of_their_family(parts: Parts) -> Iterator[Problem]:
    """A next hop is of the family that it is for, and every member has one for every family of VIPs."""
    for part in parts.backends:
        for key, version in (("ipv4", 4), ("ipv6", 6)):
            hop = getattr(part.value.forward, key)
            if hop is not None and hop.version != version:
                what = f"is not an IPv{version} address"
                yield problem((*part.path, "forward", key), hop, what, f"use an IPv{version} address of the backend")
    for part in _members(parts):
        way = forward(part.value)
        for version in sorted(_families(parts, part.value)):
            if (way.ipv4 if version == 4 else way.ipv6) is None:  # noqa: PLR2004 - IP version
                what = f"a service has an IPv{version} VIP, and there is no way to this backend"
                remedy = "write its address on the balancer's link"
                yield problem((*part.path, "forward", f"ipv{version}"), "nothing", what, remedy)


def marks(parts: Parts) -> Iterator[Problem]:
    """The low half of a mark belongs to reason and slot; tables of backends end before the numbers do."""
    if parts.balancer is None:
        return
    base, tables = parts.balancer.mark_base, parts.balancer.table_base
    if not base:
        yield problem(("balancer", "mark_base"), "0", "would be on packets that nobody marked", "use 0x5b000000")
    if base & _MARK_LOW:
        yield problem(
            ("balancer", "mark_base"), f"{base:#x}", "has bits in its low half", f"use {base & ~_MARK_LOW:#x}"
        )
    if tables + MAX_SLOT > _LARGEST_TABLE:
        yield problem(("balancer", "table_base"), tables, "leaves no room for a table per backend", "use a lower one")


def what_the_balancer_refuses(parts: Parts) -> Iterator[Problem]:
    """Whatever else the hand would refuse when it is too late: asked last, of a configuration that is sound so far."""
    if parts.broken or any(found for check in CHECKS[:-1] for found in check(parts)) or _unknown_names(parts):
        return
    wanted = bare_tables(parts)
    for one in balance.problems(wanted) if wanted is not None else ():
        yield Problem(path=one.key, found="an impossible balancer", problem=one.text, remedy=one.remedy)


def _balanced(parts: Parts) -> Iterator[Placed[schema.Service]]:
    return (part for part in parts.services if part.value.balancer is not None)


def _members(parts: Parts) -> Iterator[Placed[schema.Backend]]:
    return (part for part in parts.backends if _families(parts, part.value))


def _families(parts: Parts, backend: schema.Backend) -> frozenset[int]:
    return frozenset(
        vip.version
        for part in _balanced(parts)
        if part.value.balancer and (part.value.backends is None or backend.name in part.value.backends)
        for vip in part.value.balancer.vips
    )


def _unknown_names(parts: Parts) -> bool:
    known = {part.value.name for part in parts.backends}
    return any(name not in known for part in parts.services for name in part.value.backends or ())


def _last(key: str) -> str:
    return key.rpartition(".")[2]


CHECKS = (
    plan_fits,
    plans_stand_together,
    ids_fit,
    vips_are_of_the_service,
    vips_are_nobody_elses,
    key_has_labels,
    forwards_are_of_their_family,
    marks,
    what_the_balancer_refuses,
)
