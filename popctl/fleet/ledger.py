"""The books of one PoP: what the store is known to hold, what is wished, and so what has to be written next.

No I/O and no clock: a client of a store feeds it with snapshots, changes and results, and sends what `next_write` says.

What keeps the permits sound, however late messages arrive:

- Every write of the own record compares the revision of the record that it replaces. A request that was given up and
  arrives later finds another revision and changes nothing.
- Every write that takes this PoP off duty renews the *fence*, one key of the whole fleet. A grant compares the fence:
  if anybody else left since the view that the floor was judged by, it fails and is judged again.
- A grant also compares that the records it counts on are still there, so that an ended lease is not missed.
- A held permit is forgotten *before* a write that returns to duty is sent, and comes back only with a revision of the
  own record that was not known then: such a write cannot arrive after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from popctl.core.guard import floor_refusal
from popctl.fleet.line import Change, Entry, Snapshot, Write
from popctl.fleet.roster import Roster
from popctl.fleet.target import Pace, Target, due_at, pins, target
from popctl.model.fleet import (
    FleetView,
    FleetWish,
    FloorPolicy,
    Permit,
    PermitState,
    Record,
    Stance,
)
from popctl.model.instant import NEVER, Instant

if TYPE_CHECKING:
    from popctl.model.reason import Reason


BRIEF_S = 2.0
"""Who was without the store for no longer need not settle: going over to another of its members takes less."""


class Ledger:
    """See the module. Not thread-safe: belongs to one event loop."""

    def __init__(self, pop: str, incarnation: str, policy: FloorPolicy, pace: Pace | None = None) -> None:
        self.problem = ""
        self._pop = pop
        self._incarnation = incarnation
        self._policy = policy
        self._pace = pace or Pace()
        self._wish: FleetWish | None = None
        self._wanted_since: dict[str, Instant] = {}
        self._roster = Roster()
        self._own: Entry | None = None
        self._written: Record | None = None
        self._fence = 0
        self._revision = 0
        self._taken = 0
        self._connected = False
        self._fenced = False
        self._wrote_once = False
        self._current_at: Instant = -NEVER
        self._disconnected_at: Instant = -NEVER
        self._settled_at: Instant = -NEVER
        self._echoes: list[tuple[int, Instant]] = []
        self._in_flight: tuple[Write, Instant] | None = None
        self._granted: dict[str, Instant] = {}
        self._refusals: Mapping[str, Reason] = {}
        self._wrote_at: Instant = -NEVER

    # ------------------------------------------------------------------------------------------------ from the caller

    def wish(self, wish: FleetWish, now: Instant) -> None:
        """Take the whole wish; permits that it no longer names are no longer held when this returns."""
        before = wish.forced if self._wish is None else self._wish.forced
        since = {one: when for one, when in self._wanted_since.items() if one not in wish.forced - before}
        self._wish = wish
        self._wanted_since = {service: since.get(service, now) for service in wish.permits}
        self._reckon()

    # ------------------------------------------------------------------------------------------------- from the store

    def connected(self, snapshot: Snapshot, *, asked_at: Instant, now: Instant) -> None:
        """Begin a session with a whole reading that was asked for at `asked_at`."""
        self._connected = True
        self.problem = ""
        if asked_at > self._disconnected_at + BRIEF_S:
            self._settled_at = now + self._policy.settle_s
        self._take(snapshot, asked_at, now)

    def disconnected(self, problem: str, now: Instant) -> None:
        """Keep what is known; an unanswered write may still arrive."""
        if self._connected:
            self._disconnected_at = now
        self._connected = False
        self.problem = problem
        self.given_up()

    def given_up(self) -> None:
        """Count the write under way as one that may still arrive."""
        self._in_flight = None
        self._echoes.clear()

    def changed(self, changes: Iterable[Change], now: Instant) -> None:
        """Take events of the watch, in their order. What a snapshot already said is passed over."""
        for change in changes:
            if change.revision <= self._taken:
                # Of what is gone nothing remains that an older event could be compared with.
                continue
            self._revision = max(self._revision, change.revision)
            if change.pop is None:
                self._fence = max(self._fence, change.revision)
            elif change.pop == self._pop:
                self._own_changed(change, now)
            else:
                self._roster.changed(change.pop, change, now)
        while self._echoes and self._echoes[0][0] <= self._revision:
            self._current_at = max(self._current_at, self._echoes.pop(0)[1])
        self._reckon()

    def written(self, revision: int, now: Instant) -> None:
        """Take note that the write under way is in the store."""
        if self._in_flight is None:
            raise RuntimeError("no write is under way")
        write, sent_at = self._in_flight
        self._in_flight = None
        self._wrote_once = True
        created = revision if self._own is None else self._own.created
        entry = Entry(record=write.record, created=created, modified=revision)
        if write.renew_fence and write.fence is not None:
            # Without the comparison somebody may have left in between; then the watch has to say so first.
            self._fence = max(self._fence, revision)
        if revision <= self._revision:
            # The echo came before the answer.
            self._current_at = max(self._current_at, sent_at)
        else:
            self._echoes.append((revision, sent_at))
        if self._own is None or self._own.modified < revision:
            self._own_is(entry, now)
        if self._own is not None and self._own.modified == revision:
            # What was sent, not what came back: ages lose a little on the way.
            self._written = write.record
        self._reckon()

    def refused(self, snapshot: Snapshot, *, now: Instant) -> None:
        """Take note that the write under way changed nothing, because the store is as `snapshot` says."""
        if self._in_flight is None:
            raise RuntimeError("no write is under way")
        _, asked_at = self._in_flight
        self._in_flight = None
        if snapshot.revision > self._revision:
            self._take(snapshot, asked_at, now)
        # Otherwise the watch has already told more than the snapshot: taking it would bring back what is gone.
        self._reckon()

    # --------------------------------------------------------------------------------------------------- to the store

    def next_write(self, now: Instant) -> Write | None:
        """Return what is to be sent now, if anything; it counts as under way until a result is reported."""
        wish = self._wish
        if wish is None or not self._connected or self._fenced or self._in_flight is not None:
            return None
        wanted = self._target(wish)
        record, own = wanted.record, self._own
        if now < self._due_at(record):
            return None
        write = Write(
            record=record,
            replaces=0 if own is None else own.modified,
            fence=self._fence if wanted.grants else None,
            renew_fence=wanted.leaves(None if own is None else own.record),
            pins=pins(wanted.grants, self._pop, record.report.region, self._roster.members),
        )
        self._in_flight = (write, now)
        self._wrote_at = now
        for service in [one for one in self._granted if record.stance(one) is not Stance.PERMIT]:
            del self._granted[service]
        return write

    def wake_at(self) -> Instant:
        """Return when time alone makes a write due."""
        if self._wish is None or not self._connected or self._fenced or self._in_flight is not None:
            return NEVER
        return self._due_at(self._target(self._wish).record)

    @property
    def unechoed_since(self) -> Instant:
        """Since when the echo of a write is missing on the watch; `NEVER` if none is."""
        return self._echoes[0][1] if self._echoes else NEVER

    @property
    def current_at(self) -> Instant:
        """See `FleetView.current_at`."""
        return self._current_at

    def permits(self) -> Mapping[str, Permit]:
        """Return where each permit of the newest wish stands."""
        return {service: self._permit(service) for service in self._wanted_since}

    def view(self, now: Instant) -> FleetView:
        """Return all that is known."""
        return FleetView(
            members=MappingProxyType(dict(self._roster.members)),
            permits=self.permits(),
            connected=self._connected and not self._fenced,
            current_at=self._current_at,
            settled_at=self._settled_at,
            revision=self._revision,
            lost=self._roster.lost_lately(now),
            problem="another agent runs as this PoP" if self._fenced else self.problem,
        )

    # ------------------------------------------------------------------------------------------------- what to write

    def _target(self, wish: FleetWish) -> Target:
        found = target(wish, self._granted, lambda service: self._refusal(service, wish))
        self._refusals = found.refusals
        return found

    def _refusal(self, service: str, wish: FleetWish) -> Reason | None:
        return floor_refusal(self._policy, service, self._pop, wish.report.region, self._roster.members)

    def _due_at(self, wanted: Record) -> Instant:
        stands = None if self._own is None or self._own.record is None else self._written
        return due_at(wanted, stands, self._wrote_at, self._pace)

    # ---------------------------------------------------------------------------------------------- what is in there

    def _take(self, snapshot: Snapshot, asked_at: Instant, now: Instant) -> None:
        self._revision = self._taken = snapshot.revision
        self._fence = snapshot.fence
        self._current_at = max(self._current_at, asked_at)
        self._roster.take(snapshot.entries, now)
        own = snapshot.entries.get(self._pop)
        if own is None:
            self._own_gone()
        else:
            self._own_found(own, now)
        self._reckon()

    def _own_changed(self, change: Change, now: Instant) -> None:
        if self._own is not None and self._own.modified >= change.revision:
            return
        if change.entry is None:
            self._own_gone()
        else:
            self._own_found(change.entry, now)

    def _own_gone(self) -> None:
        """Go on without a record: the lease ended. What was granted stays granted, for nobody counts on this PoP."""
        self._own = None
        self._written = None
        self._fenced = False
        self._roster.drop(self._pop)

    def _own_found(self, entry: Entry, now: Instant) -> None:
        if self._own is not None and self._own.modified == entry.modified:
            # Nothing new. In particular no permit is found again here: a write that returns to duty may have been given
            # up, and arrives yet. A revision that was not known before rules that out.
            return
        found = entry.record.report.incarnation if entry.record is not None else ""
        if found != self._incarnation and self._wrote_once:
            # A later agent took this PoP over. The older one must fall silent: the newer one knows more.
            self._fenced = True
            self._granted.clear()
        self._own_is(entry, now)

    def _own_is(self, entry: Entry, now: Instant) -> None:
        """Take what the store is known to say of this PoP, and what follows for permits."""
        self._own = entry
        mine = entry.record if entry.record and entry.record.report.incarnation == self._incarnation else None
        self._written = mine
        self._roster.put(self._pop, entry, now)
        if mine is None or self._fenced:
            return
        for service, stance in mine.stances.items():
            if stance is Stance.PERMIT:
                self._granted.setdefault(service, now)
            else:
                self._granted.pop(service, None)

    def _reckon(self) -> None:
        """Work out anew why wanted permits are refused."""
        if self._wish is not None:
            self._target(self._wish)

    def _permit(self, service: str) -> Permit:
        forced = self._wish is not None and service in self._wish.forced
        if service in self._granted and not self._fenced:
            return Permit(service=service, state=PermitState.HELD, since=self._granted[service], forced=forced)
        refusal = self._refusals.get(service)
        state = PermitState.ASKED if refusal is None else PermitState.REFUSED
        return Permit(service=service, state=state, since=self._wanted_since[service], reason=refusal, forced=forced)
