"""Load as values: what backends and PoPs use of what they have. Absent always means unknown, never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from popctl.model.instant import Instant
from popctl.model.reason import Reason


class Resource(StrEnum):
    """What a VPN server can run out of. The value names the unit; all of them add up over backends."""

    SESSIONS = "sessions"
    """Users that are connected: established IKE SAs, or L2TP sessions where there are more of those."""
    HANDSHAKES = "handshakes_s"
    """IKE exchanges with Diffie-Hellman per second: first contacts and rekeys of IKE SAs."""
    BITS = "bit_s"
    """The busier direction of the host's links."""
    PACKETS = "packet_s"
    """Both directions."""
    CPU = "cpu_cores"
    """Cores kept busy by user, system and softirq time."""
    ADDRESSES = "addresses"
    """Leases of the address pools."""

    # The one of Enum is a Python function, and these are the keys of every sum over a fleet.
    __hash__ = str.__hash__


Amounts: TypeAlias = Mapping[Resource, float]
"""So much of each resource. In what is used an absent resource is unknown; in a capacity it is unlimited."""

NOTHING_KNOWN: Amounts = MappingProxyType({})

Row: TypeAlias = tuple[float, ...]
"""One figure for every `Resource`, in its order: what columns over a fleet are added up from."""

_RESOURCES = tuple(Resource)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One class of traffic of a backend."""

    sessions: int
    bit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficClasses:
    """Sessions by what they move: a few bulk users fill a link long before sessions are many."""

    interactive: Share
    bulk: Share


class Symptom(StrEnum):
    """Something that a meter takes for overload by itself, without knowing any capacity."""

    NO_IDLE_WORKER = "no-idle-worker"
    """Every thread of the IKE daemon is busy: the next message waits."""
    JOBS_QUEUED = "jobs-queued"
    CONNTRACK_FULL = "conntrack-full"
    LINK_DROPS = "link-drops"
    SOFTIRQ_SATURATED = "softirq-saturated"
    """A core does nothing but interrupts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSample:
    """What one look at one backend's meter gave."""

    backend: int
    at: Instant
    used: Amounts
    unknown: Mapping[Resource, Reason] = field(default_factory=dict)
    """Why a resource is absent from `used`."""
    classes: TrafficClasses | None = None
    symptoms: tuple[Symptom, ...] = ()
    refused_ike: int | None = None
    """IKE messages for SAs that the daemon does not have, since it started; None: not told."""
    refused_esp: int | None = None
    """ESP packets for SAs that the kernel does not have, since boot; None: not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One resource of one backend over time."""

    smooth: float
    """EWMA."""
    peak: float
    """The highest value, fading."""
    latest: float
    """What the last look gave."""
    at: Instant
    """When it was last known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendLoad:
    """All that is remembered of a backend's load from sample to sample."""

    tracks: Mapping[Resource, Track] = field(default_factory=dict)
    unknown: Mapping[Resource, Reason] = field(default_factory=dict)
    """Why the latest sample lacked a resource."""
    classes: TrafficClasses | None = None
    """Of the latest sample; None: it did not tell."""
    symptoms: tuple[Symptom, ...] = ()
    """Of the latest sample."""
    at: Instant = -math.inf
    """When the latest sample was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTiming:
    """How samples become a load."""

    smoothing_s: float = 15.0
    """Time constant of the EWMA."""
    peak_half_life_s: float = 120.0
    stale_after_s: float = 10.0
    """A resource not heard of for so long is unknown: two intervals of the meter."""
    look_after_s: float = 4.0
    """Samples start a decision no more often than this: once per interval of the meter, however many backends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tightness:
    """How full something is, by the tightest of its limited resources."""

    at_least: float
    """Used by capacity, 1.0 is full. What is unknown can only add to it."""
    resource: Resource | None
    """The tightest; None when nothing is known or limited."""
    missing: Reason | None = None
    """Why `at_least` may be too low; None: it is exact."""

    @property
    def exact(self) -> bool:
        """Every limited resource is known."""
        return self.missing is None


@dataclass(frozen=True, slots=True, kw_only=True)
class PopLoad:
    """One PoP in the fleet's view, as it last said of itself."""

    level: int
    """Where it stands on its ladder of levels; 0 is normal."""
    announcing: bool
    """It announces to at least one upstream."""
    used: Amounts
    peak: Amounts
    """What receivers are judged by: at least `used`."""
    capacity: Amounts
    at: Instant
    """When this was heard, on the reader's clock, less the age that it had then."""
    settling: bool = False
    """Its last load-driven step is not verified yet: nobody else may move load to or from it."""
    room_carried: Row = field(init=False, repr=False, compare=False)
    """Two rows in one: `capacity`, infinite where there is no limit; then `used`, which counts as all of the capacity
    where it is not known, and as 0 where it is not limited either."""
    room_demand: Row = field(init=False, repr=False, compare=False)
    """The same capacity, then the larger of `used` and `peak`: infinite where it is not known."""

    def __post_init__(self) -> None:
        """Lay out the rows once: whoever adds up a thousand PoPs has no time to look each figure up."""
        used, peak, room = self.used, self.peak, self.capacity
        limits = tuple([room.get(one, math.inf) for one in _RESOURCES])
        demand = tuple([max(used[one], peak.get(one, 0.0)) if one in used else math.inf for one in _RESOURCES])
        carried = tuple([used[one] if one in used else room.get(one, 0.0) for one in _RESOURCES])
        object.__setattr__(self, "room_carried", limits + carried)
        object.__setattr__(self, "room_demand", limits + demand)

    @property
    def room_full(self) -> Row:
        """`room_carried` of a PoP of which nothing is known."""
        full = tuple([self.capacity.get(one, 0.0) for one in _RESOURCES])
        return self.room_carried[: len(_RESOURCES)] + full


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLoad:
    """The load of all PoPs, the own one included, as one PoP sees it."""

    fleet: str
    """Which fleet."""
    pops: Mapping[str, PopLoad]
    at: Instant
    """When the store last confirmed this view."""
    silent: frozenset[str] = frozenset()
    """PoPs that are members and do not tell their load. They count as not fresh, and no reserve is seen beside them."""
