"""A store without etcd: for tests and timelines of everything that uses a fleet. The contract tests hold it to etcd."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from popctl.fleet.entry import entry_of
from popctl.fleet.errors import LeaseEndedError, StoreRefusedError, StoreUnreachableError
from popctl.fleet.line import Change, Snapshot, Write
from popctl.fleet.store import LogEntry, MemoryStore
from popctl.wire.errors import WireError
from popctl.wire.fleet_record import encode_record

if TYPE_CHECKING:
    from popctl.model.instant import Instant

_LOOK_EVERY_S = 0.05


class MemoryHub:
    """The store of one fleet, shared by all its lines."""

    def __init__(self, clock: Callable[[], Instant] = time.monotonic) -> None:
        self.store: MemoryStore[bytes] = MemoryStore()
        self.clock = clock
        self.down = False
        """Nobody gets an answer."""
        self.changed = asyncio.Event()

    def notify(self) -> None:
        """Wake all watches."""
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryLine:
    """Implements `Line`."""

    def __init__(self, pop: str, hub: MemoryHub, *, lease_ttl_s: float = 10.0, request_s: float = 0.2) -> None:
        self.cut = False
        """This PoP gets no answer."""
        self._pop = pop
        self._hub = hub
        self._lease_ttl_s = lease_ttl_s
        self._request_s = request_s
        self._lease = 0

    async def open(self) -> None:
        """Make sure of a lease."""
        await self._reach()
        if not self._lease or not self._hub.store.keep_alive(self._lease, self._hub.clock()):
            self._lease = self._hub.store.grant(self._lease_ttl_s, self._hub.clock())

    async def close(self) -> None:
        """Do nothing."""

    async def read(self) -> Snapshot:
        """Read everything."""
        await self._reach()
        return self._snapshot()

    async def commit(self, write: Write) -> int | Snapshot:
        """Do one write."""
        try:
            value = encode_record(write.record, self._hub.clock())
        except WireError as error:
            raise StoreRefusedError("memory", str(error)) from error
        await self._reach()
        try:
            revision = self._hub.store.commit(
                self._pop,
                value,
                self._lease,
                replaces=write.replaces,
                fence=write.fence,
                renew_fence=write.renew_fence,
                pins=write.pins,
            )
        except KeyError as error:
            raise LeaseEndedError(self._lease) from error
        self._hub.notify()
        return self._snapshot() if revision is None else revision

    async def keep_alive(self) -> None:
        """Extend the lease."""
        await self._reach()
        if not self._hub.store.keep_alive(self._lease, self._hub.clock()):
            lease, self._lease = self._lease, 0
            raise LeaseEndedError(lease)

    async def revoke(self) -> None:
        """End the lease."""
        await self._reach()
        self._hub.store.revoke(self._lease)
        self._lease = 0
        self._hub.notify()

    async def watch(self, after: int) -> AsyncIterator[tuple[Change, ...]]:
        """Yield what changes."""
        position = next(
            (number for number, one in enumerate(self._hub.store.log) if one.revision > after),
            len(self._hub.store.log),
        )
        while True:
            changed = self._hub.changed
            self._hub.store.expire(self._hub.clock())
            found = () if self._unreachable else self._hub.store.since(position)
            position += len(found)
            if found:
                now = self._hub.clock()
                yield tuple(self._change(one, now) for one in found)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await changed.wait()

    @property
    def _unreachable(self) -> bool:
        return self.cut or self._hub.down

    async def _reach(self) -> None:
        """Get an answer, or give up after the time that a request may take."""
        if self._unreachable:
            await asyncio.sleep(self._request_s)
        if self._unreachable:
            raise StoreUnreachableError("memory", "no answer in time")
        await asyncio.sleep(0)
        self._hub.store.expire(self._hub.clock())

    def _snapshot(self) -> Snapshot:
        now = self._hub.clock()
        store = self._hub.store
        entries = {
            name: entry_of(stored.value, stored.created, stored.modified, now) for name, stored in store.records.items()
        }
        return Snapshot(revision=store.revision, fence=store.fence, entries=entries)

    def _change(self, one: LogEntry[bytes], now: float) -> Change:
        stored = one.stored
        entry = None if stored is None else entry_of(stored.value, stored.created, stored.modified, now)
        return Change(revision=one.revision, pop=one.pop, entry=entry)
