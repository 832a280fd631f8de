"""The life of one service from turn to turn: out, warming, in. Remembers; chooses nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

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


def advance(memory: Memory, inputs: Inputs, timing: Timing, now: Instant) -> Memory:
    """Fold the present into `memory`. `advance(advance(m, i), i)` at one `now` equals `advance(m, i)`."""
    if memory.phase is Phase.START:
        if not inputs.inherited:
            return memory
        # Adoption: a route that is out there is kept until health says otherwise, without a new warm-up. A restart
        # of the agent must not be seen by any router.
        memory = Memory(phase=Phase.IN if inputs.carried else Phase.OUT, since=now)
    if inputs.kept_out:
        return memory if memory.phase is Phase.OUT else Memory(phase=Phase.OUT, since=now, flaps=memory.flaps)
    if memory.phase is Phase.IN:
        return _stay_or_fall(memory, inputs, timing, now)
    return _rise(memory, inputs.condition, timing, now)


def _stay_or_fall(memory: Memory, inputs: Inputs, timing: Timing, now: Instant) -> Memory:
    match inputs.condition:
        case Condition.GOOD:
            return replace(memory, unknown_since=None)
        case Condition.UNSURE if not inputs.carried:
            # There is nothing to hold: the lease ran out while the agent hung, or ExaBGP is gone. Not a fall either.
            return Memory(phase=Phase.OUT, since=now, flaps=memory.flaps)
        case Condition.UNSURE:
            since = now if memory.unknown_since is None else memory.unknown_since
            if now < since + timing.unknown_hold_s:
                return replace(memory, unknown_since=since)
        case Condition.BAD:
            pass
    recent = tuple(at for at in memory.flaps if at > now - timing.flap_window_s)
    return Memory(phase=Phase.OUT, since=now, flaps=(*recent, now))


def _rise(memory: Memory, condition: Condition, timing: Timing, now: Instant) -> Memory:
    if condition is not Condition.GOOD:
        return memory if memory.phase is Phase.OUT else Memory(phase=Phase.OUT, since=now, flaps=memory.flaps)
    if memory.phase is Phase.OUT:
        memory = Memory(phase=Phase.WARMING, since=now, flaps=memory.flaps)
    if now < max(memory.since + timing.warm_up_s, hold_down_until(memory, timing)):
        return memory
    return Memory(phase=Phase.IN, since=now, flaps=memory.flaps)


def hold_down_until(memory: Memory, timing: Timing) -> Instant:
    """Return when repeated falls no longer keep the service out: the wait doubles with each fall in the window."""
    if not memory.flaps:
        return -NEVER
    last = memory.flaps[-1]
    recent = sum(at > last - timing.flap_window_s for at in memory.flaps)
    # The exponent is bounded before it is used: 2.0 ** 1024 overflows.
    doublings = min(recent - 1, 64)
    return last + min(timing.hold_down_s * 2.0**doublings, timing.hold_down_max_s)
