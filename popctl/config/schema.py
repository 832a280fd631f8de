"""The shape of the configuration: one model per mapping of the file, one description per key.

Shape only: what concerns two values at once is in `checks_*.py`. Defaults are in `defaults.py`.
docs/configuration.md is generated from this module.
"""

from typing import Literal

from pydantic import Field

from popctl.config import defaults
from popctl.config.fields import (
    Address,
    Asn,
    Community,
    Duration,
    HoldTime,
    Label,
    LargeCommunity,
    LeaseTime,
    Name,
    Prefix,
    RouterId,
    Share,
)
from popctl.config.locators import AbsolutePath, SecretFile, SocketPath, Vici
from popctl.config.schema_api import Api
from popctl.config.schema_balancer import Balancer, Forward, ServiceBalancer, Sizes, SpiPlan
from popctl.config.schema_capacity import Capacity, Load
from popctl.config.schema_fleet import Fleet
from popctl.config.schema_probes import Port, Probes, ProbeSet, Profile, Section

MAX_POP_ID = 1023
MAX_BACKEND_ID = 255
"""The label in an SPI has 8 bits for the backend; 0 means "none"."""

FamilyName = Literal["ipv4", "ipv6"]


class Identity(Section):
    """Who this PoP is."""

    id: int = Field(ge=1, le=MAX_POP_ID, description="Number of this PoP, unique in the fleet and permanent.")
    name: Name = Field(description="Name of this PoP in commands, logs and metrics.")
    location: Label = Field(default="", description="Where it is, for people.")
    asn: Asn = Field(description="Own AS number.")
    router_id: RouterId = Field(description="BGP identifier, unique in the AS (RFC 6286).")
    capacity: Capacity | None = Field(
        default=None,
        description="What all backends share: an uplink, a host before them. The tightest of this and their sum wins.",
    )


class NextHops(Section):
    """The next hop per address family."""

    ipv4: Address | None = Field(default=None, description="Next hop of IPv4 routes, an IPv4 address.")
    ipv6: Address | None = Field(default=None, description="Next hop of IPv6 routes, an IPv6 address.")


class StateAttributes(Section):
    """Path attributes in one state of the announce ladder. A key that is left out gets the default of that state."""

    med: int | None = Field(default=None, ge=0, le=0xFFFFFFFF, description="MULTI_EXIT_DISC; lower attracts more.")
    prepend: int | None = Field(
        default=None, ge=0, le=16, description="How often the own ASN is repeated beyond the one that eBGP adds."
    )
    local_preference: int | None = Field(
        default=None, ge=0, le=0xFFFFFFFF, description="LOCAL_PREF, iBGP only; higher attracts more."
    )
    communities: list[Community] | None = Field(default=None, description="Standard communities.")
    large_communities: list[LargeCommunity] | None = Field(default=None, description="Large communities.")


class Ladder(Section):
    """Path attributes per state of the announce ladder."""

    normal: StateAttributes = Field(default=StateAttributes(), description="The service is well.")
    depreferred: StateAttributes = Field(
        default=StateAttributes(), description="Other PoPs are preferred; this one still takes what comes."
    )
    graceful_shutdown: StateAttributes = Field(
        default=StateAttributes(), description="About to be withdrawn; 65535:0 (RFC 8326) is always added."
    )


class Neighbor(Section):
    """One BGP session to an upstream router."""

    address: Address = Field(description="Address of the neighbour.")
    local_address: Address = Field(description="Own address of the session, of the same family.")
    asn: Asn = Field(description="AS number of the neighbour; the own one makes the session iBGP.")
    families: list[FamilyName] = Field(min_length=1, description="Unicast address families to negotiate.")
    next_hops: NextHops = Field(description="Next hop for every family; there is no `next-hop self`.")
    md5_file: SecretFile | None = Field(
        default=None,
        description="File with the TCP MD5 key (RFC 2385), at most 80 characters, no quotation marks or backslashes.",
    )
    ttl_security: int | None = Field(
        default=None,
        ge=1,
        le=254,
        description="The neighbour is at most this many hops away (RFC 5082); null: not checked.",
    )
    hold_time: HoldTime = Field(
        default=defaults.HOLD_TIME_S, description="Proposed hold time: 0 or at least 3 s (RFC 4271 section 4.2)."
    )
    port: Port = Field(default=defaults.BGP_PORT, description="TCP port of the neighbour.")
    passive: bool = Field(default=False, description="Wait for the neighbour to connect.")
    attributes: Ladder = Field(default=Ladder(), description="Path attributes per state of the announce ladder.")


class Service(Section):
    """One anycast service."""

    prefixes: list[Prefix] = Field(min_length=1, description="Announced exactly while enough backends work.")
    backends: list[Name] | None = Field(
        default=None, min_length=1, description="Names of the backends that carry it; null: all of them."
    )
    minimum_healthy: int = Field(
        default=defaults.MINIMUM_HEALTHY, description="Backends that must work, from 1 to the number of backends."
    )
    drain_keeps: Share = Field(
        default=0, description="Share of the weights that a drain must leave; `minimum_healthy` holds besides."
    )
    balancer: ServiceBalancer | None = Field(
        default=None, description="How this host spreads the service; null: something else does."
    )


class Allowlist(Section):
    """All that may ever leave the PoP. The agent and the relay check every route against it."""

    prefixes: list[Prefix] = Field(min_length=1, description="Exact prefixes; a more specific one is not covered.")
    next_hops: list[Address] = Field(min_length=1, description="Next hops.")
    communities: list[Community] = Field(default=[], description="Standard communities; 65535:0 is always allowed.")
    large_communities: list[LargeCommunity] = Field(default=[], description="Large communities.")


