"""The fleet as values: what each PoP says of itself, who is counted on, and what one agent knows of all of it.

The word that carries the safety is *stance*. A PoP on duty for a service has promised to announce it until a
transaction of the store lets it go; the floor counts PoPs on duty and nobody else. A permit is the end of that promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from popctl.model.balancer import Labelling
from popctl.model.floor import FloorPolicy as FloorPolicy  # noqa: PLC0414 - marks the re-export
from popctl.model.instant import Instant
from popctl.model.load import PopLoad
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.model.route import Prefix


class Stance(StrEnum):
    """What the fleet may expect of one PoP for one service. Stands in the store beside the report."""

    OUT = "out"
    """Does not announce. Not counted."""
    DUTY = "duty"
    """Announces and does not withdraw without a permit. Counted."""
    PERMIT = "permit"
    """May withdraw, or has: granted against the floor of the others. Not counted, even while it still announces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReport:
    """One service of one PoP: facts only."""

    service: str
    announce: Announce
    """The rung that the PoP wants."""
    announced: tuple[Prefix, ...]
    """Proven to at least one established session, with no change under way. Sorted."""
    healthy: int
    needed: int
    good: bool
    """Enough backends are healthy, or nothing certain speaks against it."""
    reason: str
    """Of the rung, as text: a PoP with a newer popctl may have reasons that this one does not know."""
    bad_since: Instant | None = None
    """When `good` ended, on the clock of whoever holds this value; it travels as an age."""
    stage: str = ""
    """Which probe fails first; empty while good."""
    certain: bool = False
    """All backends refuse at the protocol level: no shared dependency can feign that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PopReport:
    """All that a PoP tells the others."""

    pop: str
    region: str
    services: Mapping[str, ServiceReport]
    load: PopLoad | None = None
    """None: not known, and never 0. Its `at` travels as an age, too."""
    config_digest: str = ""
    incarnation: str = ""
    """Of the agent's process: two agents that run as one PoP are told apart by it."""
    labelling: Labelling | None = None
    """None: it steers nothing by labels, or its popctl does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What stands in the store for one PoP, under its lease."""

    report: PopReport
    stances: Mapping[str, Stance]
    asking: frozenset[str] = frozenset()
    """Services that it wants to withdraw and has no permit for."""

    def stance(self, service: str) -> Stance:
        """Return the stance for a service."""
        return self.stances.get(service, Stance.OUT)


@lru_cache(maxsize=1024)
def _shared(names: frozenset[str]) -> frozenset[str]:
    """Return one set for all that are equal: a thousand PoPs that serve the same look at the same memory."""
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A record as this agent holds it."""

    record: Record
    heard_at: Instant
    created: int
    """Store revision at which the record appeared; a new one means that it was gone in between."""
    modified: int
    serving: frozenset[str] = field(init=False, repr=False, compare=False)
    """The services that the floor may count on this PoP for: on duty, announced, and as far as it knows, serving."""

    load: PopLoad | None = field(init=False, repr=False, compare=False)
    """Of its report."""

    def __post_init__(self) -> None:
        """Find out once what is asked of a thousand members on every turn."""
        stances, told = self.record.stances, self.record.report
        object.__setattr__(self, "load", told.load)
        found = (
            name
            for name, report in told.services.items()
            if stances.get(name) is Stance.DUTY and report.good and report.announced
        )
        object.__setattr__(self, "serving", _shared(frozenset(found)))

    def counts(self, service: str) -> bool:
        """Whether the floor may count on this PoP for a service."""
        return service in self.serving


class PermitState(StrEnum):
    """Where a wanted permit stands."""

    ASKED = "asked"
    """Nothing has been heard yet."""
    REFUSED = "refused"
    """The floor does not allow it now; it is asked again with every change of the fleet."""
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """One wanted permit."""

    service: str
    state: PermitState
    since: Instant
    """When it was first wanted, or granted. To want it by force is another want."""
    reason: Reason | None = None
    """Why it was refused."""
    forced: bool = False
    """It is wanted by force: no floor refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """What one agent knows of the fleet. Replaced whole, never edited."""

    members: Mapping[str, Member] = field(default_factory=dict)
    """By name of the PoP, the own one included; those whose lease ended are gone."""
    permits: Mapping[str, Permit] = field(default_factory=dict)
    """Own ones, by service: those that the last wish named."""
    connected: bool = False
    current_at: Instant = float("-inf")
    """The view is at least as new as the store was then: proven by the echo of an own write or by a whole reading."""
    settled_at: Instant = float("-inf")
    """From when on the others have had time to speak after an outage."""
    revision: int = 0
    """Of the store."""
    lost: Mapping[str, Instant] = field(default_factory=dict)
    """PoPs whose record disappeared, and when that was heard."""
    problem: str = ""
    """Why there is no connection, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWish:
    """The whole wanted state of the own PoP in the store."""

    report: PopReport
    permits: frozenset[str] = frozenset()
    """Services that it wants to be free to withdraw. One that is missing is given back."""
    standing: frozenset[str] = frozenset()
    """Part of `permits`: wanted only ahead of need, so nobody has to make room for it."""
    forced: frozenset[str] = frozenset()
    """Part of `permits`: an operator's order that no floor can refuse."""
