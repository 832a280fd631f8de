"""The balancer as values: the SPI plan, whole wanted tables, what the kernel was seen to hold, packets and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from popctl.model.reason import Reason
    from popctl.model.route import Address

ROWS = 65536
"""Rows of a service."""
KERNEL_DEPTH = 4
"""How many backends of a row the kernel knows: one byte each in the 32-bit mark. Deeper failover is `rescue`."""
MAX_SLOT = 254
"""Largest backend number inside a mark (id + 1); 0 says "none", 255 says "all of them" (replicated ICMP errors)."""


class HashKey(StrEnum):
    """What spreads a packet that neither carries a label nor has an affinity."""

    SPI = "spi"
    """New IKE SAs by initiator SPI, the rest by source address. Needs labelled backends."""
    SOURCE_IP = "source-ip"
    """By source address, for daemons without labels. Uneven behind CGNAT; a client with a new address moves."""
    SOURCE_IP_PORT = "source-ip-port"
    """Breaks IKE's move from UDP 500 to 4500 and every NAT rebind, unless the SAs are labelled."""
    FIVE_TUPLE = "5-tuple"
    """As `SOURCE_IP_PORT`, and ESP goes elsewhere than the IKE that made it."""


class Unmatched(StrEnum):
    """What happens to traffic for a VIP that no other rule has an answer for."""

    DROP = "drop"
    SOURCE = "source"
    """To the backend of the source address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with an inventory: the key it is about, what is wrong, what to do."""

    key: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiPlan:
    """How (PoP id, backend id) becomes IKE label bits and a slice of ESP SPIs; the same in every PoP of a site.

    IKE: the top 32 bits of the 64-bit SPI are `generation:3 | check | pop | backend`. ESP: the 32-bit SPI is
    `esp_base + (pop | backend | sa)`. `popctl.wire.spi` has the arithmetic and the lint.
    """

    site: str
    """Enters the check bits, so that labels of another site are not taken for ours."""
    pop_bits: int = 10
    backend_bits: int = 6
    sa_bits: int = 16
    """Each backend owns 2**sa_bits ESP SPIs."""
    esp_base: int = 0
    generation: int = 0
    """0..6; a new layout takes the next one. 7 (all ones) is the unroutable pattern."""

    def __str__(self) -> str:
        """Return it as it is written in a configuration."""
        numbers = f"pop_bits: {self.pop_bits}, backend_bits: {self.backend_bits}, sa_bits: {self.sa_bits}"
        return f"{{site: {self.site}, {numbers}, esp_base: {self.esp_base:#x}, generation: {self.generation}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """What labels say of a PoP, and so what no two PoPs of a fleet may have alike (id) or unlike (plan)."""

    pop: int
    plans: tuple[SpiPlan, ...]
    """In force together, newest first."""


class EspRange(NamedTuple):
    """ESP SPIs of one owner, both ends included."""

    first: int
    last: int


class LabelPrefix(NamedTuple):
    """What all labels of one plan have in common."""

    value: int
    """Generation and check bits in place."""
    mask: int
    """Which of the top 32 bits of an IKE SPI they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a PoP's balancer matches on, of all plans in force together: no SPI has a meaning in two of them."""

    ike: Mapping[int, int] = field(default_factory=dict)
    """Top 32 bits of an IKE SPI -> backend id."""
    esp: Mapping[EspRange, int] = field(default_factory=dict)
    """Slice -> backend id; slices are disjoint."""
    prefixes: tuple[LabelPrefix, ...] = ()
    """Of each plan: an SPI with one of them and of no backend of ours means a stray from another PoP."""
    esp_plans: tuple[EspRange, ...] = ()
    """All SPIs of each plan: inside one and in no slice of ours means a stray as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Every row is a list of all backends of a service in order of preference."""

    width: int
    """Backends per row."""
    order: bytes
    """Row-major slots (backend id + 1): `order[row * width + rank]`."""

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.order) // self.width if self.width else 0

    @property
    def members(self) -> frozenset[int]:
        """Ids of all backends: every row has them all."""
        return frozenset(self.row(0)) if self.order else frozenset()

    def row(self, number: int) -> tuple[int, ...]:
        """Return the backend ids of one row, most preferred first."""
        return tuple(slot - 1 for slot in self.order[number * self.width : (number + 1) * self.width])


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """How packets get to one backend: through a neighbour on a link of the balancer."""

    name: str
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """Soft memory of where a client's labelled packets went; lost without harm, rebuilt by one labelled packet."""

    timeout_s: int = 600
    size: int = 65536
    """Entries per map; a full map learns nothing new until entries time out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedService:
    """One service on the balancer."""

    name: str
    vips: tuple[Address, ...]
    rows: Rows
    labels: Labels
    seed: int
    """Of the kernel's row hash (32 bits); secret, and the same on all balancers of the PoP."""
    key: HashKey = HashKey.SPI
    affinity: Affinity | None = field(default_factory=Affinity)
    """None only to show what breaks without it."""
    unlabelled: Unmatched = Unmatched.SOURCE
    """IKE and ESP of daemons or SAs without a label."""
    plain_l2tp: bool = False
    """UDP 1701 outside IPsec is forwarded by source address; else dropped and counted."""
    other: Unmatched = Unmatched.DROP
    """Everything that is not IKE, ESP, L2TP or an ICMP error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Where the balancer lives among the host's packet marks, rules and routing tables."""

    base: int = 0x5B000000
    """Top 16 bits of every mark of ours; the low 16 are `reason:8 | slot:8`."""
    table_base: int = 5100
    """Routing table of a backend is this plus its slot."""
    priority: int = 5100
    """Of all our `ip rule` entries; before the main table (32766)."""
    replicate_per_s: int = 100
    """ICMP errors that no one backend can be named for, copied to all, at most this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The whole wanted state of the balancer. Health and drain are small sets beside it, never part of the rows."""

    services: tuple[BalancedService, ...] = ()
    backends: Mapping[int, Forward] = field(default_factory=dict)
    """By backend id."""
    alive: frozenset[int] = frozenset()
    """Backends that may be given something new or remembered; labelled packets follow their label even so."""
    draining: frozenset[int] = frozenset()
    """Backends that get no new SA; what they hold, and re-authentication of what they hold, stays."""
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerActual:
    """What the kernel was last seen to hold."""

    in_force: bool = False
    """All of the wanted state was read back, rules and routes."""
    alive: frozenset[int] = frozenset()
    draining: frozenset[int] = frozenset()
    writes: int = 0
    """Transactions since the start of this process; stays 0 when a restart finds all as it should be."""
    elements_changed: int = 0
    drift_repairs: int = 0
    """How often somebody else's change to our tables, rules or routes was put right."""
    problem: str = ""
    """Why it is not in force, for people."""


