"""The playbook: for every load-driven step that a PoP may take, where the load would land.

It is made ahead of time, by simulation or from measurements (`popctl.wire.playbook` has the file), and read by the
what-if gate. A step is described by flows between PoPs as shares of what the source carries *now*, so that one playbook
holds for day and night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from popctl.model.announce import Announce
from popctl.model.instant import Instant

_ORDER = tuple(Announce)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of a PoP's load ladder: a rung of the announce ladder for every upstream.

    Levels are ordered by blast radius, mildest first; level 0 is normal everywhere.
    """

    name: str
    others: Announce = Announce.NORMAL
    """For every upstream that `upstreams` does not name."""
    upstreams: Mapping[int, Announce] = field(default_factory=dict)
    """By AS number of the neighbour."""

    def rung(self, asn: int) -> Announce:
        """Return what the upstream with this AS number is told."""
        return self.upstreams.get(asn, self.others)

    def rungs(self) -> frozenset[Announce]:
        """Return every rung that this level uses."""
        return frozenset({self.others, *self.upstreams.values()})

    @property
    def withdrawn(self) -> bool:
        """Nobody is told anything."""
        return self.rungs() == {Announce.WITHDRAWN}

    @property
    def summary(self) -> Announce:
        """The one rung that stands for the level where only one can be shown.

        Normal only when all are, withdrawn only when all are; between these the severest rung that still announces,
        and at least depreferred.
        """
        rungs = self.rungs()
        if len(rungs) == 1:
            return next(iter(rungs))
        announcing = max((rung for rung in rungs if rung is not Announce.WITHDRAWN), key=_ORDER.index)
        return max(announcing, Announce.DEPREFERRED, key=_ORDER.index)

    def at_least(self, other: Level) -> bool:
        """Return whether no upstream is told anything milder than under `other`."""
        asns = self.upstreams.keys() | other.upstreams.keys()
        pairs = [(self.others, other.others), *((self.rung(asn), other.rung(asn)) for asn in asns)]
        return all(_ORDER.index(mine) >= _ORDER.index(theirs) for mine, theirs in pairs)


NORMAL = Level(name="normal")

DEFAULT_LADDER = (
    NORMAL,
    Level(name="depreferred", others=Announce.DEPREFERRED),
    Level(name="graceful-shutdown", others=Announce.GRACEFUL_SHUTDOWN),
    Level(name="withdrawn", others=Announce.WITHDRAWN),
)
"""For a PoP that does not treat its upstreams differently."""


CLOCKS_DIFFER_S: Final = 300.0
"""So far into the future a playbook may have been made: the clocks of two hosts are never the same."""


class Origin(StrEnum):
    """What a step's figures rest on, most trusted first."""

    MEASURED = "measured"
    SIMULATED = "simulated"


class Flow(NamedTuple):
    """Sessions that change their PoP."""

    source: str
    target: str | None
    """None: they reach no PoP any more."""
    share: float
    """Of what `source` carries before the step, 0 to 1."""


class StepKey(NamedTuple):
    """One step on one PoP's ladder; `before` and `after` are neighbours on it."""

    pop: str
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step does to the fleet."""

    key: StepKey
    flows: tuple[Flow, ...]
    when: Mapping[str, int] = field(default_factory=dict)
    """Levels of other PoPs that this step's figures assume; a PoP that is not named is at level 0."""
    error: float = 0.0
    """Relative error band: receivers may get (1 + error) times as much, the source may lose (1 - error) as much."""
    origin: Origin = Origin.SIMULATED

    @property
    def touched(self) -> frozenset[str]:
        """Every PoP whose load changes, and the one that steps."""
        named = {pop for flow in self.flows for pop in (flow.source, flow.target) if pop is not None}
        return frozenset(named | {self.key.pop})


@dataclass(frozen=True, slots=True, kw_only=True)
class Playbook:
    """Ladders and steps of a fleet, or of the part of it that one PoP needs."""

    fleet: str
    """The fleet it was made for."""
    created_unix_s: float
    ladders: Mapping[str, tuple[Level, ...]]
    """By PoP; holds every PoP that a flow names."""
    steps: Mapping[StepKey, tuple[Step, ...]]
    """Several rows of one step differ in `when`."""
    reconnect_window_s: float = 60.0
    """All sessions that lose their PoP connect again within this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybookInForce:
    """What the gate judges by, and what is wrong with the file."""

    playbook: Playbook | None = None
    """The part that this PoP needs; None: there never was one that could be read."""
    created: Instant = 0.0
    """When it was made, on this host's monotonic clock."""
    problem: str = ""
    """Why the file as it stands now is not what is in force; empty when it is. For people."""
