"""A slow and obvious model of BGP on an AS graph, written from the rules and not from the engine.

Every AS is an object that keeps what each neighbour told it last. ASes tell each other in rounds until nobody has
anything new to say. Tied routes are all kept; one neighbour hears the best that any of them may tell it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from topology.announce import Action, Announcement, LocalPref, Neighbors, Relation

if TYPE_CHECKING:
    from topology.announce import Plan
    from topology.fleet import Fleet
    from topology.links import AsLinks

CUSTOMER, PEER, PROVIDER = 0, 1, 2
AS_SEEN_BY_LISTENER = {Neighbors.PROVIDERS: CUSTOMER, Neighbors.PEERS: PEER, Neighbors.CUSTOMERS: PROVIDER}


@dataclass(frozen=True)
class Heard:
    """The best that one neighbour has told: where it leads, tied or not."""

    route_class: int
    length: int
    pops: frozenset[int]
    teller: int


@dataclass
class As:
    """One AS."""

    asn: int
    region: str | None
    neighbors: dict[int, Neighbors] = field(default_factory=dict)
    heard: dict[int, Heard] = field(default_factory=dict)
    own: list[tuple[int, Announcement]] = field(default_factory=list)
    own_rank: tuple[int, int] | None = None

    def learned(self) -> tuple[int, int] | None:
        return min(((route.route_class, route.length) for route in self.heard.values()), default=None)

    def best(self) -> tuple[int, int] | None:
        return min((rank for rank in (self.own_rank, self.learned()) if rank is not None), default=None)

    def pops(self) -> frozenset[int]:
        best, found = self.best(), frozenset[int]()
        if best is not None and self.own_rank == best:
            found |= {pop for pop, _ in self.own}
        return found.union(*(route.pops for route in self.heard.values() if (route.route_class, route.length) == best))

    def first_choice(self) -> int | None:
        """Return the neighbour that is preferred among equals, itself for an own session."""
        best = self.best()
        if best is None or self.own_rank == best:
            return None if best is None else self.asn
        return min(r.teller for r in self.heard.values() if (r.route_class, r.length) == best)

    def tells(self, asn: int, listener: As) -> Heard | None:
        kind, best = self.neighbors[asn], self.best()
        if best is None or (best[0] != CUSTOMER and kind is not Neighbors.CUSTOMERS):
            return None
        length, pops = best[1] + 1, self.pops()
        if self.own_rank == best and (self.learned() is None or self.learned() > best):
            offers = [(extra(one, kind, listener), pop) for pop, one in self.own]
            open_offers = [(times, pop) for times, pop in offers if times is not None]
            if not open_offers:
                return None
            least = min(times for times, _ in open_offers)
            length, pops = length + least, frozenset(pop for times, pop in open_offers if times == least)
        return Heard(AS_SEEN_BY_LISTENER[kind], length, pops, self.asn)


def extra(announcement: Announcement, kind: Neighbors, listener: As) -> int | None:
    """Return the prepends towards one neighbour; None when it is not told."""
    if announcement.no_export:
        return None
    times = [action.prepend for action in announcement.actions if matches(action, kind, listener)]
    return None if None in times else max((one for one in times if one is not None), default=0)


def matches(action: Action, kind: Neighbors, listener: As) -> bool:
    return (
        action.asn in {None, listener.asn}
        and action.neighbors in {None, kind}
        and action.region in {None, listener.region}
    )


def build(links: AsLinks) -> dict[int, As]:
    regions = [None if index < 0 else links.regions[index] for index in links.region.tolist()]
    ases = {asn: As(asn, region) for asn, region in zip(links.asns.tolist(), regions, strict=True)}
    for left, right in links.asns[links.peering].tolist():
        ases[left].neighbors[right] = Neighbors.PEERS
        ases[right].neighbors[left] = Neighbors.PEERS
    for provider, customer in links.asns[links.transit].tolist():
        ases[provider].neighbors[customer] = Neighbors.CUSTOMERS
        ases[customer].neighbors[provider] = Neighbors.PROVIDERS
    return ases


def solve(links: AsLinks, fleet: Fleet, plan: Plan) -> dict[int, As]:
    """Return every AS as it is when nobody has anything new to say."""

    def lowered(index: int) -> bool:
        one = plan[index]
        usual = LocalPref.PEER if fleet.sessions[index].relation is Relation.PEER else LocalPref.CUSTOMER
        return one is not None and one.local_pref > usual

    first = settle(links, fleet, plan, {index for index in range(len(plan)) if not lowered(index)})
    used = {index for index in range(len(plan)) if not lowered(index)}
    for index in range(len(plan)):
        one = plan[index]
        if one is not None and lowered(index):
            best = first[fleet.sessions[index].upstream].best()
            if best is None or (int(one.local_pref), 1 + one.prepend) <= best:
                used.add(index)
    return settle(links, fleet, plan, used)


def settle(links: AsLinks, fleet: Fleet, plan: Plan, used: set[int]) -> dict[int, As]:
    ases = build(links)
    for asys in ases.values():
        give_own(asys, fleet, plan, used)
    busy = True
    while busy:
        busy = False
        said = {(asys.asn, other): asys.tells(other, ases[other]) for asys in ases.values() for other in asys.neighbors}
        for (teller, listener), route in said.items():
            if ases[listener].heard.get(teller) != route:
                busy = True
                if route is None:
                    del ases[listener].heard[teller]
                else:
                    ases[listener].heard[teller] = route
    return ases


def give_own(asys: As, fleet: Fleet, plan: Plan, used: set[int]) -> None:
    ranked = []
    for index, session in enumerate(fleet.sessions):
        one = plan[index]
        if session.upstream == asys.asn and one is not None and index in used:
            rank = (PEER if session.relation is Relation.PEER else CUSTOMER, 1 + one.prepend, one.med)
            ranked.append((rank, session.pop, one))
    if ranked:
        best = min(rank for rank, _, _ in ranked)
        asys.own = [(pop, one) for rank, pop, one in ranked if rank == best]
        asys.own_rank = best[:2]


def nearest(fleet: Fleet, region: str, pops: frozenset[int]) -> int | None:
    return min(pops, key=lambda pop: (fleet.distance_km(region, pop), pop), default=None)
