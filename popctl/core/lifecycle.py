"""The life of one service from turn to turn: out, warming, in. Remembers; chooses nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from popctl.model.announce import Announce
from popctl.model.instant import NEVER, Instant
from popctl.model.pop import Timing
from popctl.model.view import Memory, Phase


class Condition(Enum):
    """What health says about a service as a whole."""

    GOOD = "good"
    UNSURE = "unsure"
    """Enough backends may be healthy, but it is not known that they are."""
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What moves a service from one phase to another."""

    condition: Condition
    inherited: bool
    """What ExaBGP carries has been read."""
    carried: bool
    """ExaBGP carries a route of this service."""
    kept_out: bool
    """An order keeps the service withdrawn, whatever its health."""
    stays_out: bool = False
    """An order is on its way to that. It keeps what is announced, and never brings back what is not."""
    carried_at: Announce | None = None
    """Where on the ladder the carried routes stand; None: nowhere that the present configuration knows."""


def feel(memory: Memory, inputs: Inputs, timing: Timing, now: Instant) -> Memory:
    """Fold the present into `memory` without moving from "in" or to it: what the guard is asked with.

    `feel(feel(m, i), i)` at one `now` equals `feel(m, i)`.
    """
    if memory.phase is Phase.START:
        if not inputs.inherited:
            return memory
        # Adoption: a route that is out there is kept until health says otherwise, without a new warm-up. A restart
        # of the agent must not be seen by any router.
        memory = _adopted(memory, inputs, now)
    memory = replace(memory, ordered_since=_since(memory.ordered_since, now) if inputs.kept_out else None)
    match inputs.condition:
        case Condition.GOOD:
            memory = replace(memory, bad_since=None, bad_before=None, unknown_since=None)
        case Condition.BAD:
            memory = replace(_bad(memory, now), unknown_since=None)
        case Condition.UNSURE if memory.phase is Phase.IN and inputs.carried:
            unknown_since = _since(memory.unknown_since, now)
            expired = now >= unknown_since + timing.unknown_hold_s
            memory = replace(_bad(memory, now) if expired else memory, unknown_since=unknown_since)
        case Condition.UNSURE:
            pass
    if wants_out(memory):
        return memory
    known_good = inputs.condition is Condition.GOOD and not inputs.stays_out
    return replace(memory, held=False, lowered=Announce.NORMAL if known_good else memory.lowered)


def wants_out(memory: Memory) -> bool:
    """Return whether health or an order is against announcing."""
    return memory.bad_since is not None or memory.ordered_since is not None


def advance(memory: Memory, inputs: Inputs, timing: Timing, now: Instant, *, may_leave: bool = True) -> Memory:
    """Fold the present into `memory`. `advance(advance(m, i), i)` at one `now` equals `advance(m, i)`.

    Without `may_leave` a service that is in stays in, whatever health and orders want.
    """
    memory = feel(memory, inputs, timing, now)
    match memory.phase:
        case Phase.START:
            return memory
        case Phase.IN:
            return _stay_or_leave(memory, inputs, timing, now, may_leave=may_leave)
        case _ if inputs.kept_out or inputs.stays_out:
            return memory if memory.phase is Phase.OUT else _out(memory, now)
        case _:
            return _rise(memory, inputs.condition, timing, now)


def _since(known: Instant | None, now: Instant) -> Instant:
    return now if known is None else known


def _bad(memory: Memory, now: Instant) -> Memory:
    return replace(memory, bad_since=_since(memory.known_bad_since, now), bad_before=None)


def _adopted(memory: Memory, inputs: Inputs, now: Instant) -> Memory:
    """Return what a service begins with whose routes were read: where they stand it stays until it is known better."""
    if not inputs.carried:
        return replace(memory, phase=Phase.OUT, since=now, lowered=Announce.NORMAL)
    return replace(memory, phase=Phase.IN, since=now, lowered=inputs.carried_at or memory.lowered)


def _out(memory: Memory, now: Instant) -> Memory:
    return replace(memory, phase=Phase.OUT, since=now, unknown_since=None, held=False, lowered=Announce.NORMAL)


def _stay_or_leave(memory: Memory, inputs: Inputs, timing: Timing, now: Instant, *, may_leave: bool) -> Memory:
    if inputs.condition is Condition.UNSURE and not inputs.carried:
        # There is nothing to hold: the lease ran out while the agent hung, or ExaBGP is gone. Not a fall either.
        return _out(memory, now)
    if not wants_out(memory):
        return memory
    if not may_leave:
        return memory
    if inputs.kept_out:
        return _out(memory, now)
    recent = tuple(at for at in memory.flaps if at > now - timing.flap_window_s)
    return replace(_out(memory, now), flaps=(*recent, now))


def _rise(memory: Memory, condition: Condition, timing: Timing, now: Instant) -> Memory:
    if condition is not Condition.GOOD:
        return memory if memory.phase is Phase.OUT else _out(memory, now)
    if memory.phase is Phase.OUT:
        memory = replace(memory, phase=Phase.WARMING, since=now)
    if now < max(memory.since + timing.warm_up_s, hold_down_until(memory, timing)):
        return memory
    return replace(memory, phase=Phase.IN, since=now)


def hold_down_until(memory: Memory, timing: Timing) -> Instant:
    """Return when repeated falls no longer keep the service out: the wait doubles with each fall in the window."""
    if not memory.flaps:
        return -NEVER
    last = memory.flaps[-1]
    recent = sum(at > last - timing.flap_window_s for at in memory.flaps)
    # The exponent is bounded before it is used: 2.0 ** 1024 overflows.
    doublings = min(recent - 1, 64)
    return last + min(timing.hold_down_s * 2.0**doublings, timing.hold_down_max_s)
