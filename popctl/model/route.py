"""Routes as values: prefixes, communities, path attributes and whole tables of wanted or confirmed routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Prefix: TypeAlias = IPv4Network | IPv6Network

_MAX_U16 = 0xFFFF
_MAX_U32 = 0xFFFFFFFF


class Family(StrEnum):
    """An address family of RFC 4760 that popctl announces."""

    IPV4_UNICAST = "ipv4 unicast"
    IPV6_UNICAST = "ipv6 unicast"

    @staticmethod
    def of(prefix: Prefix) -> Family:
        """Return the family that carries `prefix`."""
        return Family.IPV4_UNICAST if prefix.version == 4 else Family.IPV6_UNICAST  # noqa: PLR2004 - IP version


class Community(NamedTuple):
    """A standard community (RFC 1997): two 16-bit halves, written `asn:value`."""

    asn: int
    value: int

    @classmethod
    def parse(cls, text: str) -> Community:
        """Read `asn:value`. Raises `ValueError` with what was found."""
        return cls(*_numbers(text, count=2, largest=_MAX_U16))

    def __str__(self) -> str:
        return f"{self.asn}:{self.value}"


class LargeCommunity(NamedTuple):
    """A large community (RFC 8092): three 32-bit parts, written `global:local1:local2`."""

    global_admin: int
    local_1: int
    local_2: int

    @classmethod
    def parse(cls, text: str) -> LargeCommunity:
        """Read `global:local1:local2`. Raises `ValueError` with what was found."""
        return cls(*_numbers(text, count=3, largest=_MAX_U32))

    def __str__(self) -> str:
        return f"{self.global_admin}:{self.local_1}:{self.local_2}"


def _numbers(text: str, *, count: int, largest: int) -> list[int]:
    parts = text.split(":")
    if len(parts) != count or not all(part.isascii() and part.isdigit() and int(part) <= largest for part in parts):
        raise ValueError(f"{text!r} is not {count} numbers of 0..{largest} joined by ':'")
    return [int(part) for part in parts]


GRACEFUL_SHUTDOWN = Community(0xFFFF, 0)
"""RFC 8326: the receiver lowers its local preference, so that traffic leaves before the route does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a neighbour is told besides prefix and next hop, for one state of the announce ladder."""

    med: int | None = None
    prepend: int = 0
    """How many times the own ASN is repeated beyond the one that eBGP always adds."""
    local_preference: int | None = None
    """iBGP only (RFC 4271 section 5.1.5)."""
    communities: tuple[Community, ...] = ()
    large_communities: tuple[LargeCommunity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One announcement to one neighbour, complete: a hand adds nothing to it."""

    prefix: Prefix
    next_hop: Address
    as_path: tuple[int, ...] = ()
    """The whole AS_PATH to send; empty means the speaker's default (the own ASN on eBGP, nothing on iBGP)."""
    med: int | None = None
    local_preference: int | None = None
    communities: tuple[Community, ...] = ()
    """Sorted, without duplicates, so that equal routes compare equal."""
    large_communities: tuple[LargeCommunity, ...] = ()
    """Sorted, without duplicates."""


class RouteKey(NamedTuple):
    """What a route is known by: a session carries at most one route per prefix."""

    neighbor: Address
    prefix: Prefix


RouteTable: TypeAlias = Mapping[RouteKey, Route]
"""All routes of all neighbours. Absent means withdrawn."""


def route_table(entries: Iterable[tuple[RouteKey, Route]] = ()) -> RouteTable:
    """Build an immutable table. Raises `ValueError` when a route stands under a key of another prefix."""
    table = dict(entries)
    for key, route in table.items():
        if key.prefix != route.prefix:
            raise ValueError(f"route for {route.prefix} stored under {key.prefix}")
    return MappingProxyType(table)
