"""What blocks: the balancer's rules, rules of routing and routes in the kernel, read back and put right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from popctl.core.rows import packed, rescue
from popctl.lb.balancer import KernelError
from popctl.lb.libnft import Nft
from popctl.lb.route import Routes, Routing, wanted
from popctl.lb.watch import Watch
from popctl.model.balancer import Forward, Problem, Rows, Tables
from popctl.wire.nft import TABLE, health_sets, row_maps, static_tables, with_health
from popctl.wire.nft_text import (
    Elements,
    NftSet,
    SeenSet,
    SeenTable,
    Table,
    elements_transaction,
    new_elements,
    new_set,
    transaction,
)

_AT = f"inet {TABLE}"


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
        if before and without_health(before.tables) == without_health(tables):
            return cls(tables, before.static, health)
        return cls(tables, static_tables(tables, {s.name: partial(_elements, s.rows) for s in tables.services}), health)

    @property
    def whole(self) -> tuple[Table, ...]:
        """Rule set and health together."""
        return with_health(self.static, self.health)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What one pass did."""

    writes: int
    elements: int = 0
    flap: bool = False
    """Only health sets were looked at."""


class Kernel:
    """Made in, and used from, one worker thread in the balancer's namespace."""

    def __init__(self) -> None:
        self.nft = Nft()
        self.routes = Routes()
        self.watch = Watch(TABLE)
        self.audited = -1
        """Generation at which the rule set was last read back and found right."""
        self.problem = ""
        """What the kernel refused of rules and routes, or which VIP it takes itself; empty when all is as wanted."""

    def close(self) -> None:
        """Free sockets and library."""
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

    def bring(self, tables: Tables, before: Compiled | None) -> tuple[Compiled, Done]:
        """Make the kernel hold these tables, where `before` was in force; None: nobody knows what is."""
        new = Compiled.of(tables, before)
        if before is not None and new.static is before.static and tables != before.tables:
            elements = self.flap(before, new)
            return new, Done(writes=int(elements > 0), elements=elements, flap=True)
        known = before is not None and tables == before.tables
        rules, moved = self.reconcile(new, known=known)
        return new, Done(writes=rules + int(moved > 0))

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

    def reconcile(self, want: Compiled, *, known: bool = False) -> tuple[int, int]:
        """Read back and change what differs. Returns transactions on rules, and on routes.

        `known`: this is what was in force, so that only what others have touched since can differ.
        """
        routing = wanted(want.tables)
        routed = self.routes.read(want.tables.marks, routing)
        # Only here has all been read; a flap looks at those that rise and may not say that nothing is wrong.
        self.problem = ""
        moved = self._route(want.tables, routing, routed) if routing != routed else 0
        # Whoever gave this host a VIP did so without asking: the kernel takes its packets before our rules route them.
        self.problem = "; ".join(filter(None, (self.problem, *map(str, self.local(want.tables)))))
        known = known and self.audited >= 0
        writes = 0
        for _ in range(4):
            before = self.watch.generation()
            if known and before == self.audited:
                return writes, moved
            touched = self.watch.take()
            whole = not known or touched.unsure
            # A failure below must not leave the impression that what was touched has been looked at.
            self.audited = -1
            seen = self._seen(want, None if whole else touched.sets)
            rows = _unloaded(want, seen["inet"])
            alone = True
            if rows and seen["inet"] is not None:
                # Nobody looks into them yet: the transaction below turns to them, all at once.
                alone = self._write(partial(self.nft.apply, "".join(new_set(_AT, one) for one in rows.values())))
                alone = self._fill(rows) and alone
                made = {name: SeenSet(kind=one.kind, size=0, timeout_s=0, elements=None) for name, one in rows.items()}
                seen["inet"] = replace(seen["inet"], sets={**seen["inet"].sets, **made})
                writes += 1 + len(rows)
            text = "".join(transaction(_without(t, rows), seen[t.family]) for t in want.whole)
            if not text:
                self.audited = before
                return writes, moved
            # Acknowledged, elements and all: the next look is at the bones. If others wrote meanwhile, at everything.
            known = self._write(partial(self.nft.apply, text)) and alone
            writes += 1
            if seen["inet"] is None:
                known = self._fill(rows) and known
                writes += len(rows)
        raise KernelError("nft read-back", f"still differs: {text[:200]}")

    def _fill(self, rows: Mapping[str, NftSet]) -> bool:
        """Load the elements of new row maps. Returns whether nobody else wrote meanwhile."""
        alone = [self._write(partial(self._load, name, one)) for name, one in rows.items()]
        return all(alone)

    def _load(self, name: str, rows: NftSet) -> None:
        elements = rows.elements() if rows.elements else {}
        # Keys and values of rows are marks: numbers.
        marks = cast("Iterable[tuple[int, int]]", elements.items())
        try:
            self.watch.load(name, marks, self.watch.generation())
        except KernelError:
            # Slower, and with words to say what is wrong.
            self.nft.apply(new_elements(_AT, name, elements))

    def _seen(self, want: Compiled, doubtful: frozenset[str] | None) -> dict[str, SeenTable | None]:
        """Read our tables, and elements of these sets only; None: of all."""
        if doubtful is None:
            return {t.family: self.nft.listing(t.family, t.name) for t in want.whole}
        seen = self.watch.bones(tuple(t.family for t in want.whole))
        main = seen["inet"]
        return seen if main is None else {**seen, "inet": self._with_elements(main, doubtful)}

    def _with_elements(self, table: SeenTable, names: frozenset[str]) -> SeenTable:
        read = {
            name: replace(one, elements=self.nft.elements("inet", TABLE, one.kind, name))
            for name, one in table.sets.items()
            if name in names
        }
        return replace(table, sets={**table.sets, **read})

    def _route(self, tables: Tables, routing: Routing, seen: Routing) -> int:
        """Change rules and routes. What the kernel refuses is a problem to tell; health goes on in spite of it."""
        dead = frozenset(tables.marks.table_base + b + 1 for b in tables.backends.keys() - tables.alive)
        try:
            return self.routes.apply(tables.marks, routing, seen, dead)
        except KernelError as error:
            self.problem = str(error)
            return 0

    def _write(self, write: Callable[[], None]) -> bool:
        """Make one transaction. Returns whether it was the only one meanwhile; else all has to be read again."""
        before = self.watch.generation()
        self.watch.expect(before)
        try:
            write()
            after = self.watch.generation()
        except KernelError:
            self.watch.forget(before)
            self.audited = -1
            raise
        alone = self.watch.alone(before, after)
        if not alone:
            self.audited = -1
        elif self.audited == before:
            self.audited = after
        return alone


