"""A fleet in a box: real guard, real ledger, the store's twin, and everything else as bad as a schedule makes it.

A schedule is a list of small integers; each one is a step that happens to one PoP. Messages are separate steps: a write
reaches the store, its answer comes back, events of the watch arrive, or all of that does not happen, or much later. So
do failures of backends, orders with and without a drain or force, load, partitions, crashes of agents and hosts, lost
BGP sessions, ended leases and jumping clocks.

Every controller withdraw is checked against what is really so, which no agent can see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import ip_network
from typing import TYPE_CHECKING, TypeAlias

from popctl.core import guard
from popctl.core.guard import Cause, Permission, Withdrawal
from popctl.fleet.ledger import BRIEF_S, Ledger
from popctl.fleet.line import Change, Entry, Snapshot
from popctl.fleet.store import MemoryStore, Stored
from popctl.model.fleet import FleetWish, FloorPolicy, PopReport, Record, ServiceReport, Stance
from popctl.model.load import PopLoad, Resource
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from tests.property.guard_truth import SERVICE, FloorBrokenError, check_evidence, check_grant, known_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from popctl.core.guard import Ruling
    from popctl.fleet.line import Write
    from popctl.model.fleet import FleetView

TTL_S = 10.0
PREFIX = (ip_network("198.51.100.0/24"),)
NAMES = tuple("abcdef")

GOOD = ServiceReport(
    service=SERVICE, announce=Announce.NORMAL, announced=PREFIX, healthy=2, needed=1, good=True, reason=Reason.HEALTHY
)
SILENT = replace(GOOD, announced=())
DRAINS_S = (0.0, 0.0, 4.0, 120.0)
"""The last one outlives every schedule: a permit that is held for a long time before it is used."""


@cache
def _load(name: str) -> PopLoad:
    """Each PoP carries another load, and all carry the same: the floor of two regions is not that of capacity."""
    used = {Resource.SESSIONS: 0.3 + 0.1 * NAMES.index(name)}
    return PopLoad(level=0, announcing=True, used=used, peak=used, capacity={Resource.SESSIONS: 1.0}, at=0.0)


@dataclass(frozen=True, slots=True)
class Order:
    """An operator's withdraw."""

    since: float
    """On the PoP's clock, as is the end of the drain."""
    drain_until: float
    forced: bool


@dataclass(frozen=True)
class Timed:
    """A record as it travels: with the writer's clock, for its instants are ages."""

    record: Record
    at: float

    def read(self, now: float) -> Record:
        report = self.record.report
        service = report.services[SERVICE]
        if service.bad_since is None:
            return self.record
        moved = replace(service, bad_since=now - (self.at - service.bad_since))
        return replace(self.record, report=replace(report, services={SERVICE: moved}))


@dataclass
class Request:
    """A write on its way."""

    pop: str
    write: Write
    value: Timed
    lease: int


