"""The nftables balancer: reads what the kernel holds, changes only what differs, notices and repairs drift."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from popctl.core.balance import problems
from popctl.core.rows import packed, rescue
from popctl.lb import libnft
from popctl.lb.balancer import BalancerError, KernelError, OnActual, RefusedTablesError
from popctl.lb.libnft import Nft
from popctl.lb.namespace import enter
from popctl.lb.route import Routes, Routing, wanted
from popctl.lb.watch import Watch
from popctl.model.balancer import BalancerActual, Forward, Problem, Rows, Tables
from popctl.wire.nft import TABLE, health_sets, static_tables, with_health
from popctl.wire.nft_text import Elements, NftSet, Table, elements_transaction, transaction

AUDIT_S = 5.0
"""How often rules, routes and the generation are looked at without being told; changes to nftables are heard of."""
RETRY_S = 1.0
_CAP_NET_ADMIN = 1 << 12

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Compiled:
    """Wanted tables as rule sets. Rows are turned into elements only when a map of them has to be loaded."""

    tables: Tables
    static: tuple[Table, ...]
    health: tuple[NftSet, ...]

    @classmethod
    def of(cls, tables: Tables, before: Compiled | None) -> Compiled:
        """Compile; what health cannot have changed is taken from `before`."""
        health = health_sets(tables, _rescues(tables))
        if before and _without_health(before.tables) == _without_health(tables):
            return cls(tables, before.static, health)
        return cls(tables, static_tables(tables, {s.name: partial(_elements, s.rows) for s in tables.services}), health)

    @property
    def whole(self) -> tuple[Table, ...]:
        """Rule set and health together."""
        return with_health(self.static, self.health)


class _Kernel:
    """Everything that blocks. Made in, and used from, one worker thread in the balancer's namespace."""

    def __init__(self) -> None:
        self.nft = Nft()
        self.routes = Routes()
        self.watch = Watch(TABLE)
        self.audited = -1
        """Generation at which the rule set was last read back and found right."""
        self.problem = ""
        """What the kernel refused of rules and routes; empty when they are as wanted."""

    def close(self) -> None:
        self.nft.close()
        self.routes.close()
        self.watch.close()

    def local(self, tables: Tables) -> tuple[Problem, ...]:
        """Say which VIPs are addresses of this host: the kernel would take those packets itself."""
        ours = self.routes.addresses()
        return tuple(
            Problem(
                key=f"services.{service.name}.vips",
                text=f"{vip} is an address of this host",
                remedy="remove it here (ip address del); VIPs belong on the backends' loopback",
            )
            for service in tables.services
            for vip in service.vips
            if vip in ours
        )

    def flap(self, old: Compiled, new: Compiled) -> int:
        """Change only the health sets. Returns how many elements changed."""
        risen = new.tables.alive - old.tables.alive
        if risen:
            # Its link may have been down, and the kernel drops the routes of such a link.
            self._route(new.tables, wanted(replace(new.tables, backends=_only(new.tables.backends, risen))), Routing())
        text, count = elements_transaction("inet", TABLE, old.health, new.health)
        if text:
            self._write(partial(self.nft.change_elements, text))
        return count

    def reconcile(self, want: Compiled, *, unless_generation: bool = False) -> tuple[int, int]:
        """Read everything back and change what differs. Returns transactions on rules, and on routes."""
        routing = wanted(want.tables)
        seen = self.routes.read(want.tables.marks)
        moved = self._route(want.tables, routing, seen) if routing != seen else 0
        if routing == seen:
            self.problem = ""
        if unless_generation and self.watch.generation() == self.audited:
            return 0, moved
        writes = 0
        for _ in range(2):
            before = self.watch.generation()
            text = "".join(transaction(t, self.nft.listing(t.family, t.name)) for t in want.whole)
            if not text:
                self.audited = before
                return writes, moved
            self._write(partial(self.nft.apply, text))
            writes += 1
        left = "".join(transaction(t, self.nft.listing(t.family, t.name)) for t in want.whole)
        if left:
            raise KernelError("nft read-back", f"still differs: {left[:200]}")
        self.audited = self.watch.generation()
        return writes, moved

    def _route(self, tables: Tables, routing: Routing, seen: Routing) -> int:
        """Change rules and routes. What the kernel refuses is a problem to tell; health goes on in spite of it."""
        dead = frozenset(tables.marks.table_base + b + 1 for b in tables.backends.keys() - tables.alive)
        try:
            moved = self.routes.apply(tables.marks, routing, seen, dead)
        except KernelError as error:
            self.problem = str(error)
            return 0
        self.problem = ""
        return moved

    def _write(self, write: Callable[[], None]) -> None:
        before = self.watch.generation()
        self.watch.expect(before)
        write()
        after = self.watch.generation()
        if not self.watch.alone(before, after):
            self.audited = -1
        elif self.audited == before:
            self.audited = after


