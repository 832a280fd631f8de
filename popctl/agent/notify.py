"""Readiness, status and watchdog for systemd (sd_notify(3)). Silent when nobody asked to be notified."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Sends state lines to the socket that the service manager named."""

    def __init__(self, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with '@' and addressed with a NUL byte.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        for_us = environment.get("WATCHDOG_PID", str(pid or os.getpid())) == str(pid or os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s: float | None = int(microseconds) / 1e6 if microseconds.isdigit() and for_us else None
        """How long the manager waits for a sign of life, or None."""

    def send(self, *lines: str) -> None:
        """Send `lines`, such as `READY=1`.

        A manager that is gone is not our fault, and what cannot be said now can be said later: errors are dropped.
        """
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)  # noqa: FBT003 - the socket's own signature
            channel.sendto("\n".join(lines).encode(), self._address)
