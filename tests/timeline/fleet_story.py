"""Several PoPs with one store between them, as stories that live side by side on one simulated clock.

World, core, guard and ledger are the real ones; the store is the strict twin of etcd. What is sent arrives one step
later.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from popctl.agent.events import FleetChanged, ServicesRestored
from popctl.fleet.ledger import Ledger
from popctl.fleet.line import Change, Entry, Snapshot, Write
from popctl.fleet.store import LogEntry, MemoryStore, Stored
from popctl.model.fleet import FleetView, FloorPolicy, Record
from popctl.model.floor import FleetSettings
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.wire.services_file import decode, encode
from tests.pops import backend, ike, pop
from tests.timeline.story import Story

STEP_S = 0.02
LEASE_S = 10.0
UNIX_S = 1_800_000_000.0
"""Wall time of second 0."""
REFUSED, HUNG = "refused", "hung"


@dataclass
class Resident:
    """One PoP: its story, its books, and what is on its way to the store."""

    name: str
    story: Story
    ledger: Ledger
    lease: int
    connected: bool = False
    position: int = 0
    sent: Write | None = None
    incarnation: int = 1

    @property
    def announces(self) -> bool:
        """Some router has a route of it."""
        return bool(self.story.world.view().actual.routes)

    def now(self) -> tuple[Announce, Reason, bool]:
        """Where its service stands, why, and whether it is held."""
        assert self.story.decision is not None
        (service,) = self.story.decision.desired.services
        return service.announce, service.reason, service.held


@dataclass
class FleetStory:
    """Lives in steps; the store may be away."""

    names: tuple[str, ...]
    policy: FloorPolicy = field(default_factory=FloorPolicy)
    now: float = 0.0
    store_up: bool = True
    least_announcing: int = 1_000
    """The fewest PoPs that announced at once since `watched` was set."""
    watched: bool = False

    def __post_init__(self) -> None:
        self.store: MemoryStore[Record] = MemoryStore()
        self.pops = {name: self._resident(name) for name in self.names}

    def _resident(self, name: str) -> Resident:
        settings = FleetSettings(name="test", region="eu", endpoints=("http://192.0.2.5:2379",), floor=self.policy)
        configured = replace(pop(backends=(backend(1, ike()), backend(2, ike()))), name=name, fleet=settings)
        ledger = Ledger(name, f"{name}-1", self.policy)
        return Resident(name, Story(configured), ledger, self.store.grant(LEASE_S, 0.0))

    # What happens.

    def healthy(self, *, begin: float, end: float) -> None:
        for one in self.pops.values():
            self.healthy_at(one.name, begin=begin, end=end)

    def healthy_at(self, name: str, *, begin: float, end: float) -> None:
        for number in (1, 2):
            self.pops[name].story.passes(number, begin=begin, end=end)

    def fails_at(self, name: str, how: str, *, begin: float, end: float) -> None:
        for number in (1, 2):
            story = self.pops[name].story
            (story.refuses if how == REFUSED else story.hangs)(number, begin=begin, end=end)

    def agent_restarts(self, name: str, *, forgets: bool = False) -> None:
        """Replace the agent of a PoP by another process; ExaBGP keeps the routes, and the disk its files."""
        one = self.pops[name]
        world = one.story.world
        story = Story(one.story.pop, inherited=world.view().actual.routes, connects_at=self.now, now=self.now)
        if not forgets:
            kept = encode(world.past, unix_s=UNIX_S + self.now, now=self.now)
            story.happens(self.now, ServicesRestored(decode(kept, unix_s=UNIX_S + self.now, now=self.now)))
        number = one.incarnation + 1
        ledger = Ledger(name, f"{name}-{number}", self.policy)
        lease = self.store.grant(LEASE_S, self.now)
        self.pops[name] = Resident(name, story, ledger, lease, incarnation=number)

    # Running it.

    def run_to(self, end: float) -> FleetStory:
        while self.now < end:
            self.now = round(self.now + STEP_S, 6)
            for one in self.pops.values():
                self._talk(one)
            for one in self.pops.values():
                self._live(one)
            if self.watched:
                self.least_announcing = min(self.least_announcing, sum(one.announces for one in self.pops.values()))
        return self

    def _talk(self, one: Resident) -> None:
        """Deliver what was sent one step ago, and what the watch has to say."""
        before = self._view(one)
        if self.store_up and not one.connected:
            one.connected = True
            if not self.store.keep_alive(one.lease, self.now):
                one.lease = self.store.grant(LEASE_S, self.now)
            one.position = len(self.store.log)
            one.ledger.connected(self._snapshot(), asked_at=self.now, now=self.now)
        elif not self.store_up and one.connected:
            one.connected, one.sent = False, None
            one.ledger.disconnected("no answer", self.now)
        if one.connected:
            self.store.keep_alive(one.lease, self.now)
            self._deliver(one)
            self._watch(one)
        after = self._view(one)
        if after != before:
            one.story.happens(self.now, FleetChanged(after))

    def _deliver(self, one: Resident) -> None:
        if one.sent is None:
            return
        write, one.sent = one.sent, None
        revision = self.store.commit(
            one.name,
            write.record,
            one.lease,
            replaces=write.replaces,
            fence=write.fence,
            renew_fence=write.renew_fence,
            pins=write.pins,
        )
        if revision is None:
            one.ledger.refused(self._snapshot(), now=self.now)
        else:
            one.ledger.written(revision, self.now)

    def _watch(self, one: Resident) -> None:
        found = self.store.since(one.position)
        one.position += len(found)
        if found:
            one.ledger.changed([_change(entry) for entry in found], self.now)

    def _live(self, one: Resident) -> None:
        one.story.run_to(self.now)
        decision = one.story.decision
        if decision is not None and decision.desired.fleet is not None:
            before = self._view(one)
            wish = decision.desired.fleet
            report = replace(wish.report, incarnation=f"{one.name}-{one.incarnation}")
            one.ledger.wish(replace(wish, report=report), self.now)
            after = self._view(one)
            if after != before:
                one.story.happens(self.now, FleetChanged(after))
        if one.connected and one.sent is None:
            one.sent = one.ledger.next_write(self.now)

    def _view(self, one: Resident) -> FleetView:
        return one.ledger.view(self.now)

    def _snapshot(self) -> Snapshot:
        entries = {name: _entry(stored) for name, stored in self.store.records.items()}
        return Snapshot(revision=self.store.revision, fence=self.store.fence, entries=entries)


def _entry(stored: Stored[Record]) -> Entry:
    return Entry(record=stored.value, created=stored.created, modified=stored.modified)


def _change(entry: LogEntry[Record]) -> Change:
    stored = None if entry.stored is None else _entry(entry.stored)
    return Change(revision=entry.revision, pop=entry.pop, entry=stored)
