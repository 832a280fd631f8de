"""PoPs whose load is what their announcements attract: users go where routes are best, and meters tell of it.

The timing is shortened; its proportions are those of the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from popctl.agent.events import LoadRestored, PlaybookChanged
from popctl.model.announce import Announce
from popctl.model.capacity import GatePolicy, LoadMemory, LoadPolicy, LoadSettings, Policies
from popctl.model.load import LoadSample, LoadTiming, Resource
from popctl.model.meter import UnixMeter
from popctl.model.playbook import DEFAULT_LADDER, Flow, Level, Playbook, PlaybookInForce, Step, StepKey
from popctl.model.pop import Pop
from popctl.model.reason import Reason
from tests.pops import backend, ike, pop
from tests.timeline.fleet_story import STEP_S, FleetStory, Resident
from tests.timeline.story import Story

METER_S = 1.0
TIMING = LoadTiming(smoothing_s=0.5, peak_half_life_s=2.0, stale_after_s=2.5, look_after_s=0.8)
POLICIES = Policies(
    load=LoadPolicy(hot_for_s=3.0, dwell_s=5.0, restore_dwells=3.0, backoff_s=10.0, backoff_max_s=60.0),
    gate=GatePolicy(view_stale_after_s=6.0, minimum_gain_sessions=1.0),
)


def steered(
    bare: Pop, *, capacity: float = 100.0, policies: Policies = POLICIES, ladder: tuple[Level, ...] = DEFAULT_LADDER
) -> Pop:
    """Return a PoP whose load moves its announcements; `capacity` is that of all backends together, in sessions."""
    each = {Resource.SESSIONS: capacity / len(bare.backends)}
    backends = {
        number: replace(one, capacity=each, meter=UnixMeter(path=bare.paths.api_socket))
        for number, one in bare.backends.items()
    }
    names = frozenset(service.name for service in bare.services)
    settings = LoadSettings(services=names, policies=policies, ladder=ladder)
    return replace(bare, backends=backends, load=settings, load_timing=TIMING)


def two_backends() -> Pop:
    return pop(backends=(backend(1, ike()), backend(2, ike())))


def meters(story: Story, sessions: float, *, begin: float, end: float) -> None:
    """Let the meters of all backends tell that they share so many sessions."""
    at = begin
    while at < end:
        measure(story, sessions, at)
        at += METER_S


def measure(story: Story, sessions: float, at: float) -> None:
    count = len(story.pop.backends)
    for number in story.pop.backends:
        used = {Resource.SESSIONS: sessions / count}
        story.happens(at, LoadSample(backend=number, at=at, used=used))


@dataclass(frozen=True, slots=True)
class Users:
    """Users of one place: they go to the PoP with the smallest distance, which each rung makes larger."""

    sessions: float
    distances: dict[str, float]


FARTHER = {Announce.NORMAL: 0.0, Announce.DEPREFERRED: 40.0, Announce.GRACEFUL_SHUTDOWN: 90.0}
"""What a rung adds to the distance."""


@dataclass
class LoadFleet(FleetStory):
    """A fleet in which load follows announcements."""

    capacities: dict[str, float] = field(default_factory=dict)
    users: list[Users] = field(default_factory=list)
    policies: Policies = POLICIES
    ladder: tuple[Level, ...] = DEFAULT_LADDER
    playbooks: bool = True
    deaf: frozenset[str] = frozenset()
    """PoPs whose meters have fallen silent."""
    steps: list[tuple[float, str, int, Reason | None]] = field(default_factory=list)
    """Every change of a level: when, where, to which, why."""
    most_lost: float = 0.0
    """The most at any measurement since `watched`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._measured_at = -METER_S
        for name in self.names if self.playbooks else ():
            book = PlaybookInForce(playbook=self.playbook(name), created=0.0)
            self.pops[name].story.happens(0.0, PlaybookChanged(book))

    def _resident(self, name: str) -> Resident:
        found = super()._resident(name)
        configured = steered(
            found.story.pop, capacity=self.capacities[name], policies=self.policies, ladder=self.ladder
        )
        return replace(found, story=Story(configured))

    def restart(self, name: str, memory: LoadMemory) -> None:
        """Replace the agent of a PoP; ExaBGP keeps the routes."""
        one = self.pops[name]
        routes = one.story.world.view().actual.routes
        story = Story(one.story.pop, inherited=routes, connects_at=self.now, now=self.now)
        story.happens(self.now, LoadRestored(memory))
        book = PlaybookInForce(playbook=self.playbook(name), created=0.0)
        story.happens(self.now, PlaybookChanged(book))
        one.story = story

    def vanish(self, name: str) -> None:
        """Let a PoP disappear: host, agent, routes, and with its lease its record."""
        one = self.pops.pop(name)
        self.names = tuple(other for other in self.names if other != name)
        self.store.revoke(one.lease)

    def run_to(self, end: float) -> LoadFleet:
        while self.now < end:
            if self.now >= self._measured_at + METER_S - STEP_S / 2:
                self._measured_at = self.now
                if self.watched:
                    self.most_lost = max(self.most_lost, self.lost())
                for name, sessions in self.landing().items():
                    if name not in self.deaf:
                        measure(self.pops[name].story, sessions, self.now)
            before = {name: one.story.world.view().load_state.level for name, one in self.pops.items()}
            super().run_to(self.now + STEP_S)
            for name, one in self.pops.items():
                state = one.story.world.view().load_state
                if state.level != before[name]:
                    self.steps.append((self.now, name, state.level, state.reason))
        return self

    def rung(self, name: str) -> Announce:
        """What the only upstream of a PoP has been told, by the attributes of the route."""
        routes = self.pops[name].story.world.view().actual.routes
        if not routes:
            return Announce.WITHDRAWN
        neighbor = self.pops[name].story.pop.neighbors[0]
        route = next(iter(routes.values()))
        told = (route.med, route.communities)
        return next(rung for rung, found in neighbor.attributes.items() if (found.med, found.communities) == told)

    def lost(self) -> float:
        """Return how many sessions are above the capacity of their PoP, or reach none."""
        carried = self.landing()
        over = sum(max(0.0, sessions - self.capacities[name]) for name, sessions in carried.items())
        return over + sum(place.sessions for place in self.users) - sum(carried.values())

    def landing(self) -> dict[str, float]:
        """Return how many sessions each PoP carries now."""
        return self._land({name: self.rung(name) for name in self.names})

    def _land(self, rungs: dict[str, Announce]) -> dict[str, float]:
        found = dict.fromkeys(self.names, 0.0)
        for place in self.users:
            near = self._nearest(place, rungs)
            if near is not None:
                found[near] += place.sessions
        return found

    def _nearest(self, place: Users, rungs: dict[str, Announce]) -> str | None:
        seen = [
            (distance + FARTHER[rungs[name]], name)
            for name, distance in place.distances.items()
            if rungs.get(name, Announce.WITHDRAWN) is not Announce.WITHDRAWN
        ]
        return min(seen)[1] if seen else None

    def playbook(self, name: str) -> Playbook:
        """Return what every step of one PoP does while the others are normal."""
        steps: dict[StepKey, tuple[Step, ...]] = {}
        for before in range(len(self.ladder)):
            for after in (before - 1, before + 1):
                if 0 <= after < len(self.ladder):
                    key = StepKey(name, before, after)
                    steps[key] = (Step(key=key, flows=self._flows(name, before, after)),)
        return Playbook(
            fleet="test",
            created_unix_s=0.0,
            ladders=dict.fromkeys(self.names, self.ladder),
            steps=steps,
            reconnect_window_s=3600.0,
        )

    def _flows(self, name: str, before: int, after: int) -> tuple[Flow, ...]:
        rungs = dict.fromkeys(self.names, Announce.NORMAL)
        old = rungs | {name: self.ladder[before].others}
        new = rungs | {name: self.ladder[after].others}
        carried = self._land(old)
        moved: dict[tuple[str, str | None], float] = {}
        for place in self.users:
            source, target = self._nearest(place, old), self._nearest(place, new)
            if source is not None and source != target:
                moved[source, target] = moved.get((source, target), 0.0) + place.sessions
        return tuple(Flow(source, target, sum_ / carried[source]) for (source, target), sum_ in moved.items())
