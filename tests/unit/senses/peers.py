"""The other end of a datagram probe in tests: a tiny protocol of our own, and a daemon that speaks it as told.

`ASK token` wants `ANS token`. `MORE token` instead makes the prober send `NEXT token`. The prober says `BYE token` when
it gives up. Everything shorter than a verb is garbage.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.probe import L2tp, ProbeKey
from popctl.model.reason import Reason
from popctl.senses.datagram import DatagramProber
from popctl.senses.prober import Target
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Turn, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from popctl.senses.prober import Result

    Behaviour = Callable[[bytes], Iterable[bytes]]

TOKEN_BYTES = 8


class AskExchange:
    """The prober's side."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._token = entropy(TOKEN_BYTES)

    def start(self) -> bytes:
        return b"ASK " + self._token

    def receive(self, datagram: bytes) -> Turn:
        verb, _, token = datagram.partition(b" ")
        if len(datagram) < 4 or verb not in {b"ANS", b"MORE", b"NO", b"BUG"}:
            raise WireError("unknown verb", found=datagram)
        if verb == b"BUG":
            raise RuntimeError("a bug of the exchange")
        if token != self._token:
            return IGNORED
        if verb == b"MORE":
            return Turn(send=(b"NEXT " + token,))
        if verb == b"NO":
            return Turn(send=(b"BYE " + token,), verdict=Verdict(Outcome.FAIL, Reason.WRONG_ANSWER, "no"))
        return Turn(send=(b"BYE " + token,), verdict=Verdict(Outcome.PASS, Reason.ANSWERED, "yes"))

    def abandon(self) -> tuple[bytes, ...]:
        return (b"BYE " + self._token,)


def ask(method: object, *, local: object, remote: object, entropy: Callable[[int], bytes]) -> AskExchange:  # noqa: ARG001 - the signature of a factory
    return AskExchange(entropy)


def answer(request: bytes) -> Iterable[bytes]:
    """Behave well."""
    if request.startswith((b"ASK ", b"NEXT ")):
        yield b"ANS " + request.partition(b" ")[2]


def silent(request: bytes) -> Iterable[bytes]:  # noqa: ARG001 - it does not care
    """Say nothing."""
    return ()


class FakeDaemon:
    """Behaves as told and remembers what it was sent."""

    def __init__(self, behaviour: Behaviour, address: str, port: int) -> None:
        self.behaviour = behaviour
        self.received: list[bytes] = []
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.bind((address, port))
        self.port = int(self._sock.getsockname()[1])
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._serve)

    def verbs(self) -> list[bytes]:
        return [datagram.partition(b" ")[0] for datagram in self.received]

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _serve(self) -> None:
        request, client = self._sock.recvfrom(4096)
        self.received.append(request)
        for reply in self.behaviour(request):
            self._sock.sendto(reply, client)


@asynccontextmanager
async def daemon(
    behaviour: Behaviour = answer, *, address: str = "127.0.0.2", port: int = 0
) -> AsyncIterator[FakeDaemon]:
    """Run a daemon on `address`."""
    made = FakeDaemon(behaviour, address, port)
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def prober(clock: Callable[[], float] = time.monotonic) -> AsyncIterator[DatagramProber]:
    """Yield a prober of this protocol and close it."""
    made = DatagramProber(ask, clock=clock, entropy=os.urandom)
    try:
        yield made
    finally:
        made.close()


def target(port: int, *, address: str = "127.0.0.2", source: str | None = None, backend: int = 1) -> Target:
    """Return a target for the little protocol; L2TP stands for "some UDP port"."""
    return Target(
        key=ProbeKey(backend, "ask"),
        method=L2tp(port=port, secret=None),
        address=ip_address(address),
        source=None if source is None else ip_address(source),
    )


async def run(made: DatagramProber, whom: Target, *, within_s: float = 5.0) -> Result:
    """Run one probe with a deadline `within_s` from now."""
    return await made.run(whom, deadline=time.monotonic() + within_s)


async def run_to_the_end(made: DatagramProber, whom: Target, *, within_s: float = 0.06) -> Result:
    """Run a probe that times out; again while this host was too busy to judge, which is not what is tested."""
    for _ in range(20):
        result = await run(made, whom, within_s=within_s)
        if result.reason is not Reason.OVERLOADED:
            return result
    raise AssertionError("this host is too busy")


def free_port(address: str = "127.0.0.2") -> int:
    """Return a UDP port on which nothing listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def open_descriptors() -> int:
    """Count the file descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
