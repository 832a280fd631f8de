"""Who is at the other end: a user, as the kernel says, or the holder of a certificate; and how often they ask."""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from popctl.model.instant import Instant
from popctl.model.listen import Role
from popctl.wire.agent_order import show

RATE_PER_S: Final = 50.0
BURST: Final = 100.0
_REMEMBERED_CALLERS = 1024
_UCRED = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""
_UNKNOWN_UID = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and what they may do."""

    key: str
    """Whose requests count together: `uid:N`, or the name of the certificate."""
    role: Role | None
    names: tuple[str, ...] = ()
    """All that the certificate carries, as the configuration would write it."""
    uid: int | None = None
    """None: not a user of this host."""

    async def name(self) -> str:
        """Return the owner of orders. May ask a directory service, so it leaves the event loop."""
        return self.key if self.uid is None else await asyncio.to_thread(user_name, self.uid)


class Door(Protocol):
    """Tells who comes in through one listener."""

    def caller(self, transport: asyncio.BaseTransport | None) -> Caller:
        """Return who is at the other end. Never fails: nobody has no role."""


class LocalDoor:
    """The unix socket: whoever may open it may order."""

    def caller(self, transport: asyncio.BaseTransport | None) -> Caller:
        """Return the user that the kernel names."""
        uid = peer_uid(transport)
        if uid == _UNKNOWN_UID:
            return Caller(key="nobody", role=None, names=("nobody, since the connection is gone",))
        return Caller(key=f"uid:{uid}", role=Role.OPERATE, uid=uid)


class CertificateDoor:
    """The port behind mutual TLS: the role is what the configuration gives to a name of the certificate."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = roles

    def caller(self, transport: asyncio.BaseTransport | None) -> Caller:
        """Return the holder of the certificate, under the name that has the wider role."""
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        names = tuple(_names(certificate or {}))
        for role in (Role.OPERATE, Role.READ):
            for name in names:
                if self._roles.get(name) is role:
                    return Caller(key=name, role=role, names=names)
        # Not from the configuration, so it may hold anything.
        return Caller(key=show(names[0]) if names else "certificate:nameless", role=None, names=tuple(map(show, names)))


def _names(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of a certificate as `ssl.SSLSocket.getpeercert` tells it, URIs first."""
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "URI":
            yield f"uri:{value}"
    for relative in certificate.get("subject", ()):
        for kind, value in relative:
            if kind == "commonName":
                yield f"cn:{value}"


def peer_uid(transport: asyncio.BaseTransport | None) -> int:
    """Return the uid that opened the connection, or -1 when it is gone already."""
    sock: socket.socket | None = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return _UNKNOWN_UID
    try:
        _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError:
        return _UNKNOWN_UID
    return int(uid)


def user_name(uid: int) -> str:
    """Return the user's name, or `uid:N`. May ask a directory service, so call it off the event loop."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid:{uid}"


class RateLimit:
    """A token bucket per caller."""

    def __init__(self, clock: Callable[[], Instant], *, rate_per_s: float = RATE_PER_S, burst: float = BURST) -> None:
        self.rate_per_s = rate_per_s
        self._clock = clock
        self._burst = burst
        self._buckets: dict[str, tuple[float, Instant]] = {}

    def admit(self, key: str) -> bool:
        """Take one request of the caller, or say that it is one too many."""
        now = self._clock()
        tokens, at = self._buckets.pop(key, (self._burst, now))
        tokens = min(tokens + (now - at) * self.rate_per_s, self._burst)
        admitted = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if admitted else tokens, now)
        if len(self._buckets) > _REMEMBERED_CALLERS:
            del self._buckets[next(iter(self._buckets))]
        return admitted
