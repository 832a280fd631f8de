"""What the senses report and what an operator orders: the inputs of every decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from popctl.model.instant import NEVER, Instant
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason


class Outcome(StrEnum):
    """Three, not two: our own trouble (UNKNOWN) is never held against a backend."""

    PASS = "pass"  # noqa: S105 - an outcome, not a credential
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One finished probe."""

    key: ProbeKey
    outcome: Outcome
    reason: Reason
    at: Instant
    """When it finished."""
    rtt_s: float | None = None
    detail: str = ""
    """For people only, such as the notify type that came instead; no decision reads it."""


class IntentKind(StrEnum):
    """What an operator can order in one PoP."""

    WITHDRAW = "withdraw"
    """A service: graceful shutdown for the drain time, then withdrawn until announced again."""
    DRAIN = "drain"
    """A backend: counts for nothing new until undrained."""


class DrainEnd(StrEnum):
    """What happens to a draining backend at its deadline."""

    WAIT = "wait"
    """Nothing: it drains until it is undrained."""
    CUT = "cut"
    """It leaves the balancer, and its SAs are ended where VICI is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An order of an operator. It outlives restarts; health logic cannot undo it."""

    kind: IntentKind
    target: str
    """Service name for WITHDRAW, backend name for DRAIN."""
    reason: str
    owner: str
    created_unix_s: float
    """Wall time, for display and for the state file. A WITHDRAW that replaces one has its time: its drain goes on."""
    drain_s: float = 0.0
    """WITHDRAW: how long graceful shutdown is announced first. DRAIN: how long until the deadline, 0 is none."""
    drain_until: Instant = 0.0
    """The same as a deadline of this run of the agent; the edge computes it once from wall time."""
    then: DrainEnd = DrainEnd.WAIT
    """DRAIN only."""
    expires_unix_s: float | None = None
    """WITHDRAW: wall time from which the order means nothing any more; None: until it is lifted."""
    expires: Instant = NEVER
    """The same as a moment of this run of the agent; the edge computes it once from wall time."""
    forced: bool = False
    """WITHDRAW only: whatever the guard says of the PoPs that are left."""
    refuse_new: bool = False
    """WITHDRAW of a balanced service only: new SAs are refused while it drains, instead of served."""

    def cuts(self, now: Instant) -> bool:
        """Return whether this is a drain whose deadline has passed and which ends with a cut."""
        drains = self.kind is IntentKind.DRAIN and self.then is DrainEnd.CUT
        return drains and self.drain_s > 0 and now >= self.drain_until
