"""What must hold for the operator API beyond this host: who may come in, and an address that is this PoP's alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from popctl.config.checks_routing import duplicates, problem
from popctl.config.errors import Problem

if TYPE_CHECKING:
    from popctl.config.shape import Parts


def clients(parts: Parts) -> Iterator[Problem]:
    """Somebody may come in, and everybody in one role."""
    if parts.api is None:
        return
    written = parts.api
    if not written.operate and not written.read and "api" not in parts.broken:
        yield problem(("api", "operate"), "nobody", "nobody may come in", "name a client here or in api.read")
    places = [(("api", role, index), name) for role in ("operate", "read") for index, name in _names(parts, role)]
    yield from duplicates(places)


def own_address(parts: Parts) -> Iterator[Problem]:
    """An order for this PoP must not reach whichever PoP is nearest."""
    if parts.api is None:
        return
    address = parts.api.address
    for part in parts.services:
        for prefix in part.value.prefixes:
            if address.version == prefix.version and address in prefix:
                what = f"is in {prefix}, which every PoP announces: orders would reach another one"
                yield problem(("api", "address"), address, what, "use an address of this host alone")


def _names(parts: Parts, role: str) -> Iterator[tuple[int, str]]:
    yield from enumerate(getattr(parts.api, role))


CHECKS = (clients, own_address)
