"""What is true: demand, capacity, routes on their way, sessions that wait for a handshake. Decides nothing.

Sessions are counted in thousandths, as whole numbers. A moved session is gone and must connect again; a PoP takes as
many per second as it has handshakes for, the rest wait. Users of an overloaded PoP stay connected and get too little:
the meter sees them all, and what is above the room of its tightest resource counts as lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from popctl.core import damping
from topology.simulation.curves import UNIT, factors
from topology.simulation.room import rooms
from topology.simulation.routing import Routing
from topology.simulation.streams import Streams

if TYPE_CHECKING:
    from topology.announce import Announcement, Plan
    from topology.demand import Demand, Profile
    from topology.flat import Longs
    from topology.fleet import Fleet
    from topology.model import Model
    from topology.scenario import Scenario
    from topology.simulation.routing import Moves


_AMPLE: Final = 2.0**62
"""More than anybody asks for, and what still has a place in 64 bits."""


class _Settling(NamedTuple):
    """A route on its way. Ordered by time, then by when it was sent."""

    at_s: float
    number: int
    session: int
    route: Announcement | None
    released: bool
    """Not news, but the end of a suppression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one tick amounts to, in thousandths of sessions."""

    offered: Longs
    waiting: Longs
    lost: Longs
    handshakes_s: Longs
    """Done by each PoP, in thousandths."""
    storm: Longs
    """Handshakes per second that were asked for beyond what a PoP can do."""
    unreached: int
    total: int
    moved: int

    @property
    def lost_total(self) -> int:
        """All that is not served: nowhere to go, no handshake yet, or no room."""
        return self.unreached + int(self.lost.sum())

    @property
    def conserved(self) -> bool:
        """Tell whether nothing was lost or made."""
        return int(self.offered.sum()) + self.unreached == self.total


class World:
    """One fleet in one scenario, at one moment."""

    def __init__(self, scenario: Scenario, model: Model, demand: Demand, profile: Profile) -> None:
        fleet: Fleet = model.attachment.fleet
        self.scenario = scenario
        self.fleet = fleet
        self.profile = profile
        self.graph_regions = model.attachment.graph.regions
        self.told: list[Announcement | None] = list(fleet.plan())
        self._settled = list(self.told)
        self._effective = list(self.told)
        self.routing = Routing(model, demand, tuple(self.told))
        self.total_by_region = np.zeros(self.routing.regions, dtype=np.int64)
        np.add.at(self.total_by_region, demand.region, demand.sessions)
        pops = len(fleet.pops)
        self.room: Longs = rooms(fleet, profile)
        self.handshakes_s: Longs = np.array([pop.capacity.handshakes_s for pop in fleet.pops], dtype=np.int64)
        self.alive = np.full(pops, UNIT, dtype=np.int64)
        """Thousandths of the backends that serve."""
        self.unplugged: frozenset[int] = frozenset()
        """Sessions that are down."""
        self.suppressed: set[int] = set()
        self._waiting = np.zeros(pops, dtype=np.int64)
        self.factors = self.factors_at(0.0)
        self._moves: list[Moves] = []
        self._heap: list[_Settling] = []
        self._sent = 0
        self._announcing: frozenset[int] | None = None
        self._last_settled = [0.0] * len(fleet.sessions)
        names = [session.name for session in fleet.sessions]
        self._delays = Streams(scenario.seed, "convergence", names)
        uppers = sorted({session.upstream for session in fleet.sessions})
        draws = Streams(scenario.seed, "damping", map(str, uppers)).uniform(0)
        share = scenario.network.damping_share
        self._damps = {asn for asn, draw in zip(uppers, draws, strict=True) if draw < share}
        self._penalties: dict[int, damping.Penalty] = {}
        self._figures = damping.Figures(announce=1000.0)
        self.suppressions = 0
        self.upsets = 0
        """How often something else than a step for load changed what the fleet announces."""

    def factors_at(self, now_s: float) -> Longs:
        """Return the demand of a moment, in thousandths per region."""
        return factors(self.scenario, self.graph_regions, self.fleet, now_s)

    def tell(self, session: int, route: Announcement | None, now_s: float) -> None:
        """Send news to an upstream; they are everywhere a while later."""
        if self.told[session] == route:
            return
        self.told[session] = route
        self._announcing = None
        self._sent += 1
        network = self.scenario.network
        low, high = network.withdraw_s if route is None else network.announce_s
        delay_s = low + (high - low) * self._delays.one(session, self._sent)
        # News of one session do not overtake each other.
        at_s = max(now_s + delay_s, self._last_settled[session])
        self._last_settled[session] = at_s
        heappush(self._heap, _Settling(at_s, self._sent, session, route, released=False))

    def known_plan(self) -> Plan:
        """Return what the fleet knows that it announces: what was told on sessions that are up."""
        return tuple(None if index in self.unplugged else route for index, route in enumerate(self.told))

    def take_down(self, sessions: frozenset[int]) -> None:
        """Say which sessions are down: what they carry is gone from the Internet. All others carry what was told."""
        if sessions != self.unplugged:
            self.unplugged = sessions
            self._announcing = None
            self.upsets += 1

    def kill(self, pop: int, share: float) -> None:
        """Take away a share of a PoP's backends, of all that it has when nothing is wrong."""
        self.alive[pop] = UNIT - round(UNIT * share)
        if self.alive[pop] == 0:
            self._waiting[pop] = int((self.routing.matrix[pop] * self.factors).sum())

    def _settle_one(self, news: _Settling, now_s: float) -> None:
        session, network = news.session, self.scenario.network
        if news.released:
            self.suppressed.discard(session)
            return
        before, self._settled[session] = self._settled[session], news.route
        if self.fleet.sessions[session].upstream not in self._damps or before == news.route:
            return
        figures = self._figures
        amount = figures.attributes if before and news.route else figures.announce if news.route else figures.withdraw
        penalty = damping.charge(self._penalties.get(session, damping.NONE), amount, news.at_s, figures)
        self._penalties[session] = penalty
        if penalty.value > network.damping_suppress and session not in self.suppressed:
            self.suppressed.add(session)
            self.suppressions += 1
        if session in self.suppressed:
            wait_s = figures.half_life_s * float(np.log2(penalty.value / network.damping_reuse))
            self._heap = [one for one in self._heap if not (one.released and one.session == session)]
            self._heap.sort()
            self._sent += 1
            heappush(self._heap, _Settling(now_s + wait_s, self._sent, session, None, released=True))

    def _settle(self, now_s: float) -> Longs:
        """Let routes settle that have had their time; return who moved between PoPs, in and out, in thousandths."""
        while self._heap and self._heap[0].at_s <= now_s:
            news = heappop(self._heap)
            self._settle_one(news, news.at_s)
        hidden = self.unplugged | self.suppressed
        plan = [None if index in hidden else route for index, route in enumerate(self._settled)]
        pops = len(self.fleet.pops)
        flows = np.zeros((2, pops + 1), dtype=np.int64)
        if plan != self._effective:
            self._effective = plan
            moves = self.routing.settle(tuple(plan))
            amounts = moves.weighted(self.factors)
            np.add.at(flows[0], moves.target, amounts)
            np.add.at(flows[1], moves.source, amounts)
        return flows

    def serve(self, now_s: float) -> Served:
        """Advance to a moment: routes settle, demand changes, sessions move, connect or wait."""
        pops = len(self.fleet.pops)
        before = self.routing.matrix[:pops] @ self.factors
        came, left = self._settle(now_s)
        # Those who wait leave in proportion; at their new PoP they are new anyway.
        for pop in np.flatnonzero((self._waiting > 0) & (left[:pops] > 0)).tolist():
            # Python's numbers: the product of two thousandths is beyond 64 bits.
            self._waiting[pop] -= int(self._waiting[pop]) * int(left[pop]) // max(int(before[pop]), 1)
        factors_now = self.factors_at(now_s)
        offered = self.routing.matrix[:pops] @ factors_now
        grown = np.maximum(offered - self.routing.matrix[:pops] @ self.factors, 0)
        self.factors = factors_now
        wanting = np.minimum(self._waiting + came[:pops] + grown, offered)
        steady = offered // self.profile.handshake_interval_s
        room = np.maximum(self.handshakes_s * self.alive - steady, 0)
        accepted = np.minimum(wanting, np.minimum(room * self.scenario.tick_s, _AMPLE).astype(np.int64))
        self._waiting = wanting - accepted
        asked = wanting // self.profile.reconnect_window_s
        room_left = self.room * self.alive
        return Served(
            offered=offered,
            waiting=self._waiting.copy(),
            lost=self._waiting + np.maximum(offered - self._waiting - room_left, 0),
            handshakes_s=steady + (accepted / self.scenario.tick_s).astype(np.int64),
            storm=np.maximum(asked - room, 0) // UNIT,
            unreached=int(self.routing.matrix[pops] @ factors_now),
            total=int(self.total_by_region @ factors_now),
            moved=int(came.sum()),
        )

    def values(self) -> tuple[object, ...]:
        """Return all parts that never change by themselves, so that copies of the world can share them."""
        routing = self.routing
        routes = {id(one): one for plan in (self.told, self._settled, self._effective) for one in plan}
        news = [one.route for one in self._heap]
        fixed = (self.fleet, self.scenario, self.profile, self._delays, self._damps, self._figures)
        settled = (routing.model, routing.demand, routing.normal, routing.solution, routing.where)
        return (*fixed, *settled, self.room, self.handshakes_s, *routes.values(), *news)

    @property
    def announcing(self) -> frozenset[int]:
        """PoPs that tell at least one upstream that is there."""
        if self._announcing is None:
            self._announcing = frozenset(
                session.pop
                for index, session in enumerate(self.fleet.sessions)
                if self.told[index] is not None and index not in self.unplugged
            )
        return self._announcing
