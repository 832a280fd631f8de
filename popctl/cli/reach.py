"""The way to an agent: its unix socket on this host, or HTTPS with certificates on both sides."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import ssl

ANSWER_WITHIN_S = 15.0
"""Longer than the agent waits for a slow disk and for its loop together."""


class Reach(Protocol):
    """Opens connections to one agent."""

    @property
    def knocks(self) -> bool:
        """Whether the other end may refuse us after the connection is made."""

    def open(self) -> http.client.HTTPConnection:
        """Return a connection that has not been made yet. Raises `ReachError`."""


class ReachError(Exception):
    """The way is described wrongly: nothing was sent."""


@dataclass(frozen=True, slots=True)
class UnixReach:
    """Through the socket file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def knocks(self) -> bool:
        """The kernel has decided when the connection is made."""
        return False

    def open(self) -> http.client.HTTPConnection:
        """Return a connection to the socket."""
        return _UnixConnection(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsReach:
    """Over the network."""

    host: str
    port: int
    certificate: Path
    key: Path
    authority: Path

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"

    @property
    def knocks(self) -> bool:
        """Certificates are judged afterwards (RFC 8446 section 4.4.2)."""
        return True

    def open(self) -> http.client.HTTPConnection:
        """Return a connection that shows our certificate and wants one of the authority."""
        return http.client.HTTPSConnection(self.host, self.port, timeout=ANSWER_WITHIN_S, context=self._context())

    def _context(self) -> ssl.SSLContext:
        import ssl  # noqa: PLC0415 - commands to the agent of this host start without it

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError) as error:
            raise ReachError(f"--ca {self.authority}: {_said(error)}") from error
        try:
            # An encrypted key fails here; without an answer OpenSSL would ask in the middle of a command.
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise ReachError(f"--cert {self.certificate}, --key {self.key}: {_said(error)}") from error
        return context


def _said(error: OSError) -> str:
    return error.strerror or getattr(error, "reason", None) or "cannot be used"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("popctl", timeout=ANSWER_WITHIN_S)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_WITHIN_S)
        self.sock.connect(str(self._path))
