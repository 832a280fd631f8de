"""The listening socket: who may open it, what happens to a file left behind, and the certificates of a port."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from popctl.listen.errors import ListenError
from popctl.model.listen import Endpoint, TlsEndpoint, UnixEndpoint

_SOCKET_MODE: Final = 0o660
_BACKLOG: Final = 64
_CONNECT_WITHIN_S: Final = 1.0


@contextmanager
def listening(endpoint: Endpoint) -> Iterator[socket.socket]:
    """Hold a listening, non-blocking socket for the length of the context; a socket file is gone afterwards.

    Raises:
        ListenError: somebody listens there already, or the path or the port cannot be used.
    """
    try:
        sock = _bind_unix(endpoint) if isinstance(endpoint, UnixEndpoint) else _bind_tcp(endpoint)
    except OSError as error:
        raise ListenError(endpoint, error.strerror or str(error)) from error
    own = _identity(endpoint.path) if isinstance(endpoint, UnixEndpoint) else None
    try:
        sock.listen(_BACKLOG)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        yield sock
    finally:
        sock.close()
        # A successor may have taken the path over by now.
        if isinstance(endpoint, UnixEndpoint) and own is not None and _identity(endpoint.path) == own:
            with suppress(OSError):
                endpoint.path.unlink()


def tls_context(endpoint: TlsEndpoint) -> ssl.SSLContext:
    """Return TLS 1.3 that asks every client for a certificate.

    Raises:
        ListenError: a file cannot be read, or certificate and key do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        # An encrypted key fails here; without an answer OpenSSL would ask at the terminal.
        context.load_cert_chain(endpoint.certificate, endpoint.key, password=lambda: b"")
        context.load_verify_locations(endpoint.authority)
    except (OSError, ssl.SSLError) as error:
        raise ListenError(endpoint, f"certificates: {error}") from error
    return context


def _bind_tcp(endpoint: TlsEndpoint) -> socket.socket:
    family = socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP version
    return socket.create_server((str(endpoint.address), endpoint.port), family=family)


def _bind_unix(endpoint: UnixEndpoint) -> socket.socket:
    _clear(endpoint)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # From its first moment the file has this mode; chmod after bind would leave a gap.
    umask = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        sock.bind(str(endpoint.path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock


def _clear(endpoint: UnixEndpoint) -> None:
    """Remove a socket that nobody listens on. Raises `ListenError` for anything else that is there."""
    try:
        mode = endpoint.path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(endpoint, "there is a file that is no socket; it is left alone")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_WITHIN_S)
        found = probe.connect_ex(str(endpoint.path))
    if found != errno.ECONNREFUSED:
        why = f" ({os.strerror(found)})" if found else ""
        raise ListenError(endpoint, f"somebody listens there already{why}")
    endpoint.path.unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
