"""The unix socket under the API: who may open it, how many at once, and what happens to a file left behind."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

MAX_CONNECTIONS = 64
IDLE_S = 15.0
"""A connection that says nothing for so long is closed."""
MAX_HEADER_BYTES = 8190
SHUTDOWN_WITHIN_S = 1.0
_SOCKET_MODE = 0o660
_QUIET = logging.getLogger("popctl.http")
"""What aiohttp says of requests that are no HTTP. The sender is told; a log that anybody can fill helps nobody."""
_QUIET.setLevel(logging.CRITICAL)
_CONNECT_WITHIN_S = 1.0


class ApiSocketError(Exception):
    """The socket cannot be opened."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"API socket {self.path}: {self.problem}"


@asynccontextmanager
async def serving(app: web.Application, path: Path) -> AsyncIterator[None]:
    """Serve `app` at `path` for the length of the context.

    Raises:
        ApiSocketError: another agent listens there, or the path cannot be used.
    """
    sock = _listen(path)
    own = _identity(path)
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        logger=_QUIET,
        keepalive_timeout=IDLE_S,
        shutdown_timeout=SHUTDOWN_WITHIN_S,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        # A compressed body could unfold to any size.
        auto_decompress=False,
    )
    await runner.setup()
    server = await asyncio.get_running_loop().create_unix_server(_bounded(runner), sock=sock)
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()
        _remove(path, own)


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
    server = runner.server
    if server is None:
        raise RuntimeError("setup() makes the server")
    return _Bounded(server)


def _listen(path: Path) -> socket.socket:
    try:
        _clear(path)
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
    except OSError as error:
        raise ApiSocketError(path, error.strerror or str(error)) from error
    sock.settimeout(0.0)
    return sock


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises `ApiSocketError` for anything else that is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ApiSocketError(path, "there is a file that is no socket; it is left alone")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_WITHIN_S)
        found = probe.connect_ex(str(path))
    if found != errno.ECONNREFUSED:
        raise ApiSocketError(path, f"somebody listens there already ({os.strerror(found)})")
    path.unlink()


def _remove(path: Path, own: tuple[int, int] | None) -> None:
    # A successor may have taken the path over by now.
    if own is not None and _identity(path) == own:
        with suppress(OSError):
            path.unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