class AffinityMap(StrEnum):
    """Which memory an affinity is in."""

    ADDRESS_PORT = "address-port"
    """From labelled packets to UDP 4500: one client, even behind CGNAT."""
    ADDRESS = "address"
    """From native ESP: the address is the client's own, for ESP without UDP does not pass a NAT shared by many."""
    SOURCE = "source"
    """From traffic spread by source address, so that a drain does not move it."""


class AffinityKey(NamedTuple):
    """One remembered client."""

    map: AffinityMap
    service: str
    address: bytes
    """Network byte order; with a port, an IPv6 address lacks its third 32-bit word (see `popctl.wire.nft_service`)."""
    port: bytes = b""


class Learnt(NamedTuple):
    """What the balancer remembers from one packet."""

    key: AffinityKey
    backend: int
    replaces: bool
    """IKE says where the client is now; ESP may be of an old SA, so it only fills a gap or keeps an entry alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """An IP packet as the balancer sees it at prerouting, reassembled."""

    version: int
    source: Address
    destination: Address
    protocol: int
    """Of the transport header, after IPv6 extension headers."""
    network: bytes
    """From the first byte of the IP header."""
    transport_offset: int
    """Where the transport header starts in `network`."""

    @property
    def transport(self) -> bytes:
        """Everything from the transport header on."""
        return self.network[self.transport_offset :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """Where one packet goes, and why."""

    reason: Reason
    service: str | None = None
    backend: int | None = None
    """None: dropped, replicated, or not ours."""
    rule: str = ""
    """Name of the rule that settled it, as in the comment of `nft list`."""
    row: int | None = None
    rank: int | None = None
    """Which entry of the row took it; above 0 when the preferred backends are down or draining."""
    learns: tuple[Learnt, ...] = ()
    why: tuple[str, ...] = ()
    """The way through the rules, for people."""
