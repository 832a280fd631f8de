"""The balancer's part of the agent: rows, what the kernel holds, and every order that the loop gives.

The loop never waits for any of it: orders are taken at once and carried out by tasks of this part, because nft may hang
and the lease must not.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

import structlog

from popctl.agent.events import Event, TablesChanged, TablesInherited
from popctl.agent.rows import RowsError, services_with_rows
from popctl.agent.sa_watch import SaWatch
from popctl.core.seeds import with_services
from popctl.lb.balancer import Balancer, BalancerError
from popctl.model.balancer import BalancedService, BalancerActual, Tables
from popctl.model.pop import Pop

_LOG = structlog.get_logger("popctl.steering")

RETRY_S = 2.0
"""Between two attempts at what this host refused."""


class Steering:
    """Takes the loop's orders for the balancer, and for the SAs behind it."""

    def __init__(self, pop: Pop, balancer: Balancer, put: Callable[[Event], None], watch: SaWatch) -> None:
        self._pop = pop
        self._balancer = balancer
        self._put = put
        self._watch = watch
        self._wanted: Tables | None = None
        self._wake = asyncio.Event()
        self._actual = BalancerActual()

    def order_tables(self, tables: Tables) -> None:
        """Make these the wanted tables; returns at once."""
        self._wanted = tables
        self._wake.set()

    def order_end(self, backends: frozenset[int]) -> None:
        """End the SAs of these backends until told otherwise; returns at once."""
        self._watch.end(backends)

    async def run(self) -> None:
        """Work until cancelled; the kernel then keeps steering."""
        try:
            services = await self._prepared()
            await self._accepted(services)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._balancer.run(self._changed))
                group.create_task(self._follow(services))
        finally:
            await self._balancer.close()

    async def _prepared(self) -> tuple[BalancedService, ...]:
        """Build the rows and read the kernel, however often it takes."""
        while True:
            try:
                services = await services_with_rows(self._pop)
                alive = await self._balancer.inherited()
            except (RowsError, BalancerError) as error:
                self._refused(error)
                await asyncio.sleep(RETRY_S)
            else:
                self._put(TablesInherited(alive))
                return services

    async def _accepted(self, services: tuple[BalancedService, ...]) -> None:
        """Give the first order until this host takes it; nothing in the kernel has changed before."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self._give(services):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await self._wake.wait()
            self._wake.set()

    async def _follow(self, services: tuple[BalancedService, ...]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._give(services):
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def _give(self, services: tuple[BalancedService, ...]) -> bool:
        if self._wanted is None:
            return True
        try:
            await self._balancer.set(with_services(self._wanted, services))
        except BalancerError as error:
            self._refused(error)
            return False
        return True

    def _changed(self, actual: BalancerActual) -> None:
        if actual.problem and actual.problem != self._actual.problem:
            _LOG.error("balancer not in force", problem=actual.problem)
        self._actual = actual
        self._put(TablesChanged(actual))

    def _refused(self, error: Exception) -> None:
        self._changed(replace(self._actual, in_force=False, problem=str(error)))
