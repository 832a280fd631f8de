"""Everything that can happen to a World. One queue, one reader; each event carries whole values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from popctl.model.desired import Actual
from popctl.model.observation import Intent, Observation


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


Event: TypeAlias = Observation | ActualChanged | IntentsChanged | StopOrdered
