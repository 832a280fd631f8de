"""Balancer tables for tests: a PoP whose backends are labelled by one plan, with whatever a test wants different."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from popctl.core.rendezvous import build
from popctl.model.balancer import BalancedService, Forward, Labels, Rows, SpiPlan, Tables
from popctl.wire.spi import Identity, esp_slice, label, labels

PLAN = SpiPlan(site="example.net")
NARROW_PLAN = SpiPlan(site="example.net", pop_bits=4, backend_bits=4, sa_bits=16, esp_base=0x10000000)
WIDE_PLAN = replace(NARROW_PLAN, backend_bits=5, generation=1, esp_base=0x20000000)
"""Takes the place of `NARROW_PLAN`; `PLAN` leaves no room for another one beside it."""
POP = 7
VIP4 = IPv4Address("198.51.100.1")
VIP6 = IPv6Address("2001:db8:ffff::1")
CLIENT4 = IPv4Address("203.0.113.2")
CLIENT6 = IPv6Address("2001:db8:c::2")
SEED = 0x5EED0001
NO_LABELS = Labels()


@cache
def rows(count: int, weight: int = 64, size: int = 65536) -> Rows:
    """Build rows of backends 0..count-1."""
    return build(dict.fromkeys(range(count), weight), b"seed", size)


def service(backends: int = 2, **changed: Any) -> BalancedService:  # noqa: ANN401 - fields of the service
    """Build a dual-stack service over backends 0..backends-1."""
    values = {
        "name": "vpn",
        "vips": (VIP4, VIP6),
        "rows": rows(backends),
        "labels": labels(PLAN, POP, range(backends)),
        "seed": SEED,
    }
    return BalancedService(**{**values, **changed})


def forwards(backends: int) -> dict[int, Forward]:
    """Build the way to each backend: 10.77.0.(10 + id) and the same in IPv6."""
    return {
        b: Forward(name=f"b{b}", ipv4=IPv4Address("10.77.0.10") + b, ipv6=IPv6Address("2001:db8:77::10") + b)
        for b in range(backends)
    }


def tables(backends: int = 2, **changed: Any) -> Tables:  # noqa: ANN401 - fields of the service
    """Build tables of one service, all backends alive."""
    return Tables(
        services=(service(backends, **changed),), backends=forwards(backends), alive=frozenset(range(backends))
    )


def without(wanted: Tables, *down: int) -> Tables:
    """Return the same with backends down."""
    return replace(wanted, alive=wanted.alive - set(down))


def draining(wanted: Tables, *backends: int) -> Tables:
    """Return the same with backends draining."""
    return replace(wanted, draining=frozenset(backends))


def server_spi(backend: int, tail: int = 0x01020304, pop: int = POP, plan: SpiPlan = PLAN) -> bytes:
    """Return an IKE SPI that this backend would choose."""
    return label(plan, Identity(pop, backend)).to_bytes(4, "big") + tail.to_bytes(4, "big")


def esp_spi(backend: int, offset: int = 0x77, pop: int = POP, plan: SpiPlan = PLAN) -> int:
    """Return an ESP SPI that this backend would choose."""
    return esp_slice(plan, Identity(pop, backend)).first + offset
