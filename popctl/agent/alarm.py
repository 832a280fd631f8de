"""The alarm: a log line when a service is held or load moves the PoP. The metrics are for those who missed it."""

from __future__ import annotations

import structlog

from popctl.agent.events import Event
from popctl.core.decide import Decision
from popctl.model.desired import LoadDecision
from popctl.model.instant import Instant

_LOG = structlog.get_logger("popctl.guard")


class Alarm:
    """A sink of the loop."""

    def __init__(self) -> None:
        self._held: frozenset[str] = frozenset()
        self._level: int | None = None

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - a sink
        """Say what began and what ended."""
        if decision is None:
            return
        held = {one.service: one for one in decision.desired.services if one.held}
        for name in sorted(held.keys() - self._held):
            one = held[name]
            _LOG.error("held: should withdraw and may not", service=name, reason=one.reason, healthy=one.healthy)
        for name in sorted(self._held - held.keys()):
            _LOG.warning("no longer held", service=name)
        self._held = frozenset(held)
        self._moved(decision.desired.load)

    def _moved(self, load: LoadDecision | None) -> None:
        if load is None or load.level == self._level:
            return
        if load.level or self._level:
            full = None if load.tightness.resource is None else round(load.tightness.at_least, 3)
            _LOG.warning("load has moved the PoP", level=load.level, name=load.name, reason=load.reason, full=full)
        self._level = load.level