class Meter(Section):
    """Where the `popctl meter` of a backend listens: a unix socket, or TCP with mutual TLS."""

    socket: SocketPath | None = Field(default=None, description="Unix socket, for a backend on this host.")
    host: Label | None = Field(default=None, description="Name or address of it; its certificate must be for this.")
    port: Port | None = Field(default=None, description="TCP port.")
    ca: AbsolutePath | None = Field(default=None, description="Certificate of the authority that signed the meter's.")
    certificate: AbsolutePath | None = Field(default=None, description="Own certificate.")
    key: AbsolutePath | None = Field(
        default=None, description="File with its key (PEM, not encrypted); no access for other users."
    )


class Backend(Section):
    """One VPN server of the PoP."""

    id: int = Field(
        ge=1, le=MAX_BACKEND_ID, description="Permanent: the SPIs of its clients carry it. Never reuse one."
    )
    name: Name = Field(description="Name in services, commands, logs and metrics.")
    address: Address = Field(description="Its own address, not the anycast one: where it is probed and traffic goes.")
    weight: int = Field(default=defaults.WEIGHT, ge=1, le=1000, description="Share of new clients, relative to others.")
    profile: Name = Field(default=defaults.PROFILE, description="Profile that sets the pace of its probes.")
    probes: Probes = Field(description="Name of a probe set, or a list of probes. All must pass.")
    forward: Forward = Field(default=Forward(), description="Next hops of the balancer, per address family.")
    vici: Vici | None = Field(
        default=None, description="Where its charon is asked for SAs, and ends them after a drain; null: not asked."
    )
    meter: Meter | None = Field(
        default=None, description="Where its load is read and the death of its daemons is told; null: nowhere."
    )
    capacity: Capacity | None = Field(default=None, description="What it can carry; null: nobody knows.")


class Timing(Section):
    """How fast a service may come, go and come back."""

    warm_up: Duration = Field(
        default=defaults.WARM_UP_S, description="Healthy without a break this long before the first announce."
    )
    unknown_hold: Duration = Field(
        default=defaults.UNKNOWN_HOLD_S,
        description='How long "unknown" keeps what is announced before it counts as down.',
    )
    hold_down: Duration = Field(
        default=defaults.HOLD_DOWN_S,
        description="First hold-down after a flap; doubles with each one in `flap_window`.",
    )
    hold_down_max: Duration = Field(default=defaults.HOLD_DOWN_MAX_S, description="Longest hold-down.")
    flap_window: Duration = Field(default=defaults.FLAP_WINDOW_S, description="How long a flap is remembered.")
    stop_drain: Duration = Field(
        default=defaults.STOP_DRAIN_S, description="Graceful shutdown for this long before the agent stops."
    )
    convergence: Duration = Field(
        default=defaults.CONVERGENCE_S,
        description="A drain lasts at least this long, even with no session left: routers turn away.",
    )


class Lease(Section):
    """What the relay does when the agent falls silent."""

    duration: LeaseTime = Field(default=defaults.LEASE_S, description="Silence of the agent that ends the lease.")
    on_expiry: Literal["withdraw", "hold"] = Field(
        default="withdraw", description="`hold` keeps the routes although the agent is gone (fail static)."
    )


class State(Section):
    """What the agent does about its own memory."""

    on_corrupt: Literal["stay_out", "serve"] = Field(
        default="stay_out", description="With an unreadable state file: announce nothing, or forget orders and serve."
    )


class Paths(Section):
    """Where the agent meets the host."""

    relay_socket: SocketPath = Field(default=defaults.RELAY_SOCKET, description="Unix socket of the relay.")
    api_socket: SocketPath = Field(default=defaults.API_SOCKET, description="Unix socket of the operator API.")
    state_file: AbsolutePath = Field(default=defaults.STATE_FILE, description="Orders of operators; outlives restarts.")
    journal: AbsolutePath | None = Field(default=defaults.JOURNAL, description="Log of decisions; null: none.")


class Document(Section):
    """The whole file."""

    pop: Identity = Field(description="Who this PoP is.")
    neighbors: list[Neighbor] = Field(min_length=1, description="BGP sessions.")
    services: dict[Name, Service] = Field(min_length=1, description="Anycast services by name.")
    allowlist: Allowlist = Field(description="All that may ever leave the PoP.")
    backends: list[Backend] = Field(min_length=1, description="VPN servers.")
    probes: dict[Name, ProbeSet] = Field(default={}, description="Probe sets by name.")
    profiles: dict[Name, Profile] = Field(default={}, description="Own profiles by name.")
    spi_plan: SpiPlan | None = Field(default=None, description="How SPIs name PoP and backend; null: they do not.")
    sizes: Sizes = Field(default=Sizes(), description="What the SPI plan must have room for.")
    balancer: Balancer = Field(default=Balancer(), description="Where the balancer lives on this host.")
    timing: Timing = Field(default=Timing(), description="How fast a service may come, go and come back.")
    lease: Lease = Field(default=Lease(), description="What the relay does when the agent falls silent.")
    state: State = Field(default=State(), description="What the agent does about its own memory.")
    paths: Paths = Field(default=Paths(), description="Where the agent meets the host.")
    load: Load | None = Field(default=None, description="How load moves announcements; null: not at all.")
    api: Api | None = Field(
        default=None, description="The operator API over TCP with mutual TLS; null: the unix socket only."
    )
    fleet: Literal["none"] | Fleet = Field(default="none", description="Shared view with other PoPs; `none`: alone.")
