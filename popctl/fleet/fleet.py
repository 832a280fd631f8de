"""The hand that speaks for this PoP in the fleet: whole wishes in, whole views out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from popctl.model.fleet import FleetView, FleetWish

OnView: TypeAlias = Callable[[FleetView], None]
"""Called in the event loop with the whole new view after every change of it."""


class Fleet(Protocol):
    """Takes whole wishes, is idempotent, never blocks on the store; `FleetView.problem` is how it complains."""

    def set(self, wish: FleetWish) -> None:
        """Make `wish` the wanted state. Returns at once.

        A permit that the wish no longer names is given back, and before this returns the view without it has been
        reported: whoever decides from the newest view never uses a permit that is on its way back. The other way round,
        a view never shows a permit as held that the newest wish does not name.
        """

    async def run(self, on_view: OnView) -> None:
        """Keep the record and its lease, and report views, until cancelled. Cancelling leaves the record to its lease.

        `set` and `run` belong to one event loop.
        """

    async def release(self) -> None:
        """Leave the fleet in good order, at the end of the agent: the own record goes at once, if the store answers."""
