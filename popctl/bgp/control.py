"""All prefixes on all sessions: folds what relay and ExaBGP say, tells what to order next. Sans-IO.

The entries follow `popctl.bgp.flight`; this module owns adoption: what ExaBGP already carries is read before anything
is said or changed, what matches is kept without an UPDATE, what does not is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import count
from typing import TYPE_CHECKING

from popctl.bgp import flight
from popctl.bgp.flight import Announce, Entry, Order, Patience, ReadNeighbors, ReadRoutes, Teardown, Withdraw
from popctl.bgp.told import UNKNOWN, Link, Unknown
from popctl.model.desired import Actual
from popctl.model.instant import NEVER, Instant
from popctl.model.route import Address, Family, Prefix, Route, RouteKey, RouteTable, route_table
from popctl.wire import exabgp_api
from popctl.wire.errors import WireError
from popctl.wire.exabgp_api import EndOfRib, Event, NeighborState, Sent, SessionDown, SessionUp
from popctl.wire.relay_api import Answer, Result, Welcome

if TYPE_CHECKING:
    from popctl.model.pop import Pop


class Phase(Enum):
    """How far the take-over is."""

    APART = auto()
    READING = auto()
    FLYING = auto()


@dataclass(slots=True)
class Session:
    """One session of the PoP."""

    link: Link
    families: frozenset[Family]
    up: bool = False
    watched: bool = False
    """Known from its first message on."""
    first_batch: set[Family] = field(default_factory=set)
    """Families whose first batch is not through yet."""
    first_batch_until: Instant = 0.0
    suspect: bool = False
    """The last reading contradicts the events; believed when the next one does too."""


class Control:
    """One connection's worth of knowledge about ExaBGP, and the wanted table that outlives it."""

    def __init__(self, pop: Pop, patience: Patience | None = None) -> None:
        self._pop = pop
        self._patience = patience or Patience()
        self._wanted: RouteTable | None = None
        self._numbers = count(1)
        self.disconnected()

    # ----------------------------------------------------------------------------------------------------- inputs

    def set(self, routes: RouteTable) -> None:
        """Take the whole wanted table."""
        self._wanted = routes

    def disconnected(self) -> None:
        """Forget everything that was known; the wanted table stays."""
        self._phase = Phase.APART
        self._entries: dict[RouteKey, Entry] = {}
        self._sessions = {
            neighbor.address: Session(
                link=Link(local_asn=self._pop.asn, peer_asn=neighbor.asn), families=neighbor.families
            )
            for neighbor in self._pop.neighbors
        }
        self._ordered: dict[int, tuple[Order, Route | None]] = {}
        self._current: dict[RouteKey, int] = {}
        self._withdrawn: dict[Address, frozenset[Prefix]] = {}
        """Until the sessions were read: what the relay heard withdrawn on those that it did not see begin."""
        self._read_at = NEVER

    def connected(self, welcome: Welcome, now: Instant) -> None:
        """Begin the take-over with what the relay watched."""
        self.disconnected()
        self._phase = Phase.READING
        self._withdrawn = dict(welcome.withdrawn)
        for address, watched in welcome.sessions.items():
            session = self._session(address)
            self._came_up(session, now)
            session.first_batch -= watched.finished
            for prefix, route in watched.told.items():
                self._entries[RouteKey(address, prefix)] = Entry(told=route)

    def event(self, event: Event, now: Instant) -> None:
        """Fold one event of ExaBGP."""
        match event:
            case SessionUp(neighbor=address):
                self._came_up(self._session(address), now)
                self._forget_told(address)
            case SessionDown(neighbor=address):
                self._went_down(address)
            case EndOfRib(neighbor=address, family=family):
                self._session(address).first_batch.discard(family)
            case Sent(neighbor=address):
                for prefix in event.withdrawn:
                    self._tell(RouteKey(address, prefix), None)
                for route in event.announced:
                    self._tell(RouteKey(address, route.prefix), route)
            case _:
                pass

    def answer(self, answer: Answer, now: Instant) -> None:
        """Fold the answer to an order. Raises `WireError` when a reading is not readable."""
        if answer.number not in self._ordered:
            return
        order, target = self._ordered.pop(answer.number)
        done = answer.result is Result.DONE
        match order:
            case ReadNeighbors() if done:
                self._read_neighbors(exabgp_api.neighbors(answer.lines))
            case ReadRoutes() if done:
                self._read_routes(exabgp_api.rib_line(line) for line in answer.lines)
            case ReadNeighbors() | ReadRoutes():
                raise WireError(f"ExaBGP does not tell its state: {answer.result}", found=answer.detail)
            case Announce(key=key) | Withdraw(key=key):
                self._settle_answer(key, answer.number, target, now, done=done)
            case Teardown() if answer.result is Result.REFUSED:
                for key in [key for key, number in self._current.items() if number == answer.number]:
                    self._settle_answer(key, answer.number, target, now, done=False)
            case _:
                pass

    # ----------------------------------------------------------------------------------------------------- outputs

    def orders(self, now: Instant, *, heard: Instant) -> tuple[tuple[int, Order], ...]:
        """Return what to order now, each with the number that its answer will carry.

        All that had come by `heard` was folded: only until then does silence mean anything.
        """
        orders: list[tuple[int, Order]] = []
        if self._phase is Phase.READING and self._read_at == NEVER:
            orders += [self._number(ReadNeighbors()), self._number(ReadRoutes())]
            self._read_at = now + self._patience.read_s
        elif now >= self._read_at:
            orders.append(self._number(ReadNeighbors()))
            self._read_at = now + self._patience.read_s
        wanted = self._wanted
        if self._phase is Phase.FLYING and wanted is not None:
            # Withdraws first: they are the urgent ones.
            for key in sorted({*wanted, *self._entries}, key=lambda key: key in wanted):
                orders += self._step(key, wanted.get(key), now, heard)
        return tuple(orders)

    def next_deadline(self) -> Instant:
        """Return when `orders` has something new for time alone."""
        deadlines = [self._read_at, *(flight.next_deadline(entry) for entry in self._entries.values())]
        deadlines += [session.first_batch_until for session in self._sessions.values() if session.first_batch]
        return min(deadlines)

    def actual(self) -> Actual:
        """Return what is proven."""
        if self._phase is Phase.APART:
            return Actual(sessions=dict.fromkeys(self._sessions, False))
        return Actual(
            connected=True,
            inherited=self._phase is Phase.FLYING,
            sessions={address: session.up for address, session in self._sessions.items()},
            routes=route_table(self._proven()),
            pending=frozenset(self._pending()),
            failed=frozenset(key for key, entry in self._entries.items() if entry.failed),
        )

    # ------------------------------------------------------------------------------------------------------- inside

    def _step(self, key: RouteKey, target: Route | None, now: Instant, heard: Instant) -> Iterable[tuple[int, Order]]:
        session = self._session(key.neighbor)
        if now >= session.first_batch_until:
            session.first_batch.clear()  # a family that was not negotiated has no End-of-RIB
        if Family.of(key.prefix) in session.first_batch:
            return
        entry = self._entries.get(key, Entry())
        entry = flight.judged(entry, self._patience, heard)
        entry, order = flight.step(key, entry, target, session.link, self._patience, now, up=session.up)
        self._entries[key] = entry
        if order is not None:
            number, _ = numbered = self._number(order, entry.flight.target if entry.flight else None)
            self._current[key] = number
            yield numbered

    def _number(self, order: Order, target: Route | None = None) -> tuple[int, Order]:
        number = next(self._numbers)
        self._ordered[number] = (order, target)
        return number, order

    def _settle_answer(self, key: RouteKey, number: int, target: Route | None, now: Instant, *, done: bool) -> None:
        entry = self._entries[key]
        if done:
            entry = replace(entry, replay=target)
        if self._current.get(key) == number:
            entry = (flight.answered if done else flight.rejected)(entry, now, self._patience)
        self._keep(key, entry)

    def _tell(self, key: RouteKey, route: Route | None) -> None:
        self._keep(key, replace(self._entries.get(key, Entry()), told=route))

    def _keep(self, key: RouteKey, entry: Entry) -> None:
        session = self._session(key.neighbor)
        self._entries[key] = flight.settled(entry, session.link, up=session.up)

    def _session(self, address: Address) -> Session:
        """Return a session, also one that only ExaBGP knows: its configuration is older than ours."""
        if address not in self._sessions:
            link = Link(local_asn=self._pop.asn, peer_asn=0)
            self._sessions[address] = Session(link=link, families=frozenset(Family))
        return self._sessions[address]

    def _came_up(self, session: Session, now: Instant) -> None:
        session.up = session.watched = True
        session.suspect = False
        session.first_batch = set(session.families)
        session.first_batch_until = now + self._patience.first_batch_s

    def _went_down(self, address: Address) -> None:
        session = self._session(address)
        session.up = session.watched = session.suspect = False
        session.first_batch = set()
        self._withdrawn.pop(address, None)
        self._forget_told(address)

    def _forget_told(self, address: Address) -> None:
        for key in [key for key in self._entries if key.neighbor == address]:
            self._tell(key, None)

    def _read_neighbors(self, states: Mapping[Address, NeighborState]) -> None:
        for address, state in states.items():
            session = self._session(address)
            if state.established == session.up:
                session.suspect = False
            elif self._phase is Phase.FLYING and not session.suspect:
                session.suspect = True
            elif state.established:
                self._found_up(address, session, state.families)
            else:
                self._went_down(address)

    def _found_up(self, address: Address, session: Session, families: frozenset[Family]) -> None:
        """Take a session whose beginning nobody saw: the peer may have been told anything on the allowlist.

        Not so what was heard withdrawn since: that is not withdrawn again by every agent that takes over.
        """
        session.up, session.watched, session.suspect = True, False, False
        for prefix in self._pop.allowlist.prefixes - self._withdrawn.get(address, frozenset()):
            if Family.of(prefix) in families:
                key = RouteKey(address, prefix)
                entry = self._entries.get(key, Entry())
                # ExaBGP replays what it holds, so that is what the peer was told; the rest is open.
                self._entries[key] = replace(entry, told=UNKNOWN if entry.replay is None else entry.replay)

    def _read_routes(self, lines: Iterable[tuple[RouteKey, Route]]) -> None:
        self._phase = Phase.FLYING
        self._withdrawn.clear()
        for key, route in lines:
            session = self._session(key.neighbor)
            entry = replace(self._entries.get(key, Entry()), replay=route)
            if session.up and not session.watched:
                entry = replace(entry, told=route)
            self._entries[key] = entry

    def _proven(self) -> Iterable[tuple[RouteKey, Route]]:
        for key, entry in self._entries.items():
            session = self._session(key.neighbor)
            route = entry.told if session.up else entry.replay
            if route is None or isinstance(route, Unknown):
                continue
            wanted = self._wanted.get(key) if self._wanted is not None else None
            # As it was ordered, so that whoever compares need not know which defaults ExaBGP fills in.
            ordered = (one for one in (wanted, entry.replay) if one is not None and session.link.same(one, route))
            yield key, next(ordered, route)

    def _pending(self) -> Iterable[RouteKey]:
        if self._wanted is None:
            return
        for key in {*self._wanted, *self._entries}:
            session = self._session(key.neighbor)
            entry = self._entries.get(key, Entry())
            if not flight.is_applied(entry, self._wanted.get(key), session.link, up=session.up):
                yield key
