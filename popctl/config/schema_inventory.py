"""The shape of a balancer's own file, for a host without an agent. docs/balancer.md describes it."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PlainValidator

from popctl.config import defaults
from popctl.config.fields import Address, Name, refuse
from popctl.config.schema_balancer import Sizes, SpiPlan
from popctl.config.schema_probes import Section

_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{1,16}")


def _ipv4(value: object) -> IPv4Address:
    try:
        return IPv4Address(str(value))
    except ValueError:
        raise refuse("is not an IPv4 address", "write it like 192.0.2.1; an IPv6 address goes to `address6`") from None


def _ipv6(value: object) -> IPv6Address:
    try:
        return IPv6Address(str(value))
    except ValueError:
        raise refuse("is not an IPv6 address", "write it like 2001:db8::1; an IPv4 address goes to `address`") from None


def _seed(value: object) -> int:
    if isinstance(value, str) and _HEXADECIMAL.fullmatch(value):
        value = int(value, 16)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        hidden = "a value that is not shown"
        raise refuse("is not a number of 64 bits", "write it like 0x5eed0001, or in decimal digits", found=hidden)
    return value


Address4: TypeAlias = Annotated[IPv4Address, PlainValidator(_ipv4)]
Address6: TypeAlias = Annotated[IPv6Address, PlainValidator(_ipv6)]
Seed: TypeAlias = Annotated[int, PlainValidator(_seed)]


class Identity(Section):
    """Which PoP it is."""

    id: int = Field(description="Number of this PoP in the SPI plan.")


class Backend(Section):
    """One VPN server."""

    id: int = Field(description="Number of this backend in the SPI plan.")
    address: Address4 | None = Field(default=None, description="Its IPv4 address on the balancer's link.")
    address6: Address6 | None = Field(default=None, description="Its IPv6 address there.")
    weight: int = Field(default=64, ge=1, le=1000, description="Share of new clients, relative to others.")
    labelled: bool = Field(default=True, description="Whether its SPIs follow the plan.")


class Affinity(Section):
    """Soft memory of where a client went."""

    timeout_s: int = Field(  # whole, and not 0, which the kernel takes for ever
        default=600, ge=1, le=86400, description="How long a silent client is remembered, seconds."
    )
    size: int = Field(default=defaults.AFFINITY_SIZE, ge=1, le=16777216, description="Clients per memory.")


class Balancer(Section):
    """How a service is spread over its backends."""

    seed: Seed = Field(description="A secret number, the same on all balancers of the PoP.")
    key: Literal["spi", "source-ip", "source-ip-port", "5-tuple"] = Field(
        default=defaults.HASH_KEY, description="What new clients are spread by."
    )
    unlabelled: Literal["source", "drop"] = Field(default="source", description="IKE and ESP without a label.")
    plain_l2tp: bool = Field(default=False, description="Forward UDP 1701 that no IPsec protects.")
    other: Literal["source", "drop"] = Field(default="drop", description="Everything else that is sent to a VIP.")
    affinity: Affinity = Field(default=Affinity(), description="Memory of where clients went.")


class Service(Section):
    """One balanced service."""

    vips: list[Address] = Field(min_length=1, description="Its addresses, which backends own.")
    backends: list[Name] = Field(min_length=1, description="Names of the backends that serve it.")
    balancer: Balancer = Field(description="How it is spread: `seed` at least.")


class Inventory(Section):
    """The whole file."""

    spi_plan: SpiPlan = Field(description="How SPIs name PoP and backend; the same in every PoP.")
    sizes: Sizes = Field(default=Sizes(), description="What the plan is linted against.")
    pop: Identity = Field(description="Which PoP it is: `id`.")
    backends: dict[Name, Backend] = Field(min_length=1, description="VPN servers by name.")
    services: dict[Name, Service] = Field(min_length=1, description="Balanced services by name.")
