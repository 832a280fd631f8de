"""Who is at the other end of the unix socket, as the kernel says, and how often they ask."""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct
from collections.abc import Callable

from popctl.model.instant import Instant

RATE_PER_S = 50.0
BURST = 100.0
_REMEMBERED_USERS = 1024
_UCRED = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""
_UNKNOWN_UID = -1


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
    """A token bucket per user."""

    def __init__(self, clock: Callable[[], Instant], *, rate_per_s: float = RATE_PER_S, burst: float = BURST) -> None:
        self.rate_per_s = rate_per_s
        self._clock = clock
        self._burst = burst
        self._buckets: dict[int, tuple[float, Instant]] = {}

    def admit(self, uid: int) -> bool:
        """Take one request of `uid`, or say that it is one too many."""
        now = self._clock()
        tokens, at = self._buckets.pop(uid, (self._burst, now))
        tokens = min(tokens + (now - at) * self.rate_per_s, self._burst)
        admitted = tokens >= 1.0
        self._buckets[uid] = (tokens - 1.0 if admitted else tokens, now)
        if len(self._buckets) > _REMEMBERED_USERS:
            del self._buckets[next(iter(self._buckets))]
        return admitted
