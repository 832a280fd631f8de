"""The nftables balancer: reads what the kernel holds, changes only what differs, notices and repairs drift."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from popctl.core.balance import problems
from popctl.lb import libnft
from popctl.lb.balancer import BalancerError, OnActual, RefusedTablesError
from popctl.lb.kernel import Compiled, Kernel, without_health
from popctl.lb.namespace import enter
from popctl.model.balancer import BalancerActual, Problem, Tables
from popctl.wire.nft import TABLE

AUDIT_S = 5.0
"""How often rules, routes and the generation are looked at without being told; changes to nftables are heard of."""
RETRY_S = 1.0
_CAP_NET_ADMIN = 1 << 12

T = TypeVar("T")


class NftBalancer:
    """The balancer of this host, or of a named network namespace."""

    def __init__(self, *, netns: str | None = None, audit_s: float = AUDIT_S) -> None:
        self._worker = ThreadPoolExecutor(1, "balancer", partial(enter, netns) if netns else None)
        self._audit_s = audit_s
        self._kernel: Kernel | None = None
        self._opening = asyncio.Lock()
        self._wanted: Tables | None = None
        self._in_force: Compiled | None = None
        self._settled: Tables | None = None
        """What was last in force: to find that it is not any more is drift, however often the repair fails."""
        self._wake = asyncio.Event()
        self._heard = False
        self._actual = BalancerActual()

    async def inherited(self) -> frozenset[int]:
        """Return whom the kernel gives new SAs to; see `Balancer.inherited`."""
        found = await self._call(host_problems)
        if found:
            raise RefusedTablesError(found)
        slots = await self._call(partial(libnft.elements, "inet", TABLE, "alive"))
        return frozenset(slot - 1 for slot in slots if isinstance(slot, int))

    async def set(self, tables: Tables) -> None:
        """Record the wanted state after checking that it can be; see `Balancer.set`."""
        if self._wanted is None or without_health(self._wanted) != without_health(tables):
            await self._check(tables)
        self._wanted = tables
        self._wake.set()

    async def run(self, on_actual: OnActual) -> None:
        """Work until cancelled; see `Balancer.run`."""
        kernel = await self._open()
        loop = asyncio.get_running_loop()
        loop.add_reader(kernel.watch.fileno(), self._on_event)
        try:
            while True:
                self._wake.clear()
                before = self._actual
                wait_s = await self._turn(kernel)
                if self._actual != before:
                    on_actual(self._actual)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
        finally:
            loop.remove_reader(kernel.watch.fileno())

    async def close(self) -> None:
        """Free what is held in this process; the kernel keeps steering."""
        if self._kernel:
            await self._call(self._kernel.close)
            self._kernel = None
        self._worker.shutdown()

    async def _check(self, tables: Tables) -> None:
        found = problems(tables) or await self._call(host_problems)
        if not found:
            kernel = await self._open()
            found = await self._call(partial(kernel.local, tables))
        if found:
            raise RefusedTablesError(tuple(found))

    async def _turn(self, kernel: Kernel) -> float:
        """Make one pass and return how long to wait for the next."""
        if self._wanted is None:
            return self._audit_s
        try:
            await self._apply(kernel, self._wanted)
        except BalancerError as error:
            self._in_force = None
            self._actual = replace(self._actual, in_force=False, problem=str(error))
            return RETRY_S
        return RETRY_S if kernel.problem else self._audit_s

    async def _apply(self, kernel: Kernel, tables: Tables) -> None:
        heard, self._heard = self._heard, False
        # One visit to the worker: on a busy machine each way there and back may wait for the processor.
        new, done = await self._call(partial(kernel.bring, tables, self._in_force))
        if done.flap:
            self._heard |= heard or kernel.audited < 0
            if self._heard:
                self._wake.set()
        drift = int(done.writes > 0 and tables == self._settled)
        self._in_force, self._settled = new, tables
        self._actual = BalancerActual(
            in_force=not kernel.problem,
            problem=kernel.problem,
            alive=tables.alive,
            draining=tables.draining,
            writes=self._actual.writes + done.writes,
            elements_changed=self._actual.elements_changed + done.elements,
            drift_repairs=self._actual.drift_repairs + drift,
        )

    def _on_event(self) -> None:
        if self._kernel and self._kernel.watch.foreign_change():
            self._heard = True
            self._wake.set()

    async def _open(self) -> Kernel:
        async with self._opening:
            if self._kernel is None:
                self._kernel = await self._call(Kernel)
            return self._kernel

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)


def host_problems() -> tuple[Problem, ...]:
    """Say why this process cannot move a balancer on this host."""
    found = libnft.problems()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), "0")
    if not int(effective, 16) & _CAP_NET_ADMIN:
        found += (
            Problem(
                key="balancer",
                text="this process has no CAP_NET_ADMIN",
                remedy="run it as root, or with AmbientCapabilities=CAP_NET_ADMIN",
            ),
        )
    return found


def compile_tables(tables: Tables) -> Compiled:
    """Return what the kernel should hold for these tables."""
    return Compiled.of(tables, None)
