"""Who decides on load in a simulation: what a controller sees and does, and the usual ones to compare with.

Each comparison controller is what people write first; none of them asks where the load would land.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from topology.simulation.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from topology.announce import Announcement
    from topology.flat import Longs
    from topology.fleet import Fleet

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]


class Act(NamedTuple):
    """One step of one PoP."""

    pop: int
    before: int
    after: int
    reason: str
    touched: tuple[str, ...] = ()
    """PoPs whose load the controller expects to change, if it expects anything."""
    planned_room: float = 0.0
    """The fullest that it expects any of them to be, as a share of what it has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the PoPs' own meters say at one moment."""

    now_s: float
    sessions: Floats
    bit_s: Floats
    handshakes_s: Floats
    metered: Flags
    """The reading of this moment arrived."""
    connected: Flags
    """The store can be reached."""
    alive: Floats
    """Share of the backends that serve."""
    tightness: Floats
    """Share of the tightest resource; 0 where nothing was metered."""
    room: Longs
    """How many sessions each PoP has room for with all its backends."""


class Controller(Protocol):
    """Moves PoPs along its ladder."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    @property
    def levels(self) -> Sequence[int]:
        """Where every PoP stands."""

    def turn(self, seen: Seen) -> list[Act]:
        """Look once, and step."""

    def routes(self, pop: int, level: int) -> tuple[Announcement | None, ...]:
        """Return what the sessions of a PoP carry on a level."""


class _Simple:
    """A controller that looks at each PoP alone. Level 0 is normal, the last one the severest."""

    name = "none"
    stages: tuple[int | None, ...] = (0,)
    """Prepends per level; None is withdrawn."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.levels = [0] * len(fleet.pops)
        self.fleet = fleet
        self._told = [[one.announcement for one in fleet.sessions if one.pop == pop] for pop in range(len(fleet.pops))]
        self._jitter = Streams(seed, "jitter", (pop.name for pop in fleet.pops))

    def routes(self, pop: int, level: int) -> tuple[Announcement | None, ...]:
        """Return the prepends of a level."""
        times = self.stages[level]
        if times is None:
            return (None,) * len(self._told[pop])
        return tuple(replace(one, prepend=one.prepend + times) if times else one for one in self._told[pop])

    def turn(self, seen: Seen) -> list[Act]:
        """Look at each PoP."""
        acts: list[Act] = []
        for pop in self._order(seen):
            after = self.wanted(pop, seen)
            if after != self.levels[pop] and self.allowed(pop, after, seen, acts):
                acts.append(Act(pop, self.levels[pop], after, self.name))
                self.levels[pop] = after
        return acts

    def _order(self, seen: Seen) -> list[int]:
        """Return the PoPs that may want something."""
        busy = (seen.metered & (seen.tightness > 0)) | (np.array(self.levels) > 0)
        found: list[int] = np.flatnonzero(busy).tolist()
        return found

    def wanted(self, pop: int, seen: Seen) -> int:
        """Return the level that a PoP should stand on."""
        del seen
        return self.levels[pop]

    def allowed(self, pop: int, after: int, seen: Seen, acts: Sequence[Act]) -> bool:
        """Tell whether a step may be taken after those of this look."""
        del pop, after, seen, acts
        return True

    def hold_s(self, pop: int, seen: Seen, low: float, high: float, tick_s: float) -> float:
        """Return a jittered time."""
        return (low + (high - low) * self._jitter.one(pop, int(seen.now_s // tick_s))) * tick_s


class DoNothing(_Simple):
    """The frozen baseline: no control by load."""

    def turn(self, seen: Seen) -> list[Act]:
        """Do nothing."""
        del seen
        return []


class NaiveWithdraw(_Simple):
    """Above 100 %: withdraw. Next look: announce."""

    name = "naive-withdraw"
    stages = (0, None)

    def wanted(self, pop: int, seen: Seen) -> int:
        """Return 1 while above capacity."""
        return int(self.levels[pop] == 0 and seen.tightness[pop] > 1.0)


class ThreeStrikes(_Simple):
    """Three looks in a row above 100 %: withdraw, and hold down for 10 to 15 looks."""

    name = "three-strikes"
    stages = (0, None)
    strikes = 3

    def __init__(self, fleet: Fleet, seed: int, tick_s: float) -> None:
        super().__init__(fleet, seed)
        self.tick_s = tick_s
        self._struck = [0] * len(fleet.pops)
        self._until = [0.0] * len(fleet.pops)

    def wanted(self, pop: int, seen: Seen) -> int:
        """Return 1 after three strikes, until the hold-down ends."""
        if self.levels[pop]:
            self._struck[pop] = 0
            return int(seen.now_s < self._until[pop])
        self._struck[pop] = self._struck[pop] + 1 if seen.tightness[pop] > 1.0 else 0
        if self._struck[pop] < self.strikes:
            return 0
        self._until[pop] = seen.now_s + self.hold_s(pop, seen, 10, 15, self.tick_s)
        return 1


class GuardedStrikes(ThreeStrikes):
    """The same with guards: at most 1 % of the PoPs per look, and announced capacity at least 1.25 times the load."""

    name = "guarded-strikes"
    floor = 1.25
    share = 0.01

    def allowed(self, pop: int, after: int, seen: Seen, acts: Sequence[Act]) -> bool:
        """Refuse what the guards do not let pass."""
        if after == 0:
            return True
        left = [one for one, level in enumerate(self.levels) if level == 0 and one != pop]
        enough = seen.room[left].sum() >= self.floor * seen.sessions.sum()
        return bool(enough) and len(acts) < max(1, int(self.share * len(self.levels)))


class StagedPrepend(_Simple):
    """Above 100 %: one prepend more, up to three; below 50 %: one less; jittered hold of 5 to 10 looks after each."""

    name = "staged-prepend"
    stages = (0, 1, 2, 3)

    def __init__(self, fleet: Fleet, seed: int, tick_s: float) -> None:
        super().__init__(fleet, seed)
        self.tick_s = tick_s
        self._until = [0.0] * len(fleet.pops)

    def wanted(self, pop: int, seen: Seen) -> int:
        """Return a neighbouring stage."""
        level = self.levels[pop]
        if seen.now_s < self._until[pop] or not seen.metered[pop]:
            return level
        step = int(seen.tightness[pop] > 1.0) - int(seen.tightness[pop] < 0.5)  # noqa: PLR2004 - as its name says
        after = min(max(level + step, 0), len(self.stages) - 1)
        if after != level:
            self._until[pop] = seen.now_s + self.hold_s(pop, seen, 5, 10, self.tick_s)
        return after
