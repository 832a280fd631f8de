"""What came of a run: values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topology.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one look at the world amounts to. Sessions are whole ones, rounded down."""

    at_s: float
    demand: int
    lost: int
    unreached: int
    waiting: int
    moved: int
    overloaded: int
    """PoPs with more sessions than their tightest resource has room for."""
    hottest: float
    """The fullest PoP: its sessions as a share of those that it has room for with all its backends."""
    announced_capacity: int
    """Room of all PoPs that announce, in sessions,"""
    largest_announced: int
    """and of the largest of them."""
    announced_pops: int
    storm_pops: int
    """PoPs that were asked for more handshakes than they can do."""
    acts: int
    conserved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step that was taken, and when."""

    at_s: float
    pop: str
    before: int
    after: int
    reason: str
    touched: tuple[str, ...]
    planned_room: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What befell which PoPs."""

    kind: str
    at_s: float
    until_s: float
    pops: tuple[str, ...]
    share: float
    """Of what it takes away."""
    upstream: int | None
    """The one that failed, of an upstream failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthAct:
    """A change of what health makes of a PoP."""

    at_s: float
    pop: str
    standing: str
    """A `topology.simulation.health.Standing`."""


@dataclass(slots=True)
class Run:
    """Everything that came of one controller in one scenario."""

    controller: str
    scenario: Scenario
    outside: int = 0
    """Sessions of ASes that the AS graph does not have: they are part of nothing."""
    ticks: list[Tick] = field(default_factory=list)
    frozen: list[Tick] = field(default_factory=list)
    """What would have been without the steps since something last happened; of a run that is to be judged."""
    acts: list[Done] = field(default_factory=list)
    pops: tuple[str, ...] = ()
    """Names, in the fleet's order."""
    utilisation: list[list[float]] = field(default_factory=list)
    """Per tick, and in it per PoP: sessions as a share of those that it has room for with all its backends."""
    faults: tuple[Fault, ...] = ()
    """In the order of the scenario."""
    exact: bool = True
    """The incremental state was what a computation from nothing gives."""
    suppressions: int = 0
    highest_penalty: float | None = None
    blocked: dict[str, int] = field(default_factory=dict)
    health: list[HealthAct] = field(default_factory=list)
    """In order; the same ones whatever the controller, but for what it makes the guard see."""
    stale_acts: int = 0
    """Steps of PoPs that had no fresh reading or no store."""
    digest: str = ""

    @property
    def lost_share(self) -> float:
        """Share of all demand that was not served."""
        demand = sum(tick.demand for tick in self.ticks)
        return sum(tick.lost for tick in self.ticks) / demand if demand else 0.0

    @property
    def worst_share(self) -> float:
        """The worst tick's."""
        return max((tick.lost / tick.demand for tick in self.ticks if tick.demand), default=0.0)
