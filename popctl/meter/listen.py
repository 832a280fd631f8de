"""Where the meter listens: a unix socket by default, TCP only with certificates on both sides."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final, TypeAlias

from aiohttp import web

MAX_CONNECTIONS: Final = 32
_SOCKET_MODE: Final = 0o660
_MAX_HEADER_BYTES: Final = 8190
_BACKLOG: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixEndpoint:
    """A socket file; whoever may open it may read."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsEndpoint:
    """A TCP port behind mutual TLS. Every certificate of the authority may read, so let it be one for meters only."""

    address: IPv4Address | IPv6Address
    port: int
    certificate: Path
    key: Path
    authority: Path


Endpoint: TypeAlias = UnixEndpoint | TlsEndpoint


class ListenError(Exception):
    """The endpoint cannot be used."""

    def __init__(self, endpoint: Endpoint, problem: str) -> None:
        super().__init__(endpoint, problem)
        self.endpoint = endpoint
        self.problem = problem

    def __str__(self) -> str:
        match self.endpoint:
            case UnixEndpoint(path=path):
                return f"{path}: {self.problem}"
            case TlsEndpoint(address=address, port=port):
                return f"{address} port {port}: {self.problem}"


@asynccontextmanager
async def serving(app: web.Application, endpoint: Endpoint) -> AsyncIterator[tuple[str, int] | None]:
    """Serve `app` for the length of the context; yields address and port where there are any.

    Raises:
        ListenError: the socket, the port or a certificate cannot be used.
    """
    context = _tls(endpoint) if isinstance(endpoint, TlsEndpoint) else None
    sock = _bind(endpoint)
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        shutdown_timeout=1.0,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        auto_decompress=False,
    )
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(_bounded(runner), sock=sock, ssl=context, backlog=_BACKLOG)
    try:
        yield sock.getsockname()[:2] if context else None
    finally:
        server.close()
        await runner.cleanup()
        if isinstance(endpoint, UnixEndpoint):
            with suppress(OSError):
                endpoint.path.unlink()


def _tls(endpoint: TlsEndpoint) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(endpoint.certificate, endpoint.key)
        context.load_verify_locations(endpoint.authority)
    except (OSError, ssl.SSLError) as error:
        raise ListenError(endpoint, f"certificates: {error}") from error
    return context


def _bind(endpoint: Endpoint) -> socket.socket:
    try:
        match endpoint:
            case UnixEndpoint(path=path):
                sock = _bind_unix(endpoint, path)
            case TlsEndpoint(address=address, port=port):
                family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP version
                sock = socket.create_server((str(address), port), family=family)
    except OSError as error:
        raise ListenError(endpoint, error.strerror or str(error)) from error
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return sock


def _bind_unix(endpoint: UnixEndpoint, path: Path) -> socket.socket:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(endpoint, "there is a file that is no socket; it is left alone")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                raise ListenError(endpoint, "somebody listens there already")
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # From its first moment the file has this mode; chmod after bind would leave a gap.
    umask = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock


class _Refuse(asyncio.Protocol):
    """Closes what connects."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Bounded:
    """Makes the protocol of a new connection, or one that hangs up when there are enough."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def __call__(self) -> asyncio.Protocol:
        return _Refuse() if len(self._server.connections) >= MAX_CONNECTIONS else self._server()


def _bounded(runner: web.AppRunner) -> _Bounded:
    if runner.server is None:
        raise RuntimeError("setup() makes the server")
    return _Bounded(runner.server)
