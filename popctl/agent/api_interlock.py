"""What an order must not do to what serves now: leave a service short of backends, or refuse SAs of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from popctl.agent import api_problems
from popctl.agent.api_status import Reporter
from popctl.agent.loop import Loop
from popctl.core import health
from popctl.core.backend_drain import refusals
from popctl.model.instant import Instant
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Backend, Pop, Service
from popctl.model.view import Verdict


class Interlock:
    """Refuses orders for the state that the PoP is in. Every method raises `RefusedError`, or all is well."""

    def __init__(self, pop: Pop, loop: Loop, reporter: Reporter, clock: Callable[[], Instant]) -> None:
        self._pop = pop
        self._loop = loop
        self._reporter = reporter
        self._clock = clock

    def closable(self, services: Iterable[str]) -> None:
        """Refuse to close services whose new SAs the balancer cannot refuse, or not without those of others."""
        closed = frozenset(services)
        balanced = {one.name: one.rows.members for one in self._pop.tables.services} if self._pop.tables else {}
        for name in sorted(closed):
            if name not in balanced:
                raise api_problems.not_closable(f"service {name} has no balancer, so new SAs cannot be refused")
            for other in balanced.keys() - closed:
                if balanced[name] & balanced[other]:
                    raise api_problems.not_closable(f"services {name} and {other} share backends: withdraw both")

    def permitted(self, services: Iterable[str]) -> None:
        """Refuse a withdraw that the guard would hold now. What it says later, it says to the order that stands."""
        for service in services:
            for found in self._reporter.preview(service).services:
                if found.held:
                    raise api_problems.would_be_held(found.name, found.verdict)

    def drainable(self, name: str, standing: Iterable[Intent]) -> None:
        """Refuse to drain a backend that a service cannot spare.

        Counted from the orders in the store, so that two drains at once cannot both be the last that is allowed.
        """
        orders = tuple(standing)
        backend = next(one for one in self._pop.backends.values() if one.name == name)
        draining = {intent.target for intent in orders if intent.kind is IntentKind.DRAIN}
        withdrawn = {intent.target for intent in orders if intent.kind is IntentKind.WITHDRAW}
        if name in draining or self._verdict(backend) is Verdict.DOWN:
            return
        for service in self._pop.services:
            if backend.id in service.backends and service.name not in withdrawn:
                self._spare(service, backend, draining)

    def _spare(self, service: Service, backend: Backend, draining: set[str]) -> None:
        others = [self._pop.backends[one] for one in service.backends if one != backend.id]
        able = frozenset(one.id for one in others if one.name not in draining and self._verdict(one) is Verdict.UP)
        left = len(able)
        weights = {number: self._pop.backends[number].weight for number in service.backends}
        drains = frozenset((backend.id,))
        for short in refusals({service.name: weights}, able, drains, least_share=service.drain_keeps):
            raise api_problems.interlocked(
                f"draining {backend.name} leaves service {short.service} with a weight of {short.left} of"
                f" {sum(weights.values())}, it needs {short.needed} (drain_keeps); remedy: undrain or repair another"
                " backend first, or use force"
            )
        if left < service.minimum_healthy:
            raise api_problems.interlocked(
                f"draining {backend.name} leaves service {service.name} with {left} healthy backends,"
                f" it needs {service.minimum_healthy}; remedy: undrain or repair another backend first, or use force"
            )

    def _verdict(self, backend: Backend) -> Verdict:
        return health.backend_verdict(backend, self._loop.world.view().health, self._clock())[0]
