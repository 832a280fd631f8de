"""The journal: every turn's events and decisions as JSON lines, in files of bounded size.

Each file begins with all that its lines build upon, so that any of them can be replayed alone. The journal is an aid:
a full disk stops it, loudly, and never the agent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
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
    StopOrdered,
    TablesChanged,
    TablesInherited,
)
from popctl.agent.world import World
from popctl.core.decide import Decision
from popctl.model.balancer import BalancerActual
from popctl.model.capacity import LoadMemory
from popctl.model.desired import Actual
from popctl.model.fleet import FleetView
from popctl.model.instant import Instant
from popctl.model.load import LoadSample
from popctl.model.meter import DaemonDied, DaemonStarted, MeterLost, Overloaded
from popctl.model.observation import Observation
from popctl.model.playbook import PlaybookInForce
from popctl.wire import journal as wire

_LOG = structlog.get_logger("popctl.journal")

MAX_BYTES = 64 * 2**20
KEPT_FILES = 4
FLUSH_EVERY_S = 1.0


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
        self.failures = 0
        """How many times writing failed; each time the journal pauses until its next file."""

    def open(self, now: Instant) -> None:
        """Begin a new file, moving the earlier ones aside. Call after the World is restored and before any turn."""
        if self._path is None:
            return
        try:
            self._rotate(self._path)
            self._file = self._path.open("w", encoding="utf-8")
            self._path.chmod(0o640)
            self._written = 0
            self._fleet = self._world.view().fleet
            self._write(
                wire.encode_start(
                    wire.StartLine(
                        version=wire.VERSION,
                        config=self._config_text,
                        source=self._source,
                        at=now,
                        unix_s=self._wall_clock(),
                        view=self._world.view(),
                        wake_at=wire.none_if_never(self._world.wake_at),
                    )
                )
            )
        except OSError as error:
            self._fail(error)

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:
        """Write one turn; turns in which nothing happened are not worth a line."""
        if self._file is None or (not events and decision is None):
            return
        try:
            self._write(wire.encode_turn(self._line(now, events, decision)))
            if decision is not None or now - self._flushed_at >= FLUSH_EVERY_S:
                self._file.flush()
                self._flushed_at = now
        except OSError as error:
            self._fail(error)
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
            case LoadRestored(memory):
                return memory

    def _write(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            self._written += len(line) + 1

    def _fail(self, error: OSError) -> None:
        self.failures += 1
        self.close()
        _LOG.error("journal stopped", path=str(self._path), error=error.strerror, failures=self.failures)

    @staticmethod
    def _rotate(path: Path) -> None:
        if not path.exists() or not _tells_turns(path):
            return
        for number in range(KEPT_FILES - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        path.replace(path.with_name(f"{path.name}.1"))


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
        case LoadMemory():
            return LoadRestored(record)
