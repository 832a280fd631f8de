"""How far each node has come while a lab is raised, so that nodes can wait for one another."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from lab.errors import LabError
from lab.plan import Milestone


class AbortedError(LabError):
    """Another node failed, so waiting has no point."""


class Progress:
    """Milestones reached, shared by the threads that raise the nodes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reached: set[Milestone] = set()
        self._aborted = False

    def reach(self, milestone: Milestone) -> None:
        """Record a milestone."""
        with self._changed:
            self._reached.add(milestone)
            self._changed.notify_all()

    def abort(self) -> None:
        """End all waiting."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    def wait_for(self, milestones: Iterable[Milestone], *, within_s: float) -> None:
        """Return when all milestones are reached.

        Raises:
            AbortedError: another node failed.
            LabError: they were not reached in time.
        """
        wanted = set(milestones)
        with self._changed:
            self._changed.wait_for(lambda: self._aborted or wanted <= self._reached, timeout=within_s)
            missing = wanted - self._reached
            if missing and self._aborted:
                raise AbortedError("given up: another node failed")
        if missing:
            raise LabError(f"not within {within_s} s: {', '.join(f'{m.node} {m.stage}' for m in sorted(missing))}")

    def pause(self, seconds: float) -> None:
        """Wait for a time.

        Raises:
            AbortedError: another node failed meanwhile.
        """
        with self._changed:
            if self._changed.wait_for(lambda: self._aborted, timeout=seconds):
                raise AbortedError("given up: another node failed")
