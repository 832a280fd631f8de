"""From what a meter tells to what the agent wants to hear."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from popctl.model.instant import NEVER, Instant
from popctl.model.meter import (
    Daemon,
    DaemonDied,
    DaemonStarted,
    DaemonState,
    Heard,
    MeterEvent,
    Overloaded,
    Snapshot,
    Symptom,
)
from popctl.senses.meter import sample

Emit: TypeAlias = Callable[[MeterEvent], None]


class MeterEvents:
    """Remembers what one backend's meter said last, and emits what is new."""

    def __init__(self, backend: int, emit: Emit) -> None:
        self.backend = backend
        self._emit = emit
        self._daemons: dict[str, Daemon] = {}
        self._symptoms: frozenset[Symptom] = frozenset()
        self._heard_at: Instant = -NEVER
        self.latest: Heard | None = None
        """The latest snapshot, whole: what is more than load is for metrics. Replaced, never edited."""

    def measured(self, snapshot: Snapshot, at: Instant) -> None:
        """Emit the load, and symptoms that were not there before."""
        self._heard_at = max(self._heard_at, at)
        self.latest = Heard(snapshot=snapshot, at=at)
        self._emit(sample(self.backend, snapshot, at))
        fresh = frozenset(snapshot.symptoms) - self._symptoms
        self._symptoms = frozenset(snapshot.symptoms)
        if fresh:
            self._emit(Overloaded(backend=self.backend, symptoms=tuple(sorted(fresh)), at=at))

    def daemon(self, daemon: Daemon, at: Instant) -> None:
        """Emit the death of a life that was running, and the beginning of one that was not known to run.

        A daemon that is simply not there says nothing: the meter may look in the wrong place. A new life in place of
        one that was running is a death that nobody was told of, because the connection was down. It is dated back to
        when the meter was last heard: whoever has probed the daemon since then knows better.
        """
        heard_at, self._heard_at = self._heard_at, max(self._heard_at, at)
        before = self._daemons.get(daemon.name)
        self._daemons[daemon.name] = daemon
        ran = before is not None and before.state is DaemonState.RUNNING
        runs = daemon.state is DaemonState.RUNNING
        same = before is not None and before.life == daemon.life
        if ran and not (runs and same):
            self._emit(DaemonDied(backend=self.backend, daemon=daemon.name, at=heard_at if runs else at))
        if runs and before is not None and not (ran and same):
            self._emit(DaemonStarted(backend=self.backend, daemon=daemon.name, at=at))
