"""The journal: every turn's events and decisions as JSON lines, in files of bounded size.

Each file begins with all that its lines build upon, so that any of them can be replayed alone. The journal is an aid:
a full disk stops it, loudly, and never the agent. It tries again every minute, and goes on in the same file after a
new start line: so no try moves out a file that is good.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TextIO

import structlog

from popctl.agent.events import (
    ActualChanged,
    Event,
    FleetChanged,
    IntentsChanged,
    LoadRestored,
    PlaybookChanged,
    ServicesRestored,
    StopOrdered,
    TablesChanged,
    TablesInherited,
)
from popctl.agent.world import World
from popctl.config.kept_files import older_journals
from popctl.core.decide import Decision
from popctl.model.balancer import BalancerActual
from popctl.model.capacity import LoadMemory
from popctl.model.desired import Actual
from popctl.model.fleet import FleetView
from popctl.model.instant import NEVER, Instant
from popctl.model.load import LoadSample
from popctl.model.meter import DaemonDied, DaemonStarted, MeterLost, Overloaded
from popctl.model.observation import Observation
from popctl.model.past import Past
from popctl.model.playbook import PlaybookInForce
from popctl.wire import journal as wire

_LOG = structlog.get_logger("popctl.journal")

MAX_BYTES = 64 * 2**20
FLUSH_EVERY_S = 1.0
RETRY_AFTER_S = 60.0
_LOOK_BACK_BYTES = 2**16


class Journal:
    """A `TurnSink` that writes. With `path` None it does nothing."""

    def __init__(
        self,
        path: Path | None,
        *,
        world: World,
        config_text: str,
        source: str,
        wall_clock: Callable[[], float],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._path = path
        self._world = world
        self._config_text = config_text
        self._source = source
        self._wall_clock = wall_clock
        self._max_bytes = max_bytes
        self._file: TextIO | None = None
        self._written = 0
        self._fleet = FleetView()
        """As of the last line: what the next change is told against."""
        self._flushed_at: Instant = 0.0
        self._began = False
        """The file at the path is of this journal."""
        self._retry_at: Instant = NEVER
        self.failures = 0
        """How many times writing failed; each time the journal pauses for `RETRY_AFTER_S`."""

    def open(self, now: Instant) -> None:
        """Begin a new file, moving the earlier ones aside. Call after the World is restored and before any turn."""
        if self._path is None:
            return
        self._began = False
        try:
            self._rotate(self._path)
            self._file = self._path.open("w", encoding="utf-8")
            self._began = True
            self._path.chmod(0o640)
            self._start(now)
        except OSError as error:
            self._fail(error, now)

    def _resume(self, path: Path, now: Instant) -> None:
        """Go on after a failure, behind the last line that is whole."""
        if not self._began:
            self.open(now)
        else:
            try:
                _cut_to_whole_lines(path)
                self._file = path.open("a", encoding="utf-8")
                self._start(now)
            except OSError as error:
                self._fail(error, now)
        if self._file is not None:
            _LOG.info("journal goes on", path=str(path), failures=self.failures)

    def _start(self, now: Instant) -> None:
        """Write all that later lines build upon, and see that it is written."""
        view = self._world.view()
        start = wire.StartLine(
            version=wire.VERSION,
            config=self._config_text,
            source=self._source,
            at=now,
            unix_s=self._wall_clock(),
            view=view,
            wake_at=wire.none_if_never(self._world.wake_at),
        )
        if self._file is not None:
            self._written = self._file.tell()
            self._fleet = view.fleet
            self._write(wire.encode_start(start))
            self._file.flush()

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:
        """Write one turn; turns in which nothing happened are not worth a line."""
        if self._file is None:
            if self._path is not None and now >= self._retry_at:
                # What this turn did stands in the new start line.
                self._resume(self._path, now)
            return
        if not events and decision is None:
            return
        try:
            self._write(wire.encode_turn(self._line(now, events, decision)))
            if decision is not None or now - self._flushed_at >= FLUSH_EVERY_S:
                self._file.flush()
                self._flushed_at = now
        except OSError as error:
            self._fail(error, now)
            return
        if self._written >= self._max_bytes:
            self.close()
            self.open(now)

    def close(self) -> None:
        """Flush and close; further turns are not written."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        self._retry_at = NEVER

    def _line(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> wire.TurnLine:
        taken_down = None if decision is None else wire.DecisionRecord.of(decision.desired, decision.wake_at)
        return wire.TurnLine(at=now, events=tuple(self._record(event) for event in events), decision=taken_down)

    def _record(self, event: Event) -> wire.Record:
        match event:
            case Observation() | LoadSample() | DaemonDied() | DaemonStarted() | Overloaded() | MeterLost():
                return event
            case ActualChanged(actual):
                return actual
            case IntentsChanged(intents, corrupt):
                return wire.IntentsRecord(intents, corrupt)
            case StopOrdered():
                return wire.StopRecord()
            case TablesInherited(alive):
                return wire.InheritedRecord(alive)
            case TablesChanged(balancer):
                return balancer
            case FleetChanged(view):
                before, self._fleet = self._fleet, view
                return wire.FleetRecord.of(before, view)
            case PlaybookChanged(found):
                return found
            case LoadRestored(found) | ServicesRestored(found):
                return found

    def _write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._written += len(line) + 1

    def _fail(self, error: OSError, now: Instant) -> None:
        self.failures += 1
        self.close()
        self._retry_at = now + RETRY_AFTER_S
        _LOG.error(
            "journal stopped",
            path=str(self._path),
            error=error.strerror,
            failures=self.failures,
            tries_again_in_s=RETRY_AFTER_S,
        )

    @staticmethod
    def _rotate(path: Path) -> None:
        if not path.exists() or not _tells_turns(path):
            return
        places = (path, *older_journals(path))
        for younger, older in reversed(tuple(pairwise(places))):
            if younger.exists():
                younger.replace(older)


def _cut_to_whole_lines(path: Path) -> None:
    """Cut off what was written of a line before the disk was full."""
    with path.open("r+b") as file:
        end = file.seek(0, io.SEEK_END)
        while end:
            begin = max(end - _LOOK_BACK_BYTES, 0)
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                end = begin + newline + 1
                break
            end = begin
        file.truncate(end)


def _tells_turns(path: Path) -> bool:
    """Return whether there is more than a start line, which the next file begins with anyway."""
    with path.open("rb") as file:
        file.readline()
        return file.read(1) != b""


def event_of(record: wire.Record, fleet: FleetView) -> Event:
    """Return the event that `record` was taken down from. `fleet` is as the event found it."""
    match record:
        case Observation() | LoadSample() | DaemonDied() | DaemonStarted() | Overloaded() | MeterLost():
            return record
        case Actual():
            return ActualChanged(record)
        case wire.IntentsRecord(intents, corrupt):
            return IntentsChanged(intents, corrupt=corrupt)
        case wire.StopRecord():
            return StopOrdered()
        case wire.InheritedRecord(alive):
            return TablesInherited(alive)
        case BalancerActual():
            return TablesChanged(record)
        case wire.FleetRecord():
            return FleetChanged(record.after(fleet))
        case PlaybookInForce():
            return PlaybookChanged(record)
        case LoadMemory() | Past():
            return ServicesRestored(record) if isinstance(record, Past) else LoadRestored(record)
