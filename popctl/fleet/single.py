"""No fleet: the default of a PoP that has nobody to ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from popctl.fleet.fleet import OnView
    from popctl.model.fleet import FleetWish


class SingleFleet:
    """Implements `Fleet` without a store. Reports no view; `policy=None` tells the guard that there is no fleet."""

    def set(self, wish: FleetWish) -> None:
        """Take note of nothing."""

    async def run(self, on_view: OnView) -> None:  # noqa: ARG002 - the protocol's parameter; there is never a view
        """Wait until cancelled."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Do nothing."""
