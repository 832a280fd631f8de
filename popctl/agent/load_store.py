"""Where the PoP stands on its ladder of levels, on disk: a restart must not undo a shed, nor forget a penalty.

Written by the agent alone, on every step and every change of a route. It is no order of anybody: a file that cannot be
believed is as good as none, and the PoP begins at level 0, loudly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from popctl.agent.kept_file import KeptFile
from popctl.config import kept_files
from popctl.model.capacity import LoadMemory, LoadSettings
from popctl.wire.errors import WireError
from popctl.wire.load_file import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.agent.api_orders import Clocks
    from popctl.agent.events import Event
    from popctl.core.decide import Decision
    from popctl.model.instant import Instant

_LOG = structlog.get_logger("popctl.load")

FILE: Final = kept_files.LOAD
"""Beside the state file."""


class LoadKeeper:
    """A sink of the loop that keeps the file. Does nothing where load steers nothing."""

    def __init__(
        self, settings: LoadSettings | None, path: Path, memory: Callable[[], LoadMemory], clocks: Clocks
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._clocks = clocks
        self._file = KeptFile(
            path,
            facts=lambda: _facts(memory()),
            content=self._content,
            loss="a restart would forget what load has done",
        )
        self._file.kept = _facts(LoadMemory())

    def load(self) -> LoadMemory | None:
        """Return what the agent before this one remembered; None if there is nothing that can be believed."""
        if self._settings is None:
            return None
        try:
            found = decode(
                self._file.path.read_bytes(),
                self._settings.ladder,
                self._settings.policies.load,
                unix_s=self._clocks.wall(),
                now=self._clocks.monotonic(),
            )
        except FileNotFoundError:
            return None
        except (OSError, WireError) as error:
            _LOG.error("what load had done is not known: level 0", path=str(self._file.path), error=str(error))
            return None
        self._file.kept = _facts(found)
        return found

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - a sink
        """Take note."""
        if self._settings is not None and decision is not None:
            self._file.look()

    async def run(self) -> None:
        """Write what changed until cancelled.

        Raises:
            ValueError: load steers nothing here.
        """
        if self._settings is None:
            raise ValueError("nothing is remembered where load steers nothing")
        await self._file.run()

    def _content(self) -> bytes:
        ladder = () if self._settings is None else self._settings.ladder
        return encode(self._memory(), ladder, unix_s=self._clocks.wall(), now=self._clocks.monotonic())


def _facts(memory: LoadMemory) -> object:
    """Return what a restart must not forget. When a level was entered follows from when it is written."""
    state = memory.state
    return state.level, state.reason, state.distrusted, state.ungated, memory.ledger
