"""What services have been through, on disk: a restart must end neither a hold-down nor a freeze of the fleet.

Written by the agent alone, on every fall and every change of what it wants out. It is no order of anybody: a file that
cannot be believed is as good as none, loudly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from popctl.agent.kept_file import KeptFile
from popctl.config import kept_files
from popctl.model.announce import Announce
from popctl.model.past import Past
from popctl.wire.errors import WireError
from popctl.wire.services_file import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.agent.api_orders import Clocks
    from popctl.agent.events import Event
    from popctl.core.decide import Decision
    from popctl.model.instant import Instant

_LOG = structlog.get_logger("popctl.state")

FILE: Final = kept_files.SERVICES
"""Beside the state file."""


class ServicesKeeper:
    """A sink of the loop that keeps the file."""

    def __init__(self, path: Path, past: Callable[[], Past], clocks: Clocks) -> None:
        self._past = past
        self._clocks = clocks
        self._file = KeptFile(
            path,
            facts=past,
            content=lambda: encode(past(), unix_s=clocks.wall(), now=clocks.monotonic()),
            loss="a restart would forget what services have been through",
            renews=self._dated,
        )
        self._file.kept = Past()

    def load(self) -> Past | None:
        """Return what the agent before this one remembered; None if there is nothing that can be believed."""
        try:
            content = self._file.path.read_bytes()
            found = decode(content, unix_s=self._clocks.wall(), now=self._clocks.monotonic())
        except FileNotFoundError:
            return None
        except (OSError, WireError) as error:
            _LOG.error("what services have been through is not known", path=str(self._file.path), error=str(error))
            return None
        self._file.kept = found
        return found

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - a sink
        """Take note."""
        if decision is not None:
            self._file.look()

    async def run(self) -> None:
        """Write what changed until cancelled."""
        await self._file.run()

    def _dated(self) -> bool:
        """Return whether it matters when the file was written: how long the agent was away is told by that."""
        services = self._past().services.values()
        return any(one.bad_since is not None or one.lowered is not Announce.NORMAL for one in services)
