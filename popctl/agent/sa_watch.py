"""How far a drain has come: SAs of draining backends, counted over VICI, and ended when an order says so.

Tells operators; decides nothing. A backend without `vici` drains unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from popctl.agent.events import Event, IntentsChanged
from popctl.agent.missteer_watch import MissteerWatch
from popctl.core.backend_drain import DrainProgress, noted, progress
from popctl.core.decide import Decision
from popctl.lb import sas
from popctl.lb.sas import SaCount
from popctl.model.instant import Instant
from popctl.model.observation import IntentKind
from popctl.model.pop import Backend, Pop, ViciEndpoint
from popctl.vici.errors import ViciError

_LOG = structlog.get_logger("popctl.drain")

EVERY_S = 2.0
_OK = ""


class SaWatch:
    """A sink of the loop that looks after draining backends in a task of its own."""

    def __init__(
        self,
        pop: Pop,
        clock: Callable[[], Instant],
        *,
        count: Callable[[ViciEndpoint], Awaitable[SaCount]] = sas.count,
        end: Callable[[ViciEndpoint], Awaitable[int]] = sas.end,
        missteers: MissteerWatch | None = None,
    ) -> None:
        self.missteers = missteers or MissteerWatch(pop, clock)
        self._asked = {one.name: one for one in pop.backends.values() if one.vici is not None}
        self._clock = clock
        self._count = count
        self._end = end
        self._draining: frozenset[str] = frozenset()
        self._ending: frozenset[int] = frozenset()
        self._wakes = {name: asyncio.Event() for name in self._asked}
        self._history: dict[str, tuple[tuple[Instant, int], ...]] = {}
        self._progress: dict[str, DrainProgress] = {}
        self._problems: dict[str, str] = {}

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:
        """Take note of who drains."""
        del now, decision
        for event in events:
            if isinstance(event, IntentsChanged):
                self._draining = frozenset(one.target for one in event.intents if one.kind is IntentKind.DRAIN)
                for gone in self._asked.keys() - self._draining:
                    self._progress.pop(gone, None)
                    self._history.pop(gone, None)
                    self._problems.pop(gone, None)
                self._wake()

    def end(self, backends: frozenset[int]) -> None:
        """End the SAs of these backends, now and whenever one appears, until told otherwise."""
        self._ending = backends
        self._wake()

    def progress(self, backend: str) -> DrainProgress | None:
        """Return how far the drain of a backend has come; None: it does not drain, or cannot be asked."""
        return self._progress.get(backend)

    def problem(self, backend: str) -> str:
        """Return why a draining backend cannot be asked; empty when it can, or need not be."""
        return self._problems.get(backend, _OK)

    async def run(self) -> None:
        """Look until cancelled, while anybody drains; nobody waits for another one's charon."""
        async with asyncio.TaskGroup() as group:
            # Where nobody can be asked there is nothing to do, for ever: a part that ends would end the agent.
            group.create_task(asyncio.Event().wait())
            for backend in self._asked.values():
                group.create_task(self._look_after(backend))

    def _wake(self) -> None:
        for one in self._wakes.values():
            one.set()

    async def _look_after(self, backend: Backend) -> None:
        wake = self._wakes[backend.name]
        while True:
            wake.clear()
            drains = backend.name in self._draining
            if drains:
                await self._look(backend)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S if drains else None):
                    await wake.wait()

    async def _look(self, backend: Backend) -> None:
        assert backend.vici is not None  # noqa: S101 - `_asked` holds no others
        try:
            if backend.id in self._ending:
                ended = await self._end(backend.vici)
                if ended:
                    _LOG.info("ended SAs of a drained backend", backend=backend.name, sas=ended)
            found = await self._count(backend.vici)
        except ViciError as error:
            if backend.name in self._draining:
                self._problems[backend.name] = str(error)
            return
        self._problems.pop(backend.name, None)
        if backend.name not in self._draining:
            return
        now = self._clock()
        history = self._history.get(backend.name, ())
        left = progress(found.ages_s, history, now, busy=found.busy)
        self._progress[backend.name] = left
        self._history[backend.name] = noted(history, left.sas, now)
