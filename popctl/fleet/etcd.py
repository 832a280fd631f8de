"""A line to etcd 3.4+ over its HTTP/JSON gateway. Every request has its bound; every failure is a `StoreError`."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import structlog

from popctl.fleet.entry import entry_of
from popctl.fleet.errors import LeaseEndedError, StoreError, StoreRefusedError, StoreUnreachableError, WatchEndedError
from popctl.fleet.line import Change, Snapshot, Write
from popctl.wire import etcd
from popctl.wire.errors import WireError
from popctl.wire.fleet_record import encode_record

if TYPE_CHECKING:
    from popctl.model.instant import Instant

T = TypeVar("T")

_LOG = structlog.get_logger(__name__)

_OK = 200
_MAX_ANSWER_BYTES = 64 * 2**20
_LEASE_GONE = "requested lease not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """mTLS. The *server's* certificate also needs clientAuth: etcd's gateway dials itself with it."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises `OSError` or `ssl.SSLError`."""
        context = ssl.create_default_context(cafile=str(self.ca))
        # Without a password to give, OpenSSL would ask for one at the terminal, and the agent would wait.
        context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """Where the store is, and how long it may take."""

    fleet: str
    """Name of the fleet: its place in the key space."""
    endpoints: tuple[str, ...]
    """URLs of members, such as `https://192.0.2.5:2379`; one after another is tried."""
    tls: TlsFiles | None = None
    lease_ttl_s: float = 10.0
    request_s: float = 2.0


class EtcdLine:
    """Implements `Line`."""

    def __init__(self, pop: str, settings: EtcdSettings, clock: Callable[[], Instant] = time.monotonic) -> None:
        self._pop = pop
        self._settings = settings
        self._clock = clock
        self._keys = etcd.Keys(settings.fleet)
        self._session: aiohttp.ClientSession | None = None
        self._turn = -1
        self._lease = 0

    @property
    def endpoint(self) -> str:
        """Return the member that is spoken to."""
        return self._settings.endpoints[self._turn % len(self._settings.endpoints)]

    async def open(self) -> None:
        """Connect and make sure of a lease: at the next member that answers, each is asked once."""
        for attempts_left in reversed(range(len(self._settings.endpoints))):
            await self.close()
            self._turn += 1
            try:
                await self._begin()
            except (StoreUnreachableError, StoreRefusedError) as error:
                if not attempts_left:
                    raise
                _LOG.info("a member of the fleet's store is passed over", error=str(error))
            else:
                return

    async def _begin(self) -> None:
        try:
            context = self._settings.tls.context() if self._settings.tls is not None else True
        except OSError as error:
            raise StoreUnreachableError(self.endpoint, f"TLS files: {error}") from error
        # The watch and the requests each have a connection of their own.
        connector = aiohttp.TCPConnector(ssl=context, limit=4)
        self._session = aiohttp.ClientSession(connector=connector)
        if self._lease:
            with suppress(LeaseEndedError):
                await self.keep_alive()
        if not self._lease:
            self._lease = await self._ask("lease/grant", etcd.grant(self._settings.lease_ttl_s), etcd.granted)

    async def close(self) -> None:
        """Drop the connections; a member that does not take what is still to be sent is not waited for."""
        if self._session is not None:
            session, self._session = self._session, None
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.request_s):
                    await session.close()

    async def read(self) -> Snapshot:
        """Read everything."""
        answer = await self._ask("kv/range", etcd.read_all(self._keys), etcd.found)
        return self._snapshot(answer.revision, answer.found)

    async def commit(self, write: Write) -> int | Snapshot:
        """Do one write as one transaction."""
        try:
            value = encode_record(write.record, self._clock())
        except WireError as error:
            raise StoreRefusedError(self.endpoint, str(error)) from error
        wanted = etcd.Txn(
            pop=self._pop,
            value=value,
            lease=self._lease,
            replaces=write.replaces,
            fence=write.fence,
            renew_fence=write.renew_fence,
            pins=write.pins,
        )
        try:
            answer = await self._ask("kv/txn", etcd.txn(self._keys, wanted), etcd.ended)
        except StoreRefusedError as error:
            if _LEASE_GONE in error.problem:
                raise self._lease_ended() from error
            raise
        return answer.revision if answer.succeeded else self._snapshot(answer.revision, answer.found)

    async def keep_alive(self) -> None:
        """Extend the lease."""
        if not await self._ask("lease/keepalive", etcd.lease(self._lease), etcd.seconds_left):
            raise self._lease_ended()

    async def revoke(self) -> None:
        """End the lease."""
        await self._ask("lease/revoke", etcd.lease(self._lease), lambda _: None)
        self._lease = 0

    async def watch(self, after: int) -> AsyncIterator[tuple[Change, ...]]:
        """Yield what changes."""
        lines = etcd.WatchLines()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._settings.request_s)
        try:
            url = f"{self.endpoint}/v3/watch"
            async with self._client.post(url, data=etcd.watch(self._keys, after), timeout=timeout) as answer:
                if answer.status != _OK:
                    raise StoreRefusedError(self.endpoint, etcd.error(await _content(answer)), answer.status)
                async for received in answer.content.iter_any():
                    for message in lines.feed(received):
                        if message.canceled:
                            raise WatchEndedError(f"{self.endpoint}: {message.canceled}")
                        if message.events:
                            yield self._changes(message.events)
        except (aiohttp.ClientError, OSError) as error:
            raise StoreUnreachableError(self.endpoint, _describe(error)) from error
        except WireError as error:
            raise StoreRefusedError(self.endpoint, str(error)) from error

    # -------------------------------------------------------------------------------------------------------- inside

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise StoreUnreachableError(self.endpoint, "not connected")
        return self._session

    async def _ask(self, path: str, body: bytes, read: Callable[[bytes], T]) -> T:
        try:
            async with asyncio.timeout(self._settings.request_s):
                async with self._client.post(f"{self.endpoint}/v3/{path}", data=body) as answer:
                    content = await _content(answer)
        except TimeoutError as error:
            raise StoreUnreachableError(self.endpoint, f"no answer within {self._settings.request_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise StoreUnreachableError(self.endpoint, _describe(error)) from error
        if answer.status != _OK:
            raise StoreRefusedError(self.endpoint, etcd.error(content), answer.status)
        try:
            return read(content)
        except WireError as error:
            raise StoreRefusedError(self.endpoint, str(error)) from error

    def _lease_ended(self) -> StoreError:
        lease, self._lease = self._lease, 0
        return LeaseEndedError(lease)

    def _snapshot(self, revision: int, items: Iterable[etcd.KeyValue]) -> Snapshot:
        fence, entries = 0, {}
        now = self._clock()
        for item in items:
            name = self._keys.name(item.key)
            if name is not None and item.value is not None:
                entries[name] = entry_of(item.value, item.created, item.modified, now)
            elif item.key == self._keys.fence:
                fence = item.modified
        return Snapshot(revision=revision, fence=fence, entries=entries)

    def _changes(self, events: Iterable[etcd.KeyValue]) -> tuple[Change, ...]:
        now = self._clock()
        changes = []
        for event in events:
            name = self._keys.name(event.key)
            if name is None and event.key != self._keys.fence:
                continue
            read = name is not None and event.value is not None
            entry = entry_of(event.value or b"", event.created, event.modified, now) if read else None
            changes.append(Change(revision=event.modified, pop=name, entry=entry))
        return tuple(changes)


async def _content(answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > _MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError("the answer has no end")
    return bytes(content)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
