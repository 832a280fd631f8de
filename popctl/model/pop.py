"""The PoP as configured: who it is, whom it speaks BGP with, which services its backends carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from popctl.model.announce import Announce as Announce  # noqa: PLC0414 - marks the re-export
from popctl.model.balancer import Forward, Labelling, SpiPlan, Tables
from popctl.model.capacity import LoadSettings
from popctl.model.floor import FleetSettings
from popctl.model.listen import RemoteApi
from popctl.model.load import Amounts, LoadTiming
from popctl.model.meter import MeterAddress
from popctl.model.probe import ProbeSpec
from popctl.model.route import Address, Attributes, Community, Family, LargeCommunity, Prefix
from popctl.model.secret import Secret as Secret  # noqa: PLC0414 - marks the re-export


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbor:
    """One BGP session to an upstream router."""

    address: Address
    local_address: Address
    asn: int
    hold_time_s: int
    """RFC 4271 section 4.2: 0 or at least 3."""
    families: frozenset[Family]
    next_hops: Mapping[Family, Address]
    """Explicit for every family: `next-hop self` silently becomes the router id across families."""
    attributes: Mapping[Announce, Attributes]
    """For every state of the ladder but WITHDRAWN."""
    md5: Secret | None = None
    """RFC 2385; at most 80 characters on Linux."""
    ttl_security_hops: int | None = None
    """RFC 5082: the neighbour is at most this many hops away; None switches the check off."""
    port: int = 179
    passive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ViciEndpoint:
    """Where a backend's charon takes control connections: a unix socket, or TCP on a link that is private."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One VPN server of the PoP. Its id is permanent: labels and tables are derived from it."""

    id: int
    name: str
    address: Address
    weight: int
    probes: tuple[ProbeSpec, ...]
    """All must pass: IKE, NAT-T and L2TP of one client end at one place."""
    forward: Forward | None = None
    """Where the balancer sends its packets; None only where nothing asks for it."""
    vici: ViciEndpoint | None = None
    """Where charon lists its SAs and ends them; None: it is not asked."""
    meter: MeterAddress | None = None
    """Where its `popctl meter` listens; None: its load is unknown, and its death is noticed by probes."""
    capacity: Amounts | None = None
    """What it can carry; a resource that is absent has no limit. None: nobody knows what it can carry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One anycast service: prefixes that are announced exactly while enough backends work."""

    name: str
    prefixes: tuple[Prefix, ...]
    backends: tuple[int, ...]
    """Ids of the backends that carry it."""
    minimum_healthy: int
    drain_keeps: float = 0.0
    """Share of the configured weight that a drain must leave for new clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowlist:
    """All that may ever leave the PoP. Checked by the agent and again by the relay."""

    prefixes: frozenset[Prefix]
    """Exact prefixes; a more specific one is not covered."""
    next_hops: frozenset[Address]
    communities: frozenset[Community]
    large_communities: frozenset[LargeCommunity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How fast a service may come, go and come back."""

    warm_up_s: float
    """Healthy without a break this long before the first announce."""
    unknown_hold_s: float
    """How long "unknown" keeps what is announced before it counts as down."""
    hold_down_s: float
    """First hold-down after a flap; doubles with each further flap inside `flap_window_s`."""
    hold_down_max_s: float
    flap_window_s: float
    stop_drain_s: float
    """How long graceful shutdown is announced before the withdraw when the agent is told to stop."""
    convergence_s: float = 60.0
    """How long routers may take to turn away from a drained service: no withdraw for want of sessions before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What the relay does when the agent falls silent."""

    duration_s: float
    on_expiry_hold: bool = False
    """Fail static: keep the routes although the agent is gone. Off unless the site chose it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the agent meets the host."""

    relay_socket: Path
    api_socket: Path
    state_file: Path
    journal: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pop:
    """Everything the agent of one PoP needs to know; replaced whole, never edited."""

    id: int
    name: str
    location: str
    asn: int
    router_id: IPv4Address
    neighbors: tuple[Neighbor, ...]
    services: tuple[Service, ...]
    backends: Mapping[int, Backend]
    allowlist: Allowlist
    timing: Timing
    lease: Lease
    paths: Paths
    spi_plans: tuple[SpiPlan, ...] = ()
    """Under which SAs live, newest first: backends label by the first, or did by another. Empty: no labels."""
    tables: Tables | None = None
    """The balancer as configured, nobody alive yet; None without one. Its rows hold one row each, which says who the
    members are: the shell builds the others, once per configuration, and fills them in on the way to the kernel."""
    row_key: Secret | None = None
    """What rows and row hashes are drawn from, the same on all balancers of the PoP; None: from the plan and the id."""
    longest_sa_s: float = 86400.0
    """How long an id rests after its backend was taken out: no SA that carries it lives longer."""
    fleet: FleetSettings | None = None
    """Whom it asks before it withdraws; None: nobody."""
    remote_api: RemoteApi | None = None
    """Where and for whom the operator API is beyond this host; None: the unix socket only."""
    load_timing: LoadTiming = field(default_factory=LoadTiming)
    load: LoadSettings | None = None
    """How load moves announcements; None: not at all."""
    capacity: Amounts | None = None
    """What the PoP as a whole can carry, whatever its backends can: an uplink, a host before them. None: no limit."""
    start_without_state: bool = False
    """Serve although the state file is corrupt. Off: a forgotten withdraw is worse than a late start."""

    @property
    def spi_plan(self) -> SpiPlan | None:
        """Return the plan that new SAs follow."""
        return self.spi_plans[0] if self.spi_plans else None

    @property
    def labelling(self) -> Labelling | None:
        """Return what labels say of this PoP; None: nothing is steered by them."""
        return Labelling(pop=self.id, plans=self.spi_plans) if self.tables and self.spi_plans else None
