"""TCP prober: the kernel of the backend accepts a connection (RFC 9293 section 3.5)."""

from __future__ import annotations

import asyncio
import socket
import time
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.probe import Tcp
from popctl.model.reason import Reason
from popctl.senses.prober import Result, Target, failed

if TYPE_CHECKING:
    from popctl.model.instant import Instant


class TcpProber:
    """Connects and closes."""

    async def run(self, target: Target, *, deadline: Instant) -> Result:  # noqa: ARG002 - run_probe keeps the deadline
        """Connect once. A reset or any other error of the socket is raised; `run_probe` knows what each means."""
        if not isinstance(target.method, Tcp):
            raise TypeError(type(target.method).__name__)
        family = socket.AF_INET6 if isinstance(target.address, IPv6Address) else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            if target.source is not None:
                sock.bind((str(target.source), 0))
            began = time.perf_counter()
            await asyncio.get_running_loop().sock_connect(sock, (str(target.address), target.method.port))
            rtt_s = time.perf_counter() - began
            # A connect to a free port of this very host can meet itself: simultaneous open, RFC 9293 section 3.5.
            if sock.getsockname() == sock.getpeername():
                return failed(Reason.REFUSED, "connected to itself")
        return Result(Outcome.PASS, Reason.ANSWERED, rtt_s=rtt_s)
