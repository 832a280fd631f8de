"""A host and its VPN daemons as seen by the system lint: settings, links, timers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """What one backend's connections say, in seconds: of several the longest; 0 where one of them has it off."""

    backend: str
    ike_rekey_s: int = 0
    """Until an IKE SA is replaced, by a rekey or a re-authentication."""
    esp_rekey_s: int = 0
    dpd_s: int = 0
    algorithms: tuple[str, ...] = ()
    """Of its live SAs, as strongSwan names them. What it would agree to besides, it tells nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A host as it is."""

    sysctls: Mapping[str, int] = field(default_factory=dict)
    """Absent: the kernel has no such setting."""
    mtus: Mapping[str, int] = field(default_factory=dict)
    backend_links: frozenset[str] = frozenset()
    """Interfaces towards backends."""
    no_neighbours: tuple[str, ...] = ()
    """Backends, with the address, that are on no link of this host."""
    uplinks: frozenset[str] = frozenset()
    mss_clamped: bool | None = None
    tracked_vip_flows: int | None = None
    """Conntrack entries with a VIP; None when it cannot be told."""
    affinity_timeout_s: int | None = None
    longest_sa_s: float | None = None
    """How long an id rests after its backend was taken out."""
    lifetimes: tuple[Lifetimes, ...] = ()
    ipv6: bool = False
