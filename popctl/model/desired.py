"""What should be, computed afresh on every turn, and what the world last told us is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from popctl.model.instant import Instant
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.model.route import Address, RouteKey, RouteTable, route_table


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDecision:
    """Where a service stands on the announce ladder, and why."""

    service: str
    announce: Announce
    reason: Reason
    healthy: int
    """Backends that are up and not draining."""
    unknown: int
    needed: int
    until: Instant | None = None
    """When this decision is looked at again for time alone (warm-up, hold-down, drain), if it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The whole wanted state of the PoP. Nobody edits it."""

    routes: RouteTable
    services: tuple[ServiceDecision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """What the speaker proved. Pushed whole on every change, as one more event."""

    connected: bool = False
    """The relay answers and ExaBGP behind it does."""
    inherited: bool = False
    """The routes that ExaBGP already carried were read: only now may anything be said about "not announced"."""
    sessions: Mapping[Address, bool] = field(default_factory=dict)
    """Neighbour -> established."""
    routes: RouteTable = field(default_factory=route_table)
    """Per neighbour: what was sent in an UPDATE of the present session, or (session down) what would be replayed."""
    pending: frozenset[RouteKey] = frozenset()
    """Changes ordered and not yet proven."""
    failed: frozenset[RouteKey] = frozenset()
    """Changes that needed escalation and are still not proven: alarm."""
