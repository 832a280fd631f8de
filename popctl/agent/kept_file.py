"""A file that follows what the agent remembers: written off the event loop, whenever that has changed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from popctl.agent.durable import StateWriteError, replace_durably

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = structlog.get_logger("popctl.state")

RENEW_S: Final = 60.0
"""How old a file may be that says when it was written."""


class KeptFile:
    """Writes the file. A disk that does not take it stands in nobody's way, and is told of once."""

    def __init__(
        self,
        path: Path,
        *,
        facts: Callable[[], object],
        content: Callable[[], bytes],
        loss: str,
        renews: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path = path
        self.kept: object = None
        """The facts that the file holds."""
        self._facts = facts
        self._content = content
        self._loss = loss
        self._renews = renews
        self._changed = asyncio.Event()
        self._failing = False

    def look(self) -> None:
        """See whether there is something to write. Never blocks."""
        if self._facts() != self.kept:
            self._changed.set()

    async def run(self) -> None:
        """Write what changed until cancelled; every `RENEW_S` without a change, too, while `renews` says so."""
        while True:
            await self._due()
            self._changed.clear()
            self.kept, content = self._facts(), self._content()
            try:
                # Off the event loop: a slow disk must not cost the lease.
                await asyncio.to_thread(replace_durably, self.path, content)
                self._failing = False
            except StateWriteError as error:
                # Tried again with the next decision.
                self.kept = None
                if self._failing:
                    continue
                self._failing = True
                _LOG.error(self._loss, path=str(self.path), error=error.problem)

    async def _due(self) -> None:
        try:
            async with asyncio.timeout(RENEW_S if self._renews() else None):
                await self._changed.wait()
        except TimeoutError:
            pass
