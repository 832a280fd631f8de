"""What the fleet tells each upstream: one announcement per session, and plans made of them.

A *plan* is one announcement (or None: withdrawn) per session of the fleet, in the fleet's order. Every question of the
kind "what if" is a pure change of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeAlias


class Relation(StrEnum):
    """What the upstream is to us, which is what its default local preference and its export follow from."""

    TRANSIT = "transit"
    """We buy from it: it takes our route as a customer route and tells everybody."""
    PEER = "peer"
    """Settlement-free, bilateral or by a route server: it tells its customers only."""


class LocalPref(IntEnum):
    """Where the upstream ranks our route, default or asked for by a community in the manner of RFC 1998.

    Anything below the default counts only where the upstream hears nothing better from others; ranking it changes
    nobody it is told to. Of the several stable states that such routes can have (RFC 4264) the intended one is meant.
    """

    CUSTOMER = 0
    PEER = 1
    PROVIDER = 2
    BACKUP = 3


class Neighbors(StrEnum):
    """A kind of neighbour of the upstream, as it sees them."""

    PROVIDERS = "providers"
    PEERS = "peers"
    CUSTOMERS = "customers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action community: what the upstream does when it tells some of its neighbours.

    All selectors that are given must match. Of several matching actions the one that deters most counts.
    """

    prepend: int | None
    """How many times the upstream repeats its own AS; None: it does not tell them at all."""
    asn: int | None = None
    neighbors: Neighbors | None = None
    region: str | None = None
    """Neighbours of that region in the AS graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What one session carries."""

    prepend: int = 0
    """How many times the own AS is repeated beyond the one that eBGP adds."""
    med: int = 0
    """Compared between our own sessions at the same upstream only (RFC 4271 section 9.1.2.2 c)."""
    no_export: bool = False
    """RFC 1997: the upstream uses the route and tells nobody outside its AS."""
    local_pref: LocalPref = LocalPref.CUSTOMER
    """Of a session with a peer the default cannot be better than `PEER`."""
    actions: tuple[Action, ...] = ()


Plan: TypeAlias = tuple[Announcement | None, ...]
"""Aligned with the sessions of the fleet; None is withdrawn."""
