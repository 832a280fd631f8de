"""Planned work on a service: the order of an operator with an end, and how far it has got."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from popctl.model.instant import NEVER, Instant


class Stage(StrEnum):
    """How far a service under maintenance has got. It only ever moves on."""

    DRAINING = "draining"
    """Graceful shutdown is announced; routers turn away."""
    WAITING = "waiting"
    """Routers have turned away; the sessions that are left are counted down."""
    WITHDRAWN = "withdrawn"
    OVER = "over"
    """Expired or cancelled: the order means nothing any more, and health brings the service back through warm-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """One order. Deadlines are of this run of the agent; its edge computes them once from the wall times."""

    service: str
    owner: str
    """From the authenticated identity, not from what the client says of itself."""
    reason: str
    created_unix_s: float
    expires_unix_s: float | None = None
    """None: until it is cancelled."""
    drain_s: float = 0.0
    """The longest that sessions are waited for, the drain included; 0 withdraws at once."""
    forced: bool = False
    """Whatever the guard says of the PoPs that are left."""
    began: Instant = 0.0
    drain_until: Instant = 0.0
    expires: Instant = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What must be remembered of a maintenance from turn to turn, and over a restart."""

    stage: Stage = Stage.DRAINING
    since: Instant = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """The live sessions of a service as the meters tell them."""

    count: float | None
    """None: some backend does not tell. Never taken for 0."""
