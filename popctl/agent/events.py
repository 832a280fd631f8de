"""Everything that can happen to a World. One queue, one reader; each event carries whole values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from popctl.model.balancer import BalancerActual
from popctl.model.capacity import LoadMemory
from popctl.model.desired import Actual
from popctl.model.fleet import FleetView
from popctl.model.meter import MeterEvent
from popctl.model.observation import Intent, Observation
from popctl.model.past import Past
from popctl.model.playbook import PlaybookInForce


@dataclass(frozen=True, slots=True)
class ActualChanged:
    """The speaker proved, lost or learnt something: the whole new state."""

    actual: Actual


@dataclass(frozen=True, slots=True)
class IntentsChanged:
    """The orders of operators, all of them, as they now stand in the state file."""

    intents: tuple[Intent, ...]
    corrupt: bool = False
    """The state file could not be read; `intents` is what could be told, which is nothing."""


@dataclass(frozen=True, slots=True)
class StopOrdered:
    """The agent was told to stop for good: drain, withdraw, end."""


@dataclass(frozen=True, slots=True)
class TablesInherited:
    """What the kernel holds from before this process was read: whom it gives new SAs to."""

    alive: frozenset[int]


@dataclass(frozen=True, slots=True)
class TablesChanged:
    """The balancer proved, lost or mended something: the whole new state."""

    actual: BalancerActual


@dataclass(frozen=True, slots=True)
class FleetChanged:
    """The fleet's hand heard something: the whole new view."""

    view: FleetView


@dataclass(frozen=True, slots=True)
class PlaybookChanged:
    """The playbook's file was looked at, and something about it is new."""

    found: PlaybookInForce


@dataclass(frozen=True, slots=True)
class LoadRestored:
    """What the agent before this one remembered of steering by load. Comes before anything is announced."""

    memory: LoadMemory


@dataclass(frozen=True, slots=True)
class ServicesRestored:
    """What the agent before this one remembered of its services. Comes before anything is announced."""

    past: Past


Event: TypeAlias = (
    Observation
    | ActualChanged
    | IntentsChanged
    | StopOrdered
    | TablesInherited
    | TablesChanged
    | FleetChanged
    | PlaybookChanged
    | LoadRestored
    | ServicesRestored
    | MeterEvent
)
