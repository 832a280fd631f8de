"""The fleet as the model knows it: PoPs with places and capacities, sessions with upstreams, regions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from topology.announce import Announcement, Plan, Relation
from topology.demand import Profile
from topology.keys import MOST_PREPENDS

_EARTH_RADIUS_KM = 6371.0
FAR_KM = 20_000
"""Half the way around: the distance where a place is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A point on the globe."""

    latitude_deg: float
    longitude_deg: float


def distance_km(one: Place, other: Place) -> int:
    """Return the great-circle distance, rounded, so that equal inputs give equal choices on every machine."""
    lat1, lat2 = math.radians(one.latitude_deg), math.radians(other.latitude_deg)
    half_lat = (lat2 - lat1) / 2
    half_lon = math.radians(other.longitude_deg - one.longitude_deg) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin(half_lon) ** 2
    return round(2 * _EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a PoP can carry. All positive."""

    sessions: int
    bit_s: int
    handshakes_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pop:
    """One PoP."""

    name: str
    region: str
    capacity: Capacity
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One BGP session of a PoP with an upstream, and what it carries when nothing is wrong."""

    name: str
    pop: int
    """Index into the fleet's PoPs."""
    upstream: int
    """AS number."""
    relation: Relation
    announcement: Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The whole fleet, in a fixed order that plans and results refer to."""

    asn: int
    pops: tuple[Pop, ...]
    sessions: tuple[Session, ...]
    regions: Mapping[str, Place] = field(default_factory=dict)
    """Where the users of a region are, on average."""
    name: str = ""
    """As the agents' configuration calls the fleet; empty where nothing depends on it."""
    profile: Profile = field(default_factory=Profile)
    """What a session costs its PoP."""

    def plan(self) -> Plan:
        """Return what is announced when nothing is wrong."""
        return tuple(session.announcement for session in self.sessions)

    def pop_named(self, name: str) -> int:
        """Return the index of a PoP. Raises `KeyError` with the name."""
        for index, pop in enumerate(self.pops):
            if pop.name == name:
                return index
        raise KeyError(name)

    def distance_km(self, region: str, pop: int) -> int:
        """Return how far users of a region are from a PoP; 0 or `FAR_KM` where a place is not known."""
        site = self.pops[pop]
        here = self.regions.get(region)
        there = site.place or self.regions.get(site.region)
        if here is None or there is None:
            return 0 if region == site.region else FAR_KM
        return distance_km(here, there)


def withdraw(fleet: Fleet, plan: Plan, pops: Iterable[int]) -> Plan:
    """Return the plan without any announcement of these PoPs."""
    gone = frozenset(pops)
    return tuple(
        None if session.pop in gone else announcement
        for session, announcement in zip(fleet.sessions, plan, strict=True)
    )


def prepend(fleet: Fleet, plan: Plan, pop: int, times: int, *, upstream: int | None = None) -> Plan:
    """Return the plan with `times` more prepends on a PoP's sessions, or on those with one upstream only.

    They come on top of what a session prepends anyway, as those of the ladder's "depreferred" do.
    """
    return tuple(
        replace(announcement, prepend=min(announcement.prepend + times, MOST_PREPENDS))
        if announcement is not None and session.pop == pop and upstream in (None, session.upstream)
        else announcement
        for session, announcement in zip(fleet.sessions, plan, strict=True)
    )


def announced_pops(fleet: Fleet, plan: Plan) -> frozenset[int]:
    """Return the PoPs that announce to at least one upstream."""
    return frozenset(
        session.pop for session, announcement in zip(fleet.sessions, plan, strict=True) if announcement is not None
    )
