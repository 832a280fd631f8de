"""The last answer of every probe, for people: rtt and detail are in no `Health`, because no decision reads them."""

from __future__ import annotations

from popctl.agent.events import Event
from popctl.core.decide import Decision
from popctl.model.instant import Instant
from popctl.model.observation import Observation
from popctl.model.probe import ProbeKey


class LastSeen:
    """A sink of the loop that remembers one observation per probe. Runs on the probe path: one store each."""

    def __init__(self) -> None:
        self._last: dict[ProbeKey, Observation] = {}

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - TurnSink
        """Take note of what the probes said."""
        for event in events:
            if isinstance(event, Observation):
                self._last[event.key] = event

    def of(self, key: ProbeKey) -> Observation | None:
        """Return what `key` said last, if it ever did."""
        return self._last.get(key)
