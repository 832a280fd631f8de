"""The meters' part of the agent: one held connection per backend that has a meter."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import structlog

from popctl.model.instant import Instant
from popctl.model.meter import DaemonDied, DaemonStarted, MeterEvent, MeterLost, Overloaded
from popctl.model.pop import Pop
from popctl.senses.meter_client import MeterClient

_LOG = structlog.get_logger("popctl.meters")


def meter_clients(
    pop: Pop, put: Callable[[MeterEvent], None], *, clock: Callable[[], Instant], rng: Random
) -> tuple[MeterClient, ...]:
    """Return a client for every backend that has a meter. They put all they hear into the loop's queue."""

    def told(event: MeterEvent) -> None:
        put(event)
        _say(pop, event)

    return tuple(
        MeterClient(backend.id, backend.meter, told, clock=clock, rng=rng)
        for backend in pop.backends.values()
        if backend.meter is not None
    )


def _say(pop: Pop, event: MeterEvent) -> None:
    backend = pop.backends[event.backend].name
    match event:
        case DaemonDied(daemon=daemon):
            _LOG.error("a VPN daemon died", backend=backend, daemon=daemon)
        case DaemonStarted(daemon=daemon):
            _LOG.info("a VPN daemon runs", backend=backend, daemon=daemon)
        case Overloaded(symptoms=symptoms):
            _LOG.warning("symptoms of overload", backend=backend, symptoms=symptoms)
        case MeterLost(reason=reason, detail=detail):
            _LOG.warning("meter lost", backend=backend, reason=reason, detail=detail)
        case _:
            pass