class NftBalancer:
    """The balancer of this host, or of a named network namespace."""

    def __init__(self, *, netns: str | None = None, audit_s: float = AUDIT_S) -> None:
        self._worker = ThreadPoolExecutor(1, "balancer", partial(enter, netns) if netns else None)
        self._audit_s = audit_s
        self._kernel: _Kernel | None = None
        self._wanted: Tables | None = None
        self._in_force: Compiled | None = None
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
        if self._wanted is None or _without_health(self._wanted) != _without_health(tables):
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

    async def _turn(self, kernel: _Kernel) -> float:
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

    async def _apply(self, kernel: _Kernel, tables: Tables) -> None:
        old = self._in_force
        new = await self._call(partial(Compiled.of, tables, old))
        heard, self._heard = self._heard, False
        writes = elements = drift = 0
        if old is not None and new.static is old.static and tables != old.tables:
            elements = await self._call(partial(kernel.flap, old, new))
            writes = int(elements > 0)
            self._heard |= heard or kernel.audited < 0
            if self._heard:
                self._wake.set()
        else:
            # Heard of or not: at the generation that was last found right, there is nothing to look for.
            quiet = old is not None and tables == old.tables
            rules, moved = await self._call(partial(kernel.reconcile, new, unless_generation=quiet))
            writes = rules + int(moved > 0)
            drift = int(writes > 0 and old is not None and tables == old.tables)
        self._in_force = new
        self._actual = BalancerActual(
            in_force=not kernel.problem,
            problem=kernel.problem,
            alive=tables.alive,
            draining=tables.draining,
            writes=self._actual.writes + writes,
            elements_changed=self._actual.elements_changed + elements,
            drift_repairs=self._actual.drift_repairs + drift,
        )

    def _on_event(self) -> None:
        if self._kernel and self._kernel.watch.foreign_change():
            self._heard = True
            self._wake.set()

    async def _open(self) -> _Kernel:
        if self._kernel is None:
            self._kernel = await self._call(_Kernel)
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


def _only(backends: Mapping[int, Forward], chosen: frozenset[int]) -> dict[int, Forward]:
    return {number: forward for number, forward in backends.items() if number in chosen}


def _without_health(tables: Tables) -> Tables:
    return replace(tables, alive=frozenset(), draining=frozenset())


def _rescues(tables: Tables) -> dict[str, Elements]:
    usable = tables.alive - tables.draining
    return {s.name: _as_elements(rescue(s.rows, usable & _members(s.rows))) for s in tables.services}


def _members(rows: Rows) -> frozenset[int]:
    return frozenset(rows.row(0)) if rows.count else frozenset()


def _elements(rows: Rows) -> Elements:
    return _as_elements(dict(enumerate(packed(rows))))


def _as_elements(numbers: Mapping[int, int]) -> Elements:
    return dict(numbers.items())


def compile_tables(tables: Tables) -> Compiled:
    """Return what the kernel should hold for these tables."""
    return Compiled.of(tables, None)
