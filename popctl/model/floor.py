"""The fleet as configured: how a PoP reaches the store, and what must be left when one withdraws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorPolicy:
    """What must be left of a service when a PoP withdraws. The same in all PoPs of a fleet."""

    minimum_announcing: int = 1
    minimum_per_region: Mapping[str, int] = field(default_factory=dict)
    minimum_capacity_ratio: float | None = None
    """Capacity of those left versus the demand on all, for every resource that limits them all. None: not looked at."""
    common_cause_share: float = 0.2
    """More of the fleet than this turned bad within the window: the cause is shared, or the probes are wrong."""
    common_cause_window_s: float = 60.0
    view_age_bound_s: float = 30.0
    """An older view says nothing about the others."""
    settle_s: float = 12.0
    """After an outage of the store the others get this long to say what happened to them. Longer than a lease: then all
    whose records are still there have come back."""
    permit_wait_s: float = 1.0
    """How long a withdraw waits for its permit before the service is held at the lowest preference meanwhile."""
    permit_valid_s: float = 10.0
    """How long a permit needs no connection and no certainty to be used for what it was granted for."""
    standing_share: float = 0.5
    """Of the PoPs that the floor can spare, how many (rounded up) hold a permit ahead of need: only those may leave
    without the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTls:
    """Files of the mutual TLS between agent and store."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """The fleet that a PoP is in."""

    name: str
    region: str
    endpoints: tuple[str, ...]
    """URLs of the store's members; one after another is tried."""
    tls: FleetTls | None = None
    floor: FloorPolicy = field(default_factory=FloorPolicy)
    lease_ttl_s: float = 10.0
    """A PoP that falls silent is gone from the fleet after this."""
    request_s: float = 2.0
    """How long the store may take for an answer."""
    quiet_s: float = 2.0
    """Between two writes, unless a rung, a stance or health changes."""
    refresh_s: float = 10.0
    """A write at least this often: its echo proves that the view is current."""
