"""The playbook's file as the agent follows it: read when it changes, believed only if it fits, else alarm and keep.

A file that is worse than the one in force changes nothing but the alarm: like a bad configuration, it does not replace
a good one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog

from popctl.agent.events import PlaybookChanged
from popctl.config import playbook_check
from popctl.model.playbook import Playbook, PlaybookInForce

if TYPE_CHECKING:
    from popctl.agent.api_orders import Clocks
    from popctl.config.errors import Problem
    from popctl.model.pop import Pop

_LOG = structlog.get_logger("popctl.playbook")

LOOK_EVERY_S: Final = 10.0
_CLOCK_SET_S: Final = 5.0
"""A wall clock that moved by more against the monotonic one was set, or has drifted for long."""

Audit: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[object]]
"""Takes a reason and details."""


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells one state of a file from another without reading it."""

    inode: int
    size: int
    written_ns: int
    changed_ns: int
    """Of what is written about the file, too: owner and mode decide whether it can be read."""


class PlaybookFile:
    """Follows the file of one PoP. Does nothing where none is configured."""

    def __init__(self, pop: Pop, put: Callable[[PlaybookChanged], None], clocks: Clocks, audit: Audit) -> None:
        self._pop = pop
        self._put = put
        self._clocks = clocks
        self._audit = audit
        self._seen: _Stamp | None = None
        self._in_force: PlaybookInForce | None = None
        self._old = False
        self._offset_s = 0.0
        """Between the clocks, as the file was judged by."""

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Look at the file once, and take it if it is new and fits.

        A wall clock that was set makes it new, too; and what was refused is read again, for the reason may have gone
        without a trace in the file.
        """
        load = self._pop.load
        if load is None or load.playbook is None:
            return
        stamp = await asyncio.to_thread(_stamp, load.playbook)
        if stamp != self._seen or self._refused or abs(self._offset() - self._offset_s) > _CLOCK_SET_S:
            self._seen = stamp
            await self._read(load.playbook)
        elif self._grew_old(load.policies.gate.playbook_max_age_s):
            _LOG.error("the playbook is too old: nothing is done for load beyond the floor", path=str(load.playbook))

    async def _read(self, path: Path) -> None:
        self._offset_s = self._offset()
        found, problem = await asyncio.to_thread(self._judge, path)
        before = self._in_force
        kept = before.playbook if problem is not None and before is not None and before.playbook is not None else found
        created = 0.0 if kept is None else kept.created_unix_s - self._offset_s
        fresh = PlaybookInForce(playbook=kept, created=created, problem="" if problem is None else str(problem))
        same = before is not None and (fresh.playbook, fresh.problem) == (before.playbook, before.problem)
        if same and before is not None and abs(fresh.created - before.created) <= _CLOCK_SET_S:
            return
        self._in_force, self._old = fresh, False
        self._put(PlaybookChanged(fresh))
        if not same:
            await self._tell(path, fresh, problem)

    @property
    def _refused(self) -> bool:
        return self._in_force is None or bool(self._in_force.problem)

    def _offset(self) -> float:
        return self._clocks.wall() - self._clocks.monotonic()

    def _judge(self, path: Path) -> tuple[Playbook | None, Problem | None]:
        try:
            content = path.read_bytes()
        except OSError as error:
            return None, playbook_check.unreadable(path, error)
        return playbook_check.judge(content, self._pop, unix_s=self._clocks.wall())

    async def _tell(self, path: Path, fresh: PlaybookInForce, problem: Problem | None) -> None:
        details: dict[str, Any] = {
            "file": str(path),
            "created_unix_s": fresh.playbook.created_unix_s if fresh.playbook else None,
        }
        if problem is None:
            _LOG.info("playbook in force", **details)
            await self._audit("a new playbook is in force", {"action": "playbook", **details})
            return
        _LOG.error(
            "playbook refused", problem=fresh.problem, keeps_the_one_before=fresh.playbook is not None, **details
        )
        await self._audit(
            "the playbook was refused", {"action": "playbook-refused", "problem": fresh.problem, **details}
        )

    def _grew_old(self, max_age_s: float) -> bool:
        """Return whether the playbook in force has become too old just now."""
        one = self._in_force
        old = one is not None and one.playbook is not None and self._clocks.monotonic() - one.created > max_age_s
        grew, self._old = old and not self._old, old
        return grew


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Stamp(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
