"""The balancer's twin in memory: the same promises, strictly kept, and a kernel that steers packets by `core.steer`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from popctl.core.affinity import remember
from popctl.core.balance import problems
from popctl.core.steer import steer
from popctl.lb.balancer import OnActual, RefusedTablesError
from popctl.model.balancer import AffinityKey, BalancerActual, Packet, Problem, Steering, Tables
from popctl.model.route import Address


@dataclass
class MemoryKernel:
    """What outlives a balancer process: tables and what was learnt."""

    tables: Tables | None = None
    memory: dict[AffinityKey, int] = field(default_factory=dict)
    addresses: frozenset[Address] = frozenset()
    """Of the host: a VIP among them is refused."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, packet: Packet) -> Steering:
        """Steer one packet and remember what it taught. Without tables nothing is a VIP."""
        steering = steer(self.tables or Tables(), packet, self.memory)
        self.memory = remember(self.memory, steering.learns)
        return steering

    def flush(self) -> None:
        """Lose everything, as when somebody flushes the rule set by hand."""
        self.tables = None
        self.memory = {}
        self.changed.set()


class MemoryBalancer:
    """A `Balancer` over a `MemoryKernel`."""

    def __init__(self, kernel: MemoryKernel) -> None:
        self._kernel = kernel
        self._wanted: Tables | None = None
        self._in_force: Tables | None = None
        self._actual = BalancerActual()
        self._running = False

    async def inherited(self) -> frozenset[int]:
        """Return whom the kernel gives new SAs to; see `Balancer.inherited`."""
        return self._kernel.tables.alive if self._kernel.tables else frozenset()

    async def set(self, tables: Tables) -> None:
        """Record the wanted state; see `Balancer.set`."""
        before = self._wanted
        if before is None or replace(before, alive=tables.alive, draining=tables.draining) != tables:
            found = problems(tables) or self._local(tables)
            if found:
                raise RefusedTablesError(tuple(found))
        self._wanted = tables
        self._kernel.changed.set()

    async def run(self, on_actual: OnActual) -> None:
        """Work until cancelled; see `Balancer.run`. Raises `RuntimeError` when it runs already."""
        if self._running:
            raise RuntimeError("run() is called once at a time")
        self._running = True
        try:
            while True:
                self._kernel.changed.clear()
                if self._turn():
                    on_actual(self._actual)
                await self._kernel.changed.wait()
        finally:
            self._running = False

    async def close(self) -> None:
        """Free nothing: there is nothing."""

    def _turn(self) -> bool:
        if self._wanted is None:
            return False
        before, want, seen = self._actual, self._wanted, self._kernel.tables
        writes = int(seen != want)
        elements = 0
        if seen is not None and replace(seen, alive=want.alive, draining=want.draining) == want:
            elements = len(seen.alive ^ want.alive) + len(seen.draining ^ want.draining)
        drift = int(writes > 0 and self._in_force == want)
        self._kernel.tables = self._in_force = want
        local = self._local(want)
        self._actual = BalancerActual(
            in_force=not local,
            problem="; ".join(map(str, local)),
            alive=want.alive,
            draining=want.draining,
            writes=before.writes + writes,
            elements_changed=before.elements_changed + elements,
            drift_repairs=before.drift_repairs + drift,
        )
        return self._actual != before

    def _local(self, tables: Tables) -> tuple[Problem, ...]:
        return tuple(
            Problem(key=f"services.{s.name}.vips", text=f"{vip} is an address of this host", remedy="remove it here")
            for s in tables.services
            for vip in s.vips
            if vip in self._kernel.addresses
        )
