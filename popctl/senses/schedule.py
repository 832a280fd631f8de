"""When each probe runs next. Sans-IO: time is an argument, randomness is passed in.

Rules:
- First runs are spread evenly over the interval, so that a start of the agent is no burst.
- Each wait is drawn from interval_s * (1 +- jitter).
- Who is due within a tenth of the shortest wait may start with the one that is due now, a few at a time: each
  wake-up of an idle agent costs more than the probe it starts. Early, never late: nothing is found out later.
- One run of a probe at a time. A slot that cannot be used is counted as missed and never made up for.
- After a failure the next run comes sooner, until enough failures in a row have made it a verdict.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Final

from popctl.model.instant import NEVER, Instant
from popctl.model.observation import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from popctl.model.probe import ProbeKey, ProbeSpec

SETTLE_S: Final = 10.0
"""First runs of slow probes are spread over no more than this: an agent must not be blind for a whole long interval."""

_TOLERANCE: Final = 0.25
"""A start later than this part of the shortest wait moves the following slots, else two runs would come close."""


_AHEAD: Final = 0.1
"""By this part of the shortest wait a run may start early: far less than what jitter moves it anyway."""

_AHEAD_MAX_S: Final = 0.1
"""No run starts earlier than this: backends of slow probes are not to be asked in step."""

_AHEAD_RUNS: Final = 8
"""With this many starting together nobody starts early: a burst would delay the loop for the sake of a wake-up."""


class _Slot:
    """The next run of one probe."""

    __slots__ = ("due", "failures", "first", "key", "missed", "running", "spec")

    def __init__(self, key: ProbeKey, spec: ProbeSpec) -> None:
        self.key = key
        self.spec = spec
        self.due: Instant = NEVER
        self.running = False
        self.first = True
        """The first run is still to come."""
        self.failures = 0
        """FAILs in a row."""
        self.missed = 0


class Schedule:
    """Slots of all probes, earliest first."""

    def __init__(self, *, rng: Random, settle_s: float = SETTLE_S) -> None:
        """Start empty; `replace` brings the probes."""
        self._rng = rng
        self._settle_s = settle_s
        self._slots: dict[ProbeKey, _Slot] = {}
        self._heap: list[tuple[Instant, int, _Slot]] = []
        self._order = count()
        self._missed_by_removed = 0
        self._ahead_s = 0.0

    def replace(self, specs: Mapping[ProbeKey, ProbeSpec], now: Instant) -> None:
        """Make `specs` the wanted probes; those that stay the same keep their slots."""
        for key, slot in tuple(self._slots.items()):
            if specs.get(key) != slot.spec:
                slot.due = NEVER
                self._missed_by_removed += slot.missed
                del self._slots[key]
        new = [_Slot(key, spec) for key, spec in specs.items() if key not in self._slots]
        self._slots.update((slot.key, slot) for slot in new)
        self._spread(new, now)
        waits_s = [spec.cadence.interval_s * (1 - spec.cadence.jitter) for spec in specs.values()]
        self._ahead_s = min(_AHEAD * min(waits_s, default=0.0), _AHEAD_MAX_S)

    def due(self, now: Instant) -> list[ProbeKey]:
        """Return the probes to start now and plan their next slots. Each must come back through `finished`."""
        ready: list[ProbeKey] = []
        while self._startable(now, len(ready)):
            due, _, slot = heapq.heappop(self._heap)
            if slot.due != due:
                continue  # moved or removed since
            late_s = max(now - due, 0.0)
            slot.missed += slot.running + int(late_s / slot.spec.cadence.interval_s)
            if not slot.running:
                slot.running = True
                ready.append(slot.key)
            self._plan_next(slot, due, now)
        return ready

    def _startable(self, now: Instant, started: int) -> bool:
        """Say whether the earliest slot is due, or near enough to start with those that are."""
        if not self._heap:
            return False
        due, _, slot = self._heap[0]
        early = 0 < started < _AHEAD_RUNS and due <= now + self._ahead_s and not slot.running
        return due <= now or early

    def finished(self, key: ProbeKey, outcome: Outcome, now: Instant) -> None:
        """Note how the run of `key` ended; a failure may bring the next one forward."""
        slot = self._slots.get(key)
        if slot is None:
            return
        slot.running = False
        if outcome is Outcome.PASS:
            slot.failures = 0
        elif outcome is Outcome.FAIL:
            slot.failures += 1
            retry_at = now + self._jittered(slot, slot.spec.cadence.retry_s)
            if slot.failures < slot.spec.thresholds.fall and retry_at < slot.due:
                self._plan(slot, retry_at)

    def next_due(self) -> Instant:
        """Return when `due` has something to start, at the earliest."""
        while self._heap and self._heap[0][2].due != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def missed(self) -> Mapping[ProbeKey, int]:
        """Return the missed slots of each probe that has any."""
        return {key: slot.missed for key, slot in self._slots.items() if slot.missed}

    @property
    def missed_total(self) -> int:
        """All missed slots ever, those of removed probes included."""
        return self._missed_by_removed + sum(slot.missed for slot in self._slots.values())

    def _spread(self, slots: list[_Slot], now: Instant) -> None:
        """Give each its first slot: one per equal share of the interval, at a random place within its share.

        Sorted by probe before backend, so that the probes of one backend are apart.
        """
        by_interval: dict[float, list[_Slot]] = {}
        for slot in sorted(slots, key=lambda slot: (slot.key.probe, slot.key.backend)):
            by_interval.setdefault(slot.spec.cadence.interval_s, []).append(slot)
        for interval_s, group in by_interval.items():
            share_s = min(interval_s, self._settle_s) / len(group)
            for index, slot in enumerate(group):
                self._plan(slot, now + share_s * (index + self._rng.random()))

    def _plan_next(self, slot: _Slot, due: Instant, now: Instant) -> None:
        cadence = slot.spec.cadence
        shortest_s = cadence.interval_s * (1 - cadence.jitter)
        wait_s = self._jittered(slot, cadence.interval_s)
        if slot.first and cadence.interval_s > self._settle_s:
            # The first runs were squeezed together; this once, random waits spread them over the interval again.
            wait_s = shortest_s * (0.5 + 0.5 * self._rng.random())
        slot.first = False
        base = due if now - due <= shortest_s * _TOLERANCE else now
        self._plan(slot, base + wait_s)

    def _jittered(self, slot: _Slot, wait_s: float) -> float:
        return wait_s * (1 + slot.spec.cadence.jitter * (2 * self._rng.random() - 1))

    def _plan(self, slot: _Slot, when: Instant) -> None:
        slot.due = when
        heapq.heappush(self._heap, (when, next(self._order), slot))
