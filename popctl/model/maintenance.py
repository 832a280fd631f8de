"""Planned work on a service: the order of an operator with an end, and how far it has got."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from popctl.model.instant import NEVER, Instant


class Stage(StrEnum):
    """How far a service under maintenance has got. While the agent runs it only ever moves on."""

    DRAINING = "draining"
    """Graceful shutdown is announced; routers turn away."""
    WAITING = "waiting"
    """Routers have turned away; the sessions that are left are counted down."""
    WITHDRAWN = "withdrawn"
    OVER = "over"
    """Expired or cancelled: the order means nothing any more, and health brings the service back through warm-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """The clock of one order, in instants of this run of the agent; `wire.intents_file` keeps it in wall time."""

    began: Instant = 0.0
    drain_until: Instant = 0.0
    """The longest that sessions are waited for, the drain included; `began` withdraws at once."""
    expires: Instant = NEVER
    """From then on it means nothing any more; NEVER: until it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What must be remembered of a maintenance from turn to turn.

    A restart finds it anew: the order's clock goes on, the meters count again, and what is announced stays meanwhile.
    """

    stage: Stage = Stage.DRAINING
    since: Instant = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """The live sessions of a service as the meters tell them."""

    count: float | None
    """None: some backend does not tell. Never taken for 0."""
