"""Steering by load: its policy, and what is remembered of a service between turns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from popctl.model.damping import Figures, Ledger
from popctl.model.instant import Instant
from popctl.model.playbook import DEFAULT_LADDER, Level
from popctl.model.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What a step must keep. Shares are of capacity unless they say otherwise."""

    saturation: float = 0.95
    """Above it a PoP counts as overloaded."""
    watermark: float = 0.85
    """No step may take a PoP past it."""
    restore_below: float = 0.60
    """A PoP takes load back only if this is where it would end."""
    minimum_gain: float = 0.05
    """A step that sheds must lower Phi by this share of the own excess,"""
    minimum_gain_sessions: float = 1.0
    """and by so many sessions."""
    reserve_ratio: float = 1.2
    """Announced capacity by demand, after a step."""
    moved_sessions_max: float = float("inf")
    """How many sessions one step may move."""
    view_stale_after_s: float = 10.0
    """A PoP's figures, or the whole view, that are older count for nothing."""
    fresh_share: float = 0.9
    """Of the announcing PoPs: with fewer fresh ones the view as a whole is stale."""
    playbook_max_age_s: float = 7 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPolicy:
    """When load moves a service on its ladder of levels, and how fast. Shares are of capacity."""

    hot: float = 0.85
    """Enter watermark."""
    overloaded: float = 0.95
    """Enter watermark of steps that no gate has judged."""
    hot_for_s: float = 15.0
    """How long without a break before anything is done: three intervals of the meter."""
    dwell_s: float = 240.0
    """Between a step and anything that follows: twice BGP convergence and a window of measurement."""
    restore_dwells: float = 3.0
    """A step is taken back after so many dwells at the earliest: restores are slower than sheds."""
    floor: int = 0
    """The highest level that may be reached while the gate cannot judge. 0: none."""
    useful_share: float = 0.5
    """A step that moved less than this share of what was predicted, and left the PoP hot, was wrong."""
    surprise: float = 1.1
    """A PoP with this many times the predicted sessions is a surprise."""
    patience_dwells: float = 4.0
    """How long a step waits for figures that can verify it, before its row is no longer believed."""
    backoff_s: float = 480.0
    """How long a row that proved wrong is not believed, and doubled each time."""
    backoff_max_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """All that configuration says about steering by load."""

    load: LoadPolicy = field(default_factory=LoadPolicy)
    gate: GatePolicy = field(default_factory=GatePolicy)
    damping: Figures = field(default_factory=Figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """Steering by load as configured for one PoP."""

    services: frozenset[str]
    """Names of the services that move together with the load of the PoP."""
    ladder: tuple[Level, ...] = DEFAULT_LADDER
    policies: Policies = field(default_factory=Policies)
    playbook: Path | None = None
    """The file; None: there is none, and no step is taken beyond the floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a step would do to one PoP."""

    pop: str
    sessions_before: float
    sessions_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A step that was taken and is not verified yet."""

    before: int
    after: int
    at: Instant
    expected: tuple[Expectation, ...] = ()
    """What the gate predicted, the own PoP first; empty when no gate judged it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distrust:
    """A step whose row proved wrong."""

    before: int
    after: int
    until: Instant
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadState:
    """What must be remembered of a service's steering by load from turn to turn."""

    level: int = 0
    since: Instant = 0.0
    """When `level` was entered."""
    reason: Reason | None = None
    """Why it was entered; None at level 0 when nothing is going on."""
    hot_since: Instant | None = None
    pending: Pending | None = None
    distrusted: tuple[Distrust, ...] = ()
    ungated: tuple[Instant, ...] = ()
    """When steps were taken without the gate, newest last: each makes the next restore later."""

    @property
    def settling(self) -> bool:
        """A step waits for verification: tell the others, so that nobody builds on it."""
        return self.pending is not None


CALM = LoadState()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadMemory:
    """What a restart of the agent must not forget."""

    state: LoadState = CALM
    ledger: Ledger = field(default_factory=dict)