@dataclass(eq=False)
class PopInTheBox:
    """One PoP: agent, clock, routes, backends, and its line to the store."""

    name: str
    ledger: Ledger
    incarnation: str
    lease: int
    cursor: int
    alive: bool = True
    cut: bool = False
    connected: bool = True
    offset_s: float = 0.0
    bad_since: float | None = None
    certain: bool = False
    stage: str = ""
    order: Order | None = None
    hot_since: float | None = None
    """Load wants it withdrawn."""
    down_since: float | None = None
    """On its own clock: without the store."""
    settled_at: float = 0.0
    """On its own clock: when the others have had time to speak after an outage."""
    bgp: bool = True
    carried: bool = True
    left: bool = False
    """Out because its controller withdrew."""
    request: Request | None = None
    answer: int | Snapshot | None = None
    sent: dict[float, int] = field(default_factory=dict)
    """Own clock when something was asked -> revision of the store at that moment."""
    view: FleetView | None = None

    @property
    def announced(self) -> bool:
        return self.carried and self.bgp

    @property
    def region(self) -> str:
        return region_of(self.name)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is under test; a mutant replaces one of them."""

    judge: Callable[[Withdrawal, FloorPolicy | None, FleetView, float], Ruling] = guard.judge
    ledger: type[Ledger] = Ledger
    store: type[MemoryStore[Timed]] = MemoryStore


REAL = Rules()

Act: TypeAlias = "Callable[[World, PopInTheBox, int], None]"


@cache
def _start(size: int) -> dict[str, Record]:
    return {
        name: Record(
            report=PopReport(
                pop=name, region=region_of(name), services={SERVICE: GOOD}, load=_load(name), incarnation=f"{name}0"
            ),
            stances={SERVICE: Stance.DUTY},
        )
        for name in NAMES[:size]
    }


def region_of(name: str) -> str:
    """Return where a PoP is: they take turns."""
    return "rs"[NAMES.index(name) % 2]


class World:
    """All PoPs, the store between them, and the truth."""

    def __init__(
        self,
        size: int,
        floor: int,
        rules: Rules = REAL,
        *,
        share: float = 0.5,
        settle_s: float = 0.0,
        region_floor: int = 0,
        capacity_ratio: float | None = None,
        story: bool = False,
    ) -> None:
        self.now = 1000.0
        self.floor = floor
        self.rules = rules
        self.policy = FloorPolicy(
            minimum_announcing=floor,
            minimum_per_region=dict.fromkeys("rs", region_floor) if region_floor else {},
            minimum_capacity_ratio=capacity_ratio,
            common_cause_share=share,
            standing_share=0.5,
            settle_s=settle_s,
        )
        self.store: MemoryStore[Timed] = rules.store()
        self.floating: list[Request] = []
        self.withdraws = 0
        self.held = 0
        self.story: list[str] | None = [] if story else None
        self._restarts = 0
        leases = {}
        for name, record in _start(size).items():
            leases[name] = self.store.grant(TTL_S, self.now)
            self.store.commit(name, Timed(record, self.now), leases[name], replaces=0)
        self.pops = [self._pop(name, leases[name]) for name in NAMES[:size]]
        # The fleet has been up for a while when a schedule begins.
        self.now += settle_s

    def _pop(self, name: str, lease: int) -> PopInTheBox:
        pop = PopInTheBox(
            name, self.rules.ledger(name, f"{name}0", self.policy), f"{name}0", lease, len(self.store.log)
        )
        self._read_all(pop)
        pop.ledger.wish(FleetWish(report=_start(len(NAMES))[name].report), self.now)
        return pop

    # ------------------------------------------------------------------------------------------------------- a schedule

    def run(self, steps: Sequence[int], acts: Sequence[Act]) -> World:
        """Let the schedule happen. Raises `FloorBrokenError`."""
        for step in steps:
            act = acts[step & 63]
            pop = self.pops[(step >> 6) % len(self.pops)]
            if self.story is not None:
                self.story.append(f"{self.now:8.1f}  {pop.name}  {act.__name__}({step >> 9})")
            act(self, pop, step >> 9)
        return self

    def _tell(self, text: str) -> None:
        if self.story is not None:
            self.story.append(f"              -> {text}")

    # ------------------------------------------------------------------------------------------------------- the agent

    def turn(self, pop: PopInTheBox, _: int) -> None:
        """Decide, wish, apply: what an agent does after every event."""
        if not pop.alive:
            return
        now = self.now + pop.offset_s
        view = pop.ledger.view(now)
        report = self._report(pop)
        permits: frozenset[str] = frozenset()
        standing = permits
        allowed = False
        wanted = self._withdrawal(pop, now)
        if wanted is not None:
            ruling = self.rules.judge(wanted, self.policy, view, now)
            permits = frozenset((SERVICE,)) if ruling.ask else permits
            drained = pop.order is None or now >= pop.order.drain_until
            allowed = pop.carried and drained and ruling.permission is Permission.ALLOW
            self.held += ruling.permission is Permission.HOLD
            self._tell(f"{wanted.cause}: {ruling.permission} ({ruling.reason})")
        elif pop.announced:
            ready = guard.wants_standing(report.services[SERVICE], pop.name, pop.region, self.policy, view, now)
            permits = standing = frozenset((SERVICE,)) if ready else permits
        forced = permits if wanted is not None and wanted.forced else frozenset()
        pop.ledger.wish(FleetWish(report=report, permits=permits, standing=standing, forced=forced), now)
        if wanted is not None and allowed:
            self._withdraw(pop, wanted, view, now)
        elif wanted is None and not pop.carried:
            pop.carried, pop.left = True, False
            self._tell("announces")
        self._send(pop, now)

    def _report(self, pop: PopInTheBox) -> PopReport:
        service = GOOD if pop.announced else SILENT
        if pop.bad_since is not None:
            service = replace(service, good=False, bad_since=pop.bad_since, stage=pop.stage, certain=pop.certain)
        return PopReport(
            pop=pop.name,
            region=pop.region,
            services={SERVICE: service},
            load=_load(pop.name),
            incarnation=pop.incarnation,
        )

    def _withdrawal(self, pop: PopInTheBox, now: float) -> Withdrawal | None:
        """Return what the agent wants: an order beats health, and load has the last word."""
        if pop.order is not None:
            cause, since, forced = Cause.OPERATOR, pop.order.since, pop.order.forced
        elif pop.bad_since is not None:
            cause, since, forced = Cause.HEALTH, pop.bad_since, False
        elif pop.hot_since is not None:
            cause, since, forced = Cause.LOAD, pop.hot_since, False
        else:
            return None
        return Withdrawal(
            pop=pop.name,
            region=pop.region,
            service=SERVICE,
            cause=cause,
            carried=pop.carried,
            bad_since=min(since, now),
            stage=pop.stage if pop.bad_since is not None else "",
            certain=pop.certain,
            forced=forced,
        )

    def _withdraw(self, pop: PopInTheBox, wanted: Withdrawal, view: FleetView, now: float) -> None:
        pop.carried = False
        self._tell("withdraws")
        if wanted.forced:
            # An operator's doing: no controller is to blame for what is left. But the others have to be told first.
            self._check_told(pop, wanted, now)
            return
        pop.left = True
        self.withdraws += 1
        self._check_staying(pop)
        check_evidence(self.policy, self.store, pop.name, pop.region, view)
        if now - view.current_at > self.policy.view_age_bound_s:
            raise FloorBrokenError(f"{pop.name} believed a view of {now - view.current_at:.1f} s")
        if view.revision < pop.sent.get(view.current_at, 0):
            raise FloorBrokenError(f"the view of {pop.name} is older than it says")
        if pop.connected and now < pop.settled_at and wanted.cause is not Cause.OPERATOR and not wanted.certain:
            raise FloorBrokenError(f"{pop.name} believed a view that has not settled")

    def _check_staying(self, pop: PopInTheBox) -> None:
        staying = [one for one in self.pops if not one.left]
        near = sum(one.region == pop.region for one in staying)
        if len(staying) < self.floor:
            raise FloorBrokenError(
                f"{len(staying)} of {len(self.pops)} not withdrawn by a controller, floor {self.floor}"
            )
        if near < self.policy.minimum_per_region.get(pop.region, 0):
            raise FloorBrokenError(f"{near} in {pop.region} not withdrawn by a controller")

    def _check_told(self, pop: PopInTheBox, wanted: Withdrawal, now: float) -> None:
        record = known_at(self.store, self.store.revision).get(pop.name)
        counted_on = record is not None and record.stance(SERVICE) is Stance.DUTY
        if counted_on and pop.connected and now < wanted.bad_since + self.policy.permit_wait_s:
            raise FloorBrokenError(f"{pop.name} left by force at once, and the others count on it")

    def _send(self, pop: PopInTheBox, now: float) -> None:
        if pop.connected and pop.request is None and pop.answer is None:
            write = pop.ledger.next_write(now)
            if write is not None:
                pop.request = Request(pop.name, write, Timed(write.record, now), pop.lease)
                pop.sent.setdefault(now, self.store.revision)
                self._tell(f"sends {write.record.stance(SERVICE)}, fence {write.fence}")

    # -------------------------------------------------------------------------------------------------------- messages

    def arrive(self, pop: PopInTheBox, _: int) -> None:
        """Let the write reach the store."""
        if pop.request is not None and not pop.cut:
            request, pop.request = pop.request, None
            pop.answer = self._commit(request)

    def _commit(self, request: Request) -> int | Snapshot:
        write = request.write
        try:
            revision = self.store.commit(
                request.pop,
                request.value,
                request.lease,
                replaces=write.replaces,
                fence=write.fence,
                renew_fence=write.renew_fence,
                pins=write.pins,
            )
        except KeyError:
            return -1
        self._tell("refused by the store" if revision is None else f"stored as {revision}")
        if revision is not None and write.fence is not None:
            check_grant(self.policy, self.store, request.pop, region_of(request.pop))
        return self._snapshot(self._named(request.pop)) if revision is None else revision

    def answer(self, pop: PopInTheBox, _: int) -> None:
        """Let the answer of the store come back."""
        if pop.answer is None or pop.cut or not pop.alive:
            return
        answer, pop.answer = pop.answer, None
        now = self.now + pop.offset_s
        if isinstance(answer, Snapshot):
            pop.ledger.refused(answer, now=now)
        elif answer < 0:
            pop.lease = 0
            self._drop(pop)
        else:
            pop.ledger.written(answer, now)
        self._send(pop, now)

    def exchange(self, pop: PopInTheBox, x: int) -> None:
        """Do both at once: the usual case."""
        self.arrive(pop, x)
        self.answer(pop, x)

    def watch(self, pop: PopInTheBox, x: int) -> None:
        """Let some events of the watch arrive; rarely few, so that stale views are common but not the rule."""
        if not pop.connected or pop.cut or not pop.alive:
            return
        end = pop.cursor + 1 + x % 2 if x & 4 else len(self.store.log)
        # Events of one revision arrive together.
        while 0 < end < len(self.store.log) and self.store.log[end].revision == self.store.log[end - 1].revision:
            end += 1
        entries = self.store.log[pop.cursor : end]
        pop.cursor = min(end, len(self.store.log))
        now = self.now + pop.offset_s
        changes = [
            Change(revision=one.revision, pop=one.pop, entry=_entry(one.stored, now) if one.stored else None)
            for one in entries
        ]
        pop.ledger.changed(changes, now)
        self._send(pop, now)

    def late(self, _: PopInTheBox, x: int) -> None:
        """Let a request arrive that its sender has given up."""
        if self.floating:
            self._commit(self.floating.pop(x % len(self.floating)))

    def time_out(self, pop: PopInTheBox, _: int) -> None:
        """Give up on what is under way; it may still arrive."""
        if pop.request is not None or pop.answer is not None:
            self._drop(pop)

    def _drop(self, pop: PopInTheBox) -> None:
        if pop.request is not None:
            self.floating.append(pop.request)
        pop.request = pop.answer = None
        now = self.now + pop.offset_s
        if pop.connected:
            pop.down_since = now
        pop.connected = False
        if pop.alive:
            pop.ledger.disconnected("test", now)

    def connect(self, pop: PopInTheBox, _: int) -> None:
        if not pop.alive or pop.cut or pop.connected:
            return
        if not pop.lease or not self.store.keep_alive(pop.lease, self.now):
            pop.lease = self.store.grant(TTL_S, self.now)
        pop.connected = True
        self._read_all(pop)
        self._send(pop, self.now + pop.offset_s)

    def _read_all(self, pop: PopInTheBox) -> None:
        now = self.now + pop.offset_s
        if pop.down_since is not None and now > pop.down_since + BRIEF_S:
            pop.settled_at = now + self.policy.settle_s
        pop.sent.setdefault(now, self.store.revision)
        pop.cursor = len(self.store.log)
        pop.ledger.connected(self._snapshot(pop), asked_at=now, now=now)

    def _snapshot(self, pop: PopInTheBox) -> Snapshot:
        now = self.now + pop.offset_s
        entries = {name: _entry(stored, now) for name, stored in self.store.records.items()}
        return Snapshot(revision=self.store.revision, fence=self.store.fence, entries=entries)

    # -------------------------------------------------------------------------------------------------- what goes wrong

    def fail(self, pop: PopInTheBox, x: int) -> None:
        """Lose the backends: they refuse, or something makes them time out."""
        if pop.bad_since is None:
            pop.bad_since = self.now + pop.offset_s
        pop.certain = x & 1 == 1
        pop.stage = "ike" if x & 2 else "l2tp"

    def recover(self, pop: PopInTheBox, _: int) -> None:
        pop.bad_since = None
        pop.certain = False

    def operate(self, pop: PopInTheBox, x: int) -> None:
        """Let an operator order a withdraw: after a drain or at once, and rarely by force."""
        if pop.order is None:
            now = self.now + pop.offset_s
            pop.order = Order(now, now + DRAINS_S[x & 3], forced=x & 28 == 0)

    def release(self, pop: PopInTheBox, _: int) -> None:
        """Cancel the order."""
        pop.order = None

    def heat(self, pop: PopInTheBox, _: int) -> None:
        """Let load come to the point where it wants the PoP withdrawn."""
        if pop.hot_since is None:
            pop.hot_since = self.now + pop.offset_s

    def cool(self, pop: PopInTheBox, _: int) -> None:
        pop.hot_since = None

    def cut(self, pop: PopInTheBox, x: int) -> None:
        """Partition this PoP from the store, and sometimes all of them: the store is down."""
        for one in self.pops if x & 3 == 0 else (pop,):
            one.cut = True

    def heal(self, pop: PopInTheBox, x: int) -> None:
        for one in self.pops if x & 1 else (pop,):
            one.cut = False

    def notice(self, pop: PopInTheBox, _: int) -> None:
        """Find out that the line is cut."""
        if pop.cut and pop.connected:
            self._drop(pop)

    def crash_agent(self, pop: PopInTheBox, _: int) -> None:
        """The routes stay."""
        pop.alive = False
        self._drop(pop)

    def crash_host(self, pop: PopInTheBox, _: int) -> None:
        """The routes go, and nobody decided that."""
        pop.alive = pop.carried = False
        self._drop(pop)

    def deadman(self, pop: PopInTheBox, _: int) -> None:
        """The relay withdraws what a dead agent left."""
        if not pop.alive:
            pop.carried = False

    def restart(self, pop: PopInTheBox, x: int) -> None:
        """A new agent, with a clock of its own, on the old host."""
        if pop.alive:
            return
        self._restarts += 1
        pop.incarnation = f"{pop.name}{self._restarts}"
        pop.ledger = self.rules.ledger(pop.name, pop.incarnation, self.policy)
        pop.alive, pop.lease, pop.offset_s = True, 0, float(x)
        pop.sent = {}
        now = self.now + pop.offset_s
        # An agent that starts cannot know for how long it was away.
        pop.down_since = -math.inf
        pop.hot_since = None
        if pop.bad_since is not None:
            pop.bad_since = now
        if pop.order is not None:
            # On disk; its drain goes on from the wall clock, and ends here at once.
            pop.order = replace(pop.order, since=now, drain_until=now)

    def lose_bgp(self, pop: PopInTheBox, _: int) -> None:
        pop.bgp = False

    def regain_bgp(self, pop: PopInTheBox, _: int) -> None:
        pop.bgp = True

    def jump(self, pop: PopInTheBox, x: int) -> None:
        """This PoP's clock leaps ahead of all others'."""
        pop.offset_s += float(x)

    def tick(self, pop: PopInTheBox, x: int) -> None:
        """Time passes; agents that can keep their lease alive; one of them, sometimes, was stopped meanwhile."""
        passed = (0.1, 1.0, 3.0, 9.0)[x & 3]
        self.now += passed
        stopped = pop if x & 28 == 0 else None
        if stopped is not None:
            stopped.offset_s -= passed
        for one in self.pops:
            if one is not stopped and one.alive and one.connected and not one.cut:
                self._renew(one)
        self.store.expire(self.now)

    def _renew(self, pop: PopInTheBox) -> None:
        if not self.store.keep_alive(pop.lease, self.now):
            pop.lease = 0
            self._drop(pop)

    def _named(self, name: str) -> PopInTheBox:
        return self.pops[NAMES.index(name)]


def _entry(stored: Stored[Timed], now: float) -> Entry:
    return Entry(record=stored.value.read(now), created=stored.created, modified=stored.modified)
