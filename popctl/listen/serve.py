"""HTTP on a listening socket, with a bound on everything that a client can make us wait for or keep."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web

from popctl.listen.pace import HandshakePace
from popctl.listen.protocol import Speaking
from popctl.listen.sockets import listening, tls_context
from popctl.model.listen import Endpoint, TlsEndpoint

HANDSHAKE_WITHIN_S: Final = 5.0
SHUTDOWN_WITHIN_S: Final = 1.0
_HANDSHAKES: Final = 16
_HANDSHAKES_PER_HOST: Final = 8
"""One host that says nothing must not keep the others out."""
_NO_DESCRIPTORS_WAIT_S: Final = 0.2
_TIDY_EVERY_S: Final = 5.0

Stranger: TypeAlias = Callable[[str, str], None]
"""Told of a client that speaks TLS and has no good certificate: its address, and what is wrong."""

_LOG = logging.getLogger("popctl.listen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What clients together may take."""

    connections: int = 64
    """More are closed at once."""
    taken_within_s: float = 60.0
    """An answer that is not taken within this time ends the connection."""


class _Places:
    """Room for so many connections."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: set[object] = set()

    def take(self) -> Callable[[], None] | None:
        """Return what gives the place back, as often as it is called; None when there is none left."""
        if len(self._taken) >= self._most:
            return None
        place = object()
        self._taken.add(place)
        return lambda: self._taken.discard(place)


class Listener:
    """Takes connections in and hangs up on those that are stuck."""

    def __init__(
        self,
        runner: web.AppRunner,
        sock: socket.socket,
        context: ssl.SSLContext | None,
        bounds: Bounds,
        stranger: Stranger | None,
    ) -> None:
        if runner.server is None:
            raise RuntimeError("setup() makes the server")
        self._server = runner.server
        self._sock = sock
        self._context = context
        self._bounds = bounds
        self._stranger = stranger
        self._places = _Places(bounds.connections)
        self._entering = asyncio.Semaphore(_HANDSHAKES)
        self._entering_from: Counter[str] = Counter()
        self._pace = HandshakePace()
        self._full_since: dict[asyncio.Transport, float] = {}
        self.port: int | None = sock.getsockname()[1] if context else None
        """None on a unix socket."""
        self.refused_handshakes = 0
        """Connections that never got as far as HTTP: no certificate, a wrong one, no TLS, or too slow."""

    async def run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hang_up_on_the_stuck())
            while True:
                await self._entering.acquire()
                try:
                    connection, host, leave = await self._accept(loop)
                except BaseException:
                    self._entering.release()
                    raise
                group.create_task(self._enter(loop, connection, host, leave))

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> tuple[socket.socket, str, Callable[[], None]]:
        while True:
            try:
                connection, address = await loop.sock_accept(self._sock)
            except ConnectionError:
                continue
            except OSError as error:
                # Out of descriptors or memory: nothing is lost by waiting, the kernel keeps the queue.
                _LOG.error("cannot accept connections: %s", error.strerror)
                await asyncio.sleep(_NO_DESCRIPTORS_WAIT_S)
                continue
            host = address[0] if self._context else ""
            crowded = self._context is not None and self._entering_from[host] >= _HANDSHAKES_PER_HOST
            leave = None if crowded else self._places.take()
            if leave is not None:
                # Here, not where the handshake begins: all of a burst are accepted before the first one does.
                self._entering_from[host] += 1
                return connection, host, leave
            connection.close()

    async def _enter(
        self, loop: asyncio.AbstractEventLoop, connection: socket.socket, host: str, leave: Callable[[], None]
    ) -> None:
        within_s = HANDSHAKE_WITHIN_S if self._context else None
        shutdown_s = SHUTDOWN_WITHIN_S if self._context else None
        try:
            if self._context is not None:
                await self._wait(loop, connection, host)
            await loop.connect_accepted_socket(
                lambda: Speaking(self._server, loop, leave),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=within_s,
                ssl_shutdown_timeout=shutdown_s,
            )
        except OSError as error:
            # Bounded by the handshakes that are possible at once; a log that anybody can fill helps nobody.
            self.refused_handshakes += 1
            leave()
            _LOG.debug("no handshake with %s: %s", host, error)
            problem = _certificate_problem(error)
            if problem and self._stranger is not None:
                self._stranger(host, problem)
        finally:
            self._entering_from[host] -= 1
            if not self._entering_from[host]:
                del self._entering_from[host]
            self._entering.release()

    async def _wait(self, loop: asyncio.AbstractEventLoop, connection: socket.socket, host: str) -> None:
        try:
            await asyncio.sleep(self._pace.delay_s(host, loop.time()))
        except asyncio.CancelledError:
            # Nobody else knows of it yet.
            connection.close()
            raise

    async def _hang_up_on_the_stuck(self) -> None:
        """End connections whose clients do not take their answers."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_TIDY_EVERY_S, self._bounds.taken_within_s / 2))
            now = loop.time()
            full = {
                transport: self._full_since.get(transport, now)
                for protocol in self._server.connections
                if isinstance(transport := protocol.transport, asyncio.Transport) and transport.get_write_buffer_size()
            }
            for transport, since in full.items():
                if now - since >= self._bounds.taken_within_s:
                    transport.abort()
            self._full_since = full


def _certificate_problem(error: OSError) -> str:
    """Say what was wrong with the client's certificate; empty if something else was, such as no TLS at all."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or ""):
        return f"no certificate that can be read: {error.reason}".lower()
    return ""


@asynccontextmanager
async def serving(
    app: web.Application, endpoint: Endpoint, bounds: Bounds | None = None, *, stranger: Stranger | None = None
) -> AsyncIterator[Listener]:
    """Serve `app` for the length of the context.

    Raises:
        ListenError: the socket, the port or a certificate cannot be used.
    """
    context = tls_context(endpoint) if isinstance(endpoint, TlsEndpoint) else None
    with listening(endpoint) as sock:
        async with serving_on(sock, app, bounds, context=context, stranger=stranger) as listener:
            yield listener


@asynccontextmanager
async def serving_on(
    sock: socket.socket,
    app: web.Application,
    bounds: Bounds | None = None,
    *,
    context: ssl.SSLContext | None = None,
    stranger: Stranger | None = None,
) -> AsyncIterator[Listener]:
    """Serve `app` for the length of the context on a socket from `listening`, which goes on listening afterwards."""
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_WITHIN_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = Listener(runner, sock, context, bounds or Bounds(), stranger)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(listener.run())
            try:
                yield listener
            finally:
                task.cancel()
