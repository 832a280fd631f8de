"""How many probes may be in flight: in all, per gateway, per kind. Sans-IO; time is an argument.

A probe that finds no room waits a little in line and is then given up, visibly, instead of running late in silence.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from popctl.model.instant import NEVER, Instant

if TYPE_CHECKING:
    from popctl.model.probe import ProbeKey

WAIT_S: Final = 0.2
"""How long a probe waits for room, unless told otherwise."""


class Pool(NamedTuple):
    """What probes share, and how many may share it at once."""

    name: str
    limit: int


class Ticket:
    """The claim of one run: in line, in, or out. Only `Admission` changes it."""

    __slots__ = ("give_up_at", "held", "key", "pools", "waiting")

    def __init__(self, key: ProbeKey, pools: tuple[Pool, ...]) -> None:
        """Claim one place in each of `pools`."""
        self.key = key
        self.pools = pools
        self.held = 0
        """Places taken so far, in the order of the pools; nobody waits for a pool without holding those before it."""
        self.waiting = False
        self.give_up_at: Instant = NEVER


class Admission:
    """Counts places. Name the widest pool last: whoever holds it runs, so nobody waits in a circle."""

    def __init__(self, *, wait_s: float = WAIT_S) -> None:
        """Let a probe wait in line for `wait_s`."""
        self._wait_s = wait_s
        self._taken: dict[str, int] = {}
        self._lines: dict[str, deque[Ticket]] = {}
        self._by_age: deque[Ticket] = deque()
        self._admitted: deque[Ticket] = deque()
        self.in_flight = 0
        self.waiting = 0

    def enter(self, key: ProbeKey, pools: tuple[Pool, ...], now: Instant) -> Ticket:
        """Put a run in line; `admitted` hands it out as soon as there is room, perhaps at once."""
        ticket = Ticket(key, pools)
        self._advance(ticket)
        if ticket.waiting:
            ticket.give_up_at = now + self._wait_s
            self._by_age.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give back all places, or the place in line. Leaving twice is harmless."""
        if ticket.waiting:
            ticket.waiting = False  # its line skips it later
            self.waiting -= 1
        elif ticket.held:
            self.in_flight -= 1
        held, ticket.held = ticket.held, 0
        for pool in ticket.pools[:held]:
            self._give_back(pool.name)

    def admitted(self) -> Ticket | None:
        """Return the next run that may begin now, in order of admission."""
        while self._admitted:
            ticket = self._admitted.popleft()
            if ticket.held:
                return ticket
        return None

    def expired(self, now: Instant) -> list[Ticket]:
        """Take those out of line who have waited too long, oldest first."""
        late = []
        while self._by_age and (not self._by_age[0].waiting or self._by_age[0].give_up_at <= now):
            ticket = self._by_age.popleft()
            if ticket.waiting:
                self.leave(ticket)
                late.append(ticket)
        return late

    def next_expiry(self) -> Instant:
        """Return when `expired` has something to say, at the earliest."""
        return self._by_age[0].give_up_at if self._by_age else NEVER

    def _advance(self, ticket: Ticket) -> None:
        """Take as many places as there are; wait at the first pool that is full."""
        for pool in ticket.pools[ticket.held :]:
            taken = self._taken.get(pool.name, 0)
            if taken >= pool.limit:
                self._lines.setdefault(pool.name, deque()).append(ticket)
                self.waiting += not ticket.waiting
                ticket.waiting = True
                return
            self._taken[pool.name] = taken + 1
            ticket.held += 1
        self.waiting -= ticket.waiting
        ticket.waiting = False
        self.in_flight += 1
        self._admitted.append(ticket)

    def _give_back(self, name: str) -> None:
        """Free one place and let the first who still waits for it move on."""
        taken = self._taken[name] - 1
        if taken:
            self._taken[name] = taken
        else:
            del self._taken[name]
        line = self._lines.get(name)
        while line:
            ticket = line.popleft()
            if ticket.waiting:
                self._advance(ticket)
                break
        if line is not None and not line:
            del self._lines[name]
