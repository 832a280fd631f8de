"""The hand that moves BGP: the whole wanted table in, proven facts out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from popctl.model.desired import Actual
from popctl.model.route import RouteTable

OnActual: TypeAlias = Callable[[Actual], None]
"""Called in the event loop with the whole new `Actual` after every change of it."""


class SpeakerError(Exception):
    """Base of everything that goes wrong at this boundary."""


class RefusedRouteError(SpeakerError):
    """A wanted route is outside the allowlist. Nothing of the table was sent."""

    def __init__(self, neighbor: str, prefix: str, field: str, found: str) -> None:
        super().__init__(f"{neighbor} {prefix}: {field} {found} is not in the allowlist")
        self.neighbor = neighbor
        self.prefix = prefix
        self.field = field
        self.found = found


class Speaker(Protocol):
    """Takes whole wanted states, is idempotent, and reports only what it proved."""

    async def set(self, routes: RouteTable) -> None:
        """Make `routes` the wanted table. Returns when it is recorded, not when it is applied: `Actual` says that.

        Before the first call the speaker changes nothing: inherited routes stay.

        Raises:
            RefusedRouteError: a route is outside the allowlist; the earlier table stays in force.
        """

    async def run(self, on_actual: OnActual) -> None:
        """Hold the connection and the lease, and work until cancelled. Cancelling leaves routes and session alone."""

    async def release(self) -> None:
        """Give the lease back in good order: the relay withdraws nothing and waits one lease for a successor."""
