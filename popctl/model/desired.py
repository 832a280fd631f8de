"""What should be, computed afresh on every turn, and what the world last told us is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from popctl.model.balancer import Tables
from popctl.model.fleet import FleetWish
from popctl.model.instant import Instant
from popctl.model.load import Tightness
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.model.route import Address, Prefix, RouteKey, RouteTable, route_table


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
    held: bool = False
    """It should be withdrawn, and the guard does not allow it: alarm."""


class Place(StrEnum):
    """Where the balancer has a backend."""

    ALIVE = "alive"
    DRAINING = "draining"
    """No new SAs; what it holds stays."""
    OUT = "out"
    """Nothing new and nothing remembered; only what carries its label still goes there."""
    CUT = "cut"
    """Out by order, and its SAs are to be ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendDecision:
    """Where the balancer should have a backend, and why."""

    backend: int
    alive: bool
    """It may be given something new or remembered."""
    draining: bool
    """It gets no new SA, whether it is alive or not."""
    cut: bool
    """Its SAs are to be ended."""
    reason: Reason

    @property
    def place(self) -> Place:
        """Return the one word for it."""
        if self.cut:
            return Place.CUT
        if not self.alive:
            return Place.OUT
        return Place.DRAINING if self.draining else Place.ALIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadDecision:
    """Where the PoP stands on its ladder of levels, and why."""

    level: int
    name: str
    """Of the level."""
    reason: Reason | None
    """Why it stands there, or why it cannot stand where it should; None: load has no say."""
    tightness: Tightness
    """Of the backends that serve, together."""
    until: Instant | None = None
    """When this is looked at again for time alone, if it is."""
    settling: bool = False
    """The last step is not verified yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The whole wanted state of the PoP. Nobody edits it."""

    routes: RouteTable
    services: tuple[ServiceDecision, ...]
    tables: Tables | None = None
    """Of the balancer; None without one, and before it is known what the kernel holds. Rows are as in `Pop.tables`."""
    backends: tuple[BackendDecision, ...] = ()
    """Those of balanced services, by id."""
    balanced: frozenset[Prefix] = frozenset()
    """Prefixes with an address that the balancer serves: nobody hears of them before it is in force."""
    closed: frozenset[str] = frozenset()
    """Services that refuse new SAs by order: the balancer may leave them without anybody while they are announced."""
    fleet: FleetWish | None = None
    """What the fleet is to be told and asked; None without one."""
    load: LoadDecision | None = None
    """None: announcements are not steered by load."""


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
    problem: str = ""
    """Why it is not connected; empty while it is, and before the first attempt has failed."""
