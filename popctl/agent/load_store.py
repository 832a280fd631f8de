"""Where the PoP stands on its ladder of levels, on disk: a restart must not undo a shed, nor forget a penalty.

Written by the agent alone, on every step and every change of a route. It is no order of anybody: a file that cannot be
believed is as good as none, and the PoP begins at level 0, loudly. Levels are known by name, so that a ladder that was
changed meanwhile does not turn one into another.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from popctl.agent.intents import StateWriteError, replace_durably
from popctl.model.capacity import CALM, Distrust, LoadMemory, LoadSettings, LoadState
from popctl.model.damping import Ledger, Penalty
from popctl.model.reason import Reason
from popctl.model.route import RouteKey
from popctl.wire.errors import WireError
from popctl.wire.sealed import checksum, dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.agent.api_orders import Clocks
    from popctl.agent.events import Event
    from popctl.core.decide import Decision
    from popctl.model.instant import Instant
    from popctl.model.playbook import Level

_LOG = structlog.get_logger("popctl.load")

FORMAT: Final = 1
FILE: Final = "load.json"
"""Beside the state file."""


def encode(memory: LoadMemory, ladder: tuple[Level, ...], *, unix_s: float, now: Instant) -> bytes:
    """Return the file. Instants become wall time; what waits for verification is forgotten."""
    state = memory.state

    def wall(at: Instant) -> float:
        return round(unix_s + at - now, 3)

    payload = {
        "level": ladder[state.level].name,
        "since_unix_s": wall(state.since),
        "reason": state.reason,
        "distrusted": [
            [ladder[one.before].name, ladder[one.after].name, wall(one.until), one.times] for one in state.distrusted
        ],
        "ungated_unix_s": [wall(at) for at in state.ungated],
        "penalties": [
            [str(key.neighbor), str(key.prefix), penalty.value, wall(penalty.at)]
            for key, penalty in memory.ledger.items()
        ],
    }
    return dump({"format": FORMAT, "checksum": checksum(payload), "load": payload})


def decode(content: bytes, ladder: tuple[Level, ...], *, unix_s: float, now: Instant) -> LoadMemory:
    """Read the file. A level that the ladder does not have any more is level 0.

    Raises:
        WireError: it is not what `encode` writes.
    """
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise WireError(f"format {document['format']!r}, this popctl reads {FORMAT}", found=content)
        if document["checksum"] != checksum(document["load"]):
            raise WireError("the checksum does not match", found=content)
        return _Reader(ladder, unix_s=unix_s, now=now).memory(document["load"])
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WireError(f"truncated, overwritten or edited: {error}", found=content) from error


class _Reader:
    """Turns wall time into instants and names into levels."""

    def __init__(self, ladder: tuple[Level, ...], *, unix_s: float, now: Instant) -> None:
        self._numbers = {level.name: number for number, level in enumerate(ladder)}
        self._offset_s = unix_s - now
        self._now = now

    def memory(self, payload: dict[str, Any]) -> LoadMemory:
        level = self._numbers.get(payload["level"], 0)
        if not level:
            state = CALM
        else:
            reason = None if payload["reason"] is None else Reason(payload["reason"])
            state = LoadState(level=level, since=self._past(payload["since_unix_s"]), reason=reason)
        state = replace(
            state,
            distrusted=tuple(self._distrusted(payload["distrusted"])),
            ungated=tuple(self._past(at) for at in payload["ungated_unix_s"]),
        )
        return LoadMemory(state=state, ledger=self._ledger(payload["penalties"]))

    def _past(self, unix: float) -> Instant:
        # A wall clock that was set back meanwhile must not put the past into the future.
        return min(float(unix) - self._offset_s, self._now)

    def _distrusted(self, rows: list[list[Any]]) -> Iterable[Distrust]:
        for before, after, until, times in rows:
            if before in self._numbers and after in self._numbers:
                yield Distrust(
                    before=self._numbers[before],
                    after=self._numbers[after],
                    until=float(until) - self._offset_s,
                    times=int(times),
                )

    def _ledger(self, rows: list[list[Any]]) -> Ledger:
        return {
            RouteKey(ip_address(neighbor), ip_network(prefix)): Penalty(float(value), self._past(at))
            for neighbor, prefix, value, at in rows
        }


class LoadKeeper:
    """A sink of the loop that keeps the file. Does nothing where load steers nothing."""

    def __init__(
        self, settings: LoadSettings | None, path: Path, memory: Callable[[], LoadMemory], clocks: Clocks
    ) -> None:
        self._settings = settings
        self._path = path
        self._memory = memory
        self._clocks = clocks
        self._kept: object = _facts(LoadMemory())
        self._changed = asyncio.Event()
        self._failing = False

    def load(self) -> LoadMemory | None:
        """Return what the agent before this one remembered; None if there is nothing that can be believed."""
        if self._settings is None:
            return None
        try:
            found = decode(
                self._path.read_bytes(),
                self._settings.ladder,
                unix_s=self._clocks.wall(),
                now=self._clocks.monotonic(),
            )
        except FileNotFoundError:
            return None
        except (OSError, WireError) as error:
            _LOG.error("what load had done is not known: level 0", path=str(self._path), error=str(error))
            return None
        self._kept = _facts(found)
        return found

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - a sink
        """Take note."""
        if self._settings is not None and decision is not None and _facts(self._memory()) != self._kept:
            self._changed.set()

    async def run(self) -> None:
        """Write what changed until cancelled. A disk that does not take it stands in nobody's way.

        Raises:
            ValueError: load steers nothing here.
        """
        if self._settings is None:
            raise ValueError("nothing is remembered where load steers nothing")
        while True:
            await self._changed.wait()
            self._changed.clear()
            memory = self._memory()
            now, unix_s = self._clocks.monotonic(), self._clocks.wall()
            content = encode(memory, self._settings.ladder, unix_s=unix_s, now=now)
            self._kept = _facts(memory)
            try:
                # Off the event loop: a slow disk must not cost the lease.
                await asyncio.to_thread(replace_durably, self._path, content)
                self._failing = False
            except StateWriteError as error:
                # Tried again with the next decision.
                self._kept = None
                if self._failing:
                    continue
                self._failing = True
                _LOG.error("a restart would forget what load has done", path=str(self._path), error=error.problem)


def _facts(memory: LoadMemory) -> object:
    """Return what a restart must not forget. When a level was entered follows from when it is written."""
    state = memory.state
    return state.level, state.reason, state.distrusted, state.ungated, memory.ledger
