"""One prefix on one session: what is wanted, what is in flight, what is proven. Pure; time is an argument.

Rules, in this order:

1. One change per prefix in flight. ExaBGP sends a batch by attribute, not by command, so a second change before the
   first is out can arrive before it and stay for ever.
2. `done` proves only that ExaBGP queued the change and will replay it. A change is applied when the echo of the
   session says so, or, without a session, when it would be replayed.
3. Nothing is ordered while a fresh session gets its first batch: that batch drops every withdraw.
4. What ExaBGP believes to have sent, it does not send again. An announcement that did not get out is withdrawn first.
5. A withdraw that is not proven goes out again, then the session goes down, then ExaBGP does. An announcement is
   tried again at leisure: not being announced endangers nobody, a session reset might.
6. Silence counts only while somebody listens: a deadline is judged by what was read after it, and one that passed long
   ago, unseen, is put off once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from popctl.bgp.told import Told
from popctl.model.instant import NEVER, Instant

if TYPE_CHECKING:
    from popctl.bgp.told import Link
    from popctl.model.route import Address, Route, RouteKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each step may take before the next one."""

    answer_s: float = 2.0
    """Order to `done`. Longer means that ExaBGP hangs."""
    echo_s: tuple[float, ...] = (0.25, 0.5, 1.0)
    """`done` to echo, for the first, second and third withdraw; the last also for a session reset."""
    announce_echo_s: float = 1.0
    first_batch_s: float = 2.0
    """Session up to End-of-RIB."""
    again_s: float = 5.0
    """Between attempts to announce what was refused or never got out."""
    late_s: float = 0.25
    """A deadline that is judged later than this passed while the host stood still, perhaps ExaBGP, too. It counts for
    nothing once, and the answer gets this long again."""
    read_s: float = 5.0
    """Between two looks at the sessions, because state events can get lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """Announce this route."""

    key: RouteKey
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Withdraw this prefix."""

    key: RouteKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Teardown:
    """Reset this session."""

    neighbor: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End ExaBGP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRoutes:
    """Read what ExaBGP would replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNeighbors:
    """Read which sessions are established."""


Order: TypeAlias = Announce | Withdraw | Teardown | Stop | ReadRoutes | ReadNeighbors


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A change that was ordered and is not settled."""

    target: Route | None
    deadline: Instant
    answered: bool = False
    excused: bool = False
    """Its deadline passed unseen once, and was put off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All that is known about one prefix on one session."""

    replay: Route | None = None
    """What ExaBGP holds, and sends to the next session."""
    told: Told = None
    """What the peer was told in the present session."""
    flight: Flight | None = None
    attempts: int = 0
    """Changes in a row that were not proven in time."""
    not_before: Instant = 0.0
    """Do not try again earlier."""
    failed: bool = False
    """Needed escalation, or was refused: alarm."""


def is_applied(entry: Entry, target: Route | None, link: Link, *, up: bool) -> bool:
    """Whether `target` is proven."""
    return link.same(entry.replay, target) and (not up or link.same(entry.told, target))


def settled(entry: Entry, link: Link, *, up: bool) -> Entry:
    """End a flight whose change is answered and proven."""
    flight = entry.flight
    if flight is None or not flight.answered or not is_applied(entry, flight.target, link, up=up):
        return entry
    return replace(entry, flight=None)


def answered(entry: Entry, now: Instant, patience: Patience) -> Entry:
    """Take the `done` of the change in flight: from now on the echo is waited for."""
    flight = entry.flight
    if flight is None:
        return entry
    if flight.target is not None:
        echo_s = patience.announce_echo_s
    else:
        echo_s = patience.echo_s[min(entry.attempts, len(patience.echo_s) - 1)]
    return replace(entry, flight=replace(flight, answered=True, excused=False, deadline=now + echo_s))


def rejected(entry: Entry, now: Instant, patience: Patience) -> Entry:
    """Take an `error` or a refusal of the change in flight: nothing changed, and trying harder changes nothing.

    However often: only silence leads beyond a session reset, because whoever refuses works.
    """
    attempts = min(entry.attempts + 1, len(patience.echo_s))
    return replace(entry, flight=None, attempts=attempts, failed=True, not_before=now + patience.again_s)


def judged(entry: Entry, patience: Patience, heard: Instant) -> Entry:
    """End a flight that was not settled by its deadline, as far as all that came by `heard` tells."""
    flight = entry.flight
    if flight is None or heard < flight.deadline:
        return entry
    if heard > flight.deadline + patience.late_s and not flight.excused:
        return replace(entry, flight=replace(flight, deadline=heard + patience.late_s, excused=True))
    # Without an answer ExaBGP hangs: a withdraw skips what only a working ExaBGP could do.
    hangs = flight.target is None and not flight.answered
    attempts = len(patience.echo_s) + 1 if hangs else entry.attempts + 1
    return replace(entry, flight=None, attempts=attempts)


def step(
    key: RouteKey, entry: Entry, target: Route | None, link: Link, patience: Patience, now: Instant, *, up: bool
) -> tuple[Entry, Order | None]:
    """Return what to order now, if anything, and the entry after it."""
    if entry.flight is not None:
        return entry, None
    if is_applied(entry, target, link, up=up):
        return replace(entry, attempts=0, not_before=0.0, failed=False), None
    if now < entry.not_before:
        return entry, None
    if target is None:
        return _withdraw(key, entry, patience, now)
    if entry.attempts > 1:
        # Rule 5: at leisure. Two attempts cover both an announcement and the withdraw that rule 4 puts before it.
        return replace(entry, attempts=0, failed=True, not_before=now + patience.again_s), None
    if up and link.same(entry.replay, target):
        return _fly(entry, None, patience, now), Withdraw(key=key)
    return _fly(entry, target, patience, now), Announce(key=key, route=target)


def _withdraw(key: RouteKey, entry: Entry, patience: Patience, now: Instant) -> tuple[Entry, Order]:
    tries = len(patience.echo_s)
    if entry.attempts < tries:
        return _fly(entry, None, patience, now), Withdraw(key=key)
    flight = Flight(target=None, deadline=now + patience.echo_s[-1])
    entry = replace(entry, flight=flight, failed=True)
    if entry.attempts == tries:
        return entry, Teardown(neighbor=key.neighbor)
    return entry, Stop()


def _fly(entry: Entry, target: Route | None, patience: Patience, now: Instant) -> Entry:
    return replace(entry, flight=Flight(target=target, deadline=now + patience.answer_s))


def next_deadline(entry: Entry) -> Instant:
    """Return when `step` has something to do for time alone."""
    if entry.flight is not None:
        return entry.flight.deadline
    return entry.not_before or NEVER
