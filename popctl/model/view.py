"""What the agent knows at one moment: the only input of a decision besides the PoP's configuration and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from popctl.model.announce import Announce
from popctl.model.balancer import BalancerActual
from popctl.model.capacity import CALM, LoadState
from popctl.model.damping import Ledger
from popctl.model.desired import Actual
from popctl.model.fleet import FleetView
from popctl.model.instant import Instant
from popctl.model.load import BackendLoad
from popctl.model.maintenance import Progress
from popctl.model.observation import Intent
from popctl.model.playbook import PlaybookInForce
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason


class Verdict(StrEnum):
    """What is believed of a probe or a backend."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Health:
    """One probe's record. "Rising" and "falling" are words for verdict != leaning."""

    verdict: Verdict = Verdict.UNKNOWN
    leaning: Verdict = Verdict.UNKNOWN
    streak: int = 0
    """Outcomes in a row that agree with `leaning`."""
    refused: int = 0
    """How many of the latest outcomes in a row were refusals."""
    heard_at: Instant | None = None
    """Last PASS or FAIL; UNKNOWN teaches nothing."""
    changed_at: Instant | None = None
    """When the verdict last flipped."""
    reason: Reason | None = None
    """Of the last FAIL, and of a death until something answers: what "down" rests on. None after a PASS."""
    answered_at: Instant | None = None
    """Last PASS, however long ago: news of a death before it is old."""


class Phase(StrEnum):
    """Where a service is in its life; memory between turns, unlike the decision, which is made afresh."""

    START = "start"
    """What ExaBGP already carries has not been read: nothing may change yet."""
    OUT = "out"
    WARMING = "warming"
    IN = "in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What must be remembered of one service from turn to turn."""

    phase: Phase = Phase.START
    since: Instant = 0.0
    """When `phase` was entered."""
    unknown_since: Instant | None = None
    """Since when too little has been known to decide."""
    flaps: tuple[Instant, ...] = ()
    """When the service fell, newest last, inside the flap window."""
    bad_since: Instant | None = None
    """Since when health wants the service out, or has kept it out; None when enough backends are healthy."""
    bad_before: Instant | None = None
    """Since when it was bad as the agent before this one knew it: where `bad_since` begins if it is found bad again."""
    work: Progress | None = None
    """How far planned work has got; None without any."""
    ordered_since: Instant | None = None
    """Since when an order wants the service out."""
    held: bool = False
    """The guard refused what health or an order wants: at the lowest preference until nothing wants it any more."""
    lowered: Announce = Announce.NORMAL
    """How far it has been taken from routers without leaving. Nothing milder is announced before it is known to be good
    and nothing wants it out."""

    @property
    def known_bad_since(self) -> Instant | None:
        """Since when it has been bad as far as anybody knows: what others are told, and the next agent."""
        return self.bad_before if self.bad_since is None else self.bad_since


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A snapshot. Values only; nobody edits it."""

    health: Mapping[ProbeKey, Health] = field(default_factory=dict)
    intents: tuple[Intent, ...] = ()
    actual: Actual = field(default_factory=Actual)
    memory: Mapping[str, Memory] = field(default_factory=dict)
    """By service name."""
    balancer: BalancerActual = field(default_factory=BalancerActual)
    """What the balancer proved."""
    alive: frozenset[int] | None = None
    """Backends that the balancer was last to give new SAs to: of the last decision, or, at the start, of the kernel.
    None: what the kernel holds has not been read."""
    loads: Mapping[int, BackendLoad] = field(default_factory=dict)
    """By backend id; absent: nothing was ever heard of its meter."""
    load_state: LoadState = CALM
    """Where steering by load stands; stays calm in a PoP without it."""
    ledger: Ledger = field(default_factory=dict)
    """What our neighbours keep of our own changes, if they damp flaps."""
    playbook: PlaybookInForce | None = None
    """None: no file was looked at."""
    looked_at: Instant = float("-inf")
    """When the load was last looked at by a decision."""
    fleet: FleetView = field(default_factory=FleetView)
    """What is known of the other PoPs; stays empty in a PoP without a fleet."""
    stopping_since: Instant | None = None
    """The agent was told to stop: every service leaves by the drain order."""
    state_corrupt: bool = False
    """The state file could not be read: orders of operators may be forgotten."""
