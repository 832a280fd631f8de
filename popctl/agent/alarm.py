"""The alarm: a log line when a service is held, and when that ends. The metric is for those who missed it."""

from __future__ import annotations

import structlog

from popctl.agent.events import Event
from popctl.core.decide import Decision
from popctl.model.instant import Instant

_LOG = structlog.get_logger("popctl.guard")


class Alarm:
    """A sink of the loop."""

    def __init__(self) -> None:
        self._held: frozenset[str] = frozenset()

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
