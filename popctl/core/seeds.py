"""What rows are built from, and bare tables made whole: the same on every balancer of a PoP, and in `popctl lb`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2s
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from popctl.model.balancer import BalancedService, Rows, Tables
    from popctl.model.pop import Pop

_BITS_OF_JHASH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the rows of one service follow from."""

    service: str
    weights: Mapping[int, int]
    """By backend id."""
    seed: bytes
    """Of the rows."""


def recipes(pop: Pop) -> tuple[Recipe, ...]:
    """Return what to build for the services of `pop`, in their order."""
    services = pop.tables.services if pop.tables else ()
    return tuple(
        Recipe(
            service=service.name,
            weights={number: pop.backends[number].weight for number in sorted(service.rows.members)},
            seed=_draw(pop, service, "rows", 16),
        )
        for service in services
    )


def whole(pop: Pop, rows: Iterable[Rows]) -> tuple[BalancedService, ...]:
    """Return the services of `pop` with these rows, in the order of `recipes`, and the seeds of their row hash."""
    services = pop.tables.services if pop.tables else ()
    return tuple(
        replace(service, rows=built, seed=int.from_bytes(_draw(pop, service, "hash", _BITS_OF_JHASH // 8), "big"))
        for service, built in zip(services, rows, strict=True)
    )


def with_services(tables: Tables, services: tuple[BalancedService, ...]) -> Tables:
    """Return decided tables with whole services in the place of bare ones."""
    return replace(tables, services=services)


def _draw(pop: Pop, service: BalancedService, purpose: str, size: int) -> bytes:
    if pop.row_key is not None:
        key = pop.row_key.reveal()
    else:
        key = f"{pop.spi_plan.site if pop.spi_plan else pop.asn}/{pop.id}"
    # The key is hashed first: blake2s takes keys of 32 bytes at most.
    digest = blake2s(key.encode(), digest_size=32).digest()
    return blake2s(f"{purpose}/{service.name}".encode(), key=digest, digest_size=size).digest()
