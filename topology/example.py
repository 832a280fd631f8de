"""A fleet for a synthetic Internet, so that everything can be tried without data of one's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from topology.announce import Announcement, Relation
from topology.attach import attach
from topology.bounds import MOST_BIT_S, MOST_HANDSHAKES_S, MOST_SESSIONS
from topology.catchment import catchment, loads
from topology.demand import DEFAULT_SEED, HEADROOM_PERCENT, Profile, fitted
from topology.fleet import Capacity, Fleet, Place, Pop, Session
from topology.generate import REGIONS
from topology.model import Model

if TYPE_CHECKING:
    from topology.engine import Engine
    from topology.flat import FlatGraph

NAME: Final = "example"
ASN: Final = 4_200_000_000
"""Of the operator: private use (RFC 6996), so no synthetic AS has it."""
_FEWEST_CUSTOMERS: Final = 20
MOST_USERS: Final = MOST_SESSIONS * 100 // HEADROOM_PERCENT
"""That a fleet is made for: one PoP may get them all, and its capacity stays in bounds."""
_SPREAD_DEG: Final = 12.0


def example_fleet(graph: FlatGraph, *, pops: int, upstreams: int, sessions: int, seed: int, engine: Engine) -> Fleet:
    """Return a fleet.

    Each PoP has transit from `upstreams` ASes, those of its region and of some size first, and half as much again
    capacity as the model says it needs for `sessions` users.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    sizes = np.diff(graph.links.customers.ptr)
    names = list(REGIONS)
    region_of = [graph.regions[index] for index in random.choice(len(graph.regions), size=pops)]
    entries = []
    links = []
    for pop, region in enumerate(region_of):
        at = REGIONS[region] if region in names else Place(latitude_deg=0.0, longitude_deg=0.0)
        north, east = random.uniform(-_SPREAD_DEG, _SPREAD_DEG, 2).round(2)
        place = Place(latitude_deg=at.latitude_deg + float(north), longitude_deg=at.longitude_deg + float(east))
        entries.append(Pop(name=f"pop{pop + 1:03}", region=region, place=place, capacity=_UNLIMITED))
        local = graph.region == graph.regions.index(region)
        fitting = np.flatnonzero(local & (sizes >= _FEWEST_CUSTOMERS))
        # A small Internet may lack transit of that size in a region: then the largest of all will do.
        if len(fitting) < upstreams:
            fitting = np.argsort(-sizes, kind="stable")[: max(upstreams, 10)]
        chosen = random.choice(fitting, size=min(upstreams, len(fitting)), replace=False)
        links += [(pop, int(graph.asn[node])) for node in sorted(chosen)]
    fleet = Fleet(
        asn=ASN,
        pops=tuple(entries),
        sessions=tuple(
            Session(
                name=f"{entries[pop].name}-as{asn}",
                pop=pop,
                upstream=asn,
                relation=Relation.TRANSIT,
                announcement=Announcement(),
            )
            for pop, asn in links
        ),
        regions=REGIONS,
        name=NAME,
    )
    return _sized(graph, fleet, sessions, engine)


_UNLIMITED = Capacity(sessions=MOST_SESSIONS, bit_s=MOST_BIT_S, handshakes_s=MOST_HANDSHAKES_S)


def _sized(graph: FlatGraph, fleet: Fleet, sessions: int, engine: Engine) -> Fleet:
    """Give every PoP half as much again as it needs, and room for its neighbours' sessions to come back."""
    model, profile = Model(attach(graph, fleet), engine), Profile()
    demand = fitted(graph, sessions, DEFAULT_SEED)
    need, _ = loads(demand, catchment(model, demand, model.solve(fleet.plan())), len(fleet.pops), profile)
    floor = max(1, sessions // (10 * len(fleet.pops)))
    pops = []
    for pop, load in zip(fleet.pops, need, strict=True):
        room = max(floor, load.sessions * HEADROOM_PERCENT // 100)
        capacity = Capacity(
            sessions=room,
            bit_s=room * profile.bit_s_per_session,
            handshakes_s=max(1, room // profile.reconnect_window_s),
        )
        pops.append(replace(pop, capacity=capacity))
    return replace(fleet, pops=tuple(pops))
