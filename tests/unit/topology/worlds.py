"""Random small Internets, fleets and plans, as hypothesis strategies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from topology.announce import Action, Announcement, LocalPref, Neighbors, Plan, Relation
from topology.fleet import Capacity, Fleet, Place, Pop, Session
from topology.links import AsLinks, links_from_pairs

REGIONS = {
    "east": Place(latitude_deg=0, longitude_deg=90),
    "middle": Place(latitude_deg=0, longitude_deg=0),
    "west": Place(latitude_deg=0, longitude_deg=-90),
}
CAPACITY = Capacity(sessions=1000, bit_s=10**9, handshakes_s=100)


def graph(
    transit: list[tuple[int, int]],
    peering: list[tuple[int, int]] = (),
    lone: Iterable[int] = (),
    region_of: dict[int, str] | None = None,
) -> AsLinks:
    """Build links from literal pairs."""
    rows = [np.array(pairs, dtype=np.int64).reshape(-1, 2) for pairs in (transit, peering)]
    return links_from_pairs(*rows, lone=lone, region_of=region_of)


def fleet(*sessions: tuple[int, int] | tuple[int, int, Relation], regions: tuple[str, ...] = ("east",) * 9) -> Fleet:
    """Build a fleet from (PoP, upstream[, relation]); PoPs are numbered, at the place of their region."""
    rows = [(*one, Relation.TRANSIT)[:3] for one in sessions]
    pops = max(pop for pop, _, _ in rows) + 1
    return Fleet(
        asn=64500,
        pops=tuple(Pop(name=f"pop{i}", region=regions[i], capacity=CAPACITY) for i in range(pops)),
        sessions=tuple(
            Session(name=f"s{i}", pop=pop, upstream=asn, relation=relation, announcement=Announcement())
            for i, (pop, asn, relation) in enumerate(rows)
        ),
        regions=REGIONS,
    )


@st.composite
def links(draw: st.DrawFn, most: int = 9) -> AsLinks:
    """Draw a graph without provider cycles whose AS numbers say nothing about who is above whom."""
    count = draw(st.integers(1, most))
    asns = draw(st.permutations(range(1, count + 1)))
    kinds = st.sampled_from(["", "", "down", "peer"])
    transit, peering = [], []
    for high in range(count):
        for low in range(high + 1, count):
            match draw(kinds):
                case "down":
                    transit.append((asns[high], asns[low]))
                case "peer":
                    peering.append((asns[high], asns[low]))
    named = {asn: draw(st.sampled_from(sorted(REGIONS))) for asn in asns if draw(st.booleans())}
    return graph(transit, peering, lone=asns, region_of=named)


actions = st.builds(
    Action,
    prepend=st.none() | st.integers(1, 2),
    asn=st.none() | st.integers(1, 9),
    neighbors=st.none() | st.sampled_from(Neighbors),
    region=st.none() | st.sampled_from(sorted(REGIONS)),
)
plain = st.builds(Announcement, prepend=st.integers(0, 2), med=st.integers(0, 1))
elaborate = st.builds(
    Announcement,
    prepend=st.integers(0, 2),
    med=st.integers(0, 1),
    no_export=st.sampled_from([False, False, False, True]),
    local_pref=st.sampled_from([LocalPref.CUSTOMER, LocalPref.CUSTOMER, *LocalPref]),
    actions=st.lists(actions, max_size=2).map(tuple),
)


@st.composite
def fleets(draw: st.DrawFn, asns: list[int]) -> Fleet:
    """Draw a fleet on these ASes."""
    pops = draw(st.integers(1, 4))
    places = draw(st.lists(st.sampled_from(sorted(REGIONS)), min_size=pops, max_size=pops))
    sessions = draw(
        st.lists(
            st.tuples(st.integers(0, pops - 1), st.sampled_from(asns), st.sampled_from(Relation)),
            min_size=1,
            max_size=6,
        )
    )
    return fleet((pops - 1, asns[0]), *sessions, regions=tuple(places))


def plans(one: Fleet, announcements: st.SearchStrategy[Announcement]) -> st.SearchStrategy[Plan]:
    """Draw a plan for a fleet."""
    entry = st.none() | announcements
    return st.tuples(*[entry for _ in one.sessions])


@dataclass(frozen=True, kw_only=True)
class World:
    """A graph, a fleet on it and plans of that fleet."""

    links: AsLinks
    fleet: Fleet
    plans: list[Plan]


@st.composite
def worlds(draw: st.DrawFn, announcements: st.SearchStrategy[Announcement], count: int = 1) -> World:
    """Draw a world with `count` plans."""
    drawn = draw(links())
    one = draw(fleets(drawn.asns.tolist()))
    return World(links=drawn, fleet=one, plans=[draw(plans(one, announcements)) for _ in range(count)])