def without_health(tables: Tables) -> Tables:
    """Return what health and drain do not change."""
    return replace(tables, alive=frozenset(), draining=frozenset())


def _unloaded(want: Compiled, seen: SeenTable | None) -> dict[str, NftSet]:
    """Return the row maps that the kernel does not have. Their names hold the digest of what is in them."""
    there = seen.sets.keys() if seen else ()
    names = row_maps(want.tables) - set(there)
    return {one.name: one for one in want.static[0].sets if one.name in names}


def _without(table: Table, rows: Collection[str]) -> Table:
    """Leave out the elements of rows: they are loaded on a way of their own."""
    sets = tuple(replace(one, elements=dict) if one.name in rows else one for one in table.sets)
    return replace(table, sets=sets)


def _only(backends: Mapping[int, Forward], chosen: frozenset[int]) -> dict[int, Forward]:
    return {number: forward for number, forward in backends.items() if number in chosen}


def _rescues(tables: Tables) -> dict[str, Elements]:
    usable = tables.alive - tables.draining
    return {s.name: _as_elements(rescue(s.rows, usable & s.rows.members)) for s in tables.services}


def _elements(rows: Rows) -> Elements:
    return _as_elements(dict(enumerate(packed(rows))))


def _as_elements(numbers: Mapping[int, int]) -> Elements:
    return dict(numbers.items())
