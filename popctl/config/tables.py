"""Parts -> the balancer's tables: everything but health, and rows no longer than it takes to name the members."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from popctl.model.balancer import (
    Affinity,
    BalancedService,
    Forward,
    HashKey,
    Labels,
    Marks,
    Rows,
    SpiPlan,
    Tables,
    Unmatched,
)
from popctl.wire.spi import labels

if TYPE_CHECKING:
    from popctl.config import schema, schema_balancer
    from popctl.config.shape import Parts, Placed


def plans(written: schema_balancer.SpiPlan | None) -> tuple[SpiPlan, ...]:
    """Return the SPI plans in force together: the one for new SAs, then those before it, newest first."""
    found = []
    while written is not None:
        found.append(SpiPlan(**written.model_dump(exclude={"previous"})))
        written = written.previous
    return tuple(found)


def forward(written: schema.Backend) -> Forward:
    """Return the way to a backend: its address, unless something else is written."""
    v4, v6 = written.forward.ipv4, written.forward.ipv6
    own = written.address
    return Forward(
        name=written.name,
        ipv4=v4 if isinstance(v4, IPv4Address) else own if isinstance(own, IPv4Address) else None,
        ipv6=v6 if isinstance(v6, IPv6Address) else own if isinstance(own, IPv6Address) else None,
    )


def bare_tables(parts: Parts) -> Tables | None:
    """Return the tables of the services that have a balancer; None when none has.

    Ids must fit in a slot, and backends of services must exist.
    """
    balanced = [part for part in parts.services if part.value.balancer is not None]
    if not balanced or parts.balancer is None or parts.pop is None:
        return None
    known = {part.value.name: part.value for part in parts.backends}
    services = []
    used: dict[int, Forward] = {}
    for part in balanced:
        assert part.value.balancer is not None  # noqa: S101 - chosen above
        members = [known[name] for name in (part.value.backends or known)]
        used |= {one.id: forward(one) for one in members}
        services.append(_service(part, part.value.balancer, sorted(one.id for one in members), parts))
    written = parts.balancer
    marks = Marks(
        base=written.mark_base,
        table_base=written.table_base,
        priority=written.rule_priority,
        replicate_per_s=written.icmp_copies_per_s,
    )
    return Tables(services=tuple(services), backends=dict(sorted(used.items())), marks=marks)


def _service(
    part: Placed[schema.Service], written: schema_balancer.ServiceBalancer, members: list[int], parts: Parts
) -> BalancedService:
    assert parts.pop is not None  # noqa: S101 - checked by the caller
    found = plans(parts.spi_plan)
    return BalancedService(
        name=part.key,
        vips=tuple(written.vips),
        rows=Rows(width=len(members), order=bytes(number + 1 for number in members)),
        labels=labels(found[0], parts.pop.id, members, found[1:]) if found else Labels(),
        # As the rows: the shell draws it from the key.
        seed=0,
        key=HashKey(written.key),
        affinity=Affinity(timeout_s=written.affinity.timeout, size=written.affinity.size),
        unlabelled=Unmatched(written.unlabelled),
        plain_l2tp=written.plain_l2tp,
        other=Unmatched(written.other),
    )
