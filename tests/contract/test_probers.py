"""What every prober promises, whatever it speaks: one table of worlds, the same questions to each."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple, get_args

import pytest

from popctl.model.observation import Outcome
from popctl.model.probe import Exec, Http, Icmp, IkeDeep, IkeLiveness, L2tp, Method, ProbeKey, Tcp
from popctl.model.reason import Reason
from popctl.senses.datagram import DatagramProber
from popctl.senses.prober import Result, Target
from popctl.senses.registry import probers
from popctl.senses.run import run_probe
from popctl.wire.exchanges import exchange_for
from tests.bench.responder import ike_answer, l2tp_answer
from tests.eventually import eventually_async
from tests.unit.senses.peers import daemon, free_port, open_descriptors, silent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ADDRESS = "127.0.0.2"


class World(NamedTuple):
    """A method, and what the backend can be for it."""

    method: Callable[[int], Method]
    """The method that asks at a port."""
    healthy: Callable[[], AbstractAsyncContextManager[int]]
    mute: Callable[[], AbstractAsyncContextManager[int]]
    """Takes the question and never answers."""


@asynccontextmanager
async def _udp(behaviour: Callable[[bytes], list[bytes]]) -> AsyncIterator[int]:
    async with daemon(behaviour, address=ADDRESS) as peer:
        yield peer.port


@asynccontextmanager
async def _tcp(reply: bytes) -> AsyncIterator[int]:
    """Accept, say `reply` at once, keep the connection until the end."""
    loop = asyncio.get_running_loop()
    accepted: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind((ADDRESS, 0))
        listener.listen()

        def accept() -> None:
            accepted.append(listener.accept()[0])
            accepted[-1].sendall(reply)

        loop.add_reader(listener, accept)
        try:
            yield listener.getsockname()[1]
        finally:
            loop.remove_reader(listener)
            for each in accepted:
                each.close()


@asynccontextmanager
async def _full() -> AsyncIterator[int]:
    """A listener whose queue is full drops every SYN."""
    with socket.socket() as sock:
        sock.bind((ADDRESS, 0))
        sock.listen(0)
        with socket.create_connection(sock.getsockname()):
            yield sock.getsockname()[1]


@asynccontextmanager
async def _number(number: int) -> AsyncIterator[int]:
    yield number


def _l2tp(request: bytes) -> list[bytes]:
    return [reply] if (reply := l2tp_answer(request)) else []


WORLDS = {
    "ike": World(
        lambda port: IkeLiveness(version=2, port=port),
        lambda: _udp(lambda request: [ike_answer(request)]),
        lambda: _udp(silent),
    ),
    "l2tp": World(lambda port: L2tp(port=port, secret=None), lambda: _udp(_l2tp), lambda: _udp(silent)),
    "tcp": World(lambda port: Tcp(port=port), lambda: _tcp(b"hello"), _full),
    "http": World(
        lambda port: Http(url=f"http://{ADDRESS}:{port}/", statuses=frozenset({200})),
        lambda: _tcp(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        lambda: _tcp(b""),
    ),
    "exec": World(
        lambda seconds: Exec(argv=(sys.executable, "-S", "-c", f"import time; time.sleep({seconds})")),
        lambda: _number(0),
        lambda: _number(1000),
    ),
}
WITH_PORTS = [name for name in WORLDS if name != "exec"]


@asynccontextmanager
async def asking() -> AsyncIterator[Callable[..., AbstractAsyncContextManager[None]]]:
    """Yield a function that runs one probe with the real registry."""
    datagrams = DatagramProber(exchange_for, clock=time.monotonic, entropy=os.urandom)
    known = probers(datagrams)

    async def ask(method: Method, *, within_s: float = 20.0) -> Result:
        whom = Target(key=ProbeKey(1, "probe"), method=method, address=ip_address(ADDRESS))
        return await run_probe(known, whom, deadline=time.monotonic() + within_s, clock=time.monotonic)

    try:
        yield ask
    finally:
        datagrams.close()


async def test_every_method_has_a_prober() -> None:
    datagrams = DatagramProber(exchange_for, clock=time.monotonic, entropy=os.urandom)
    assert set(probers(datagrams)) == set(get_args(Method))
    assert {IkeLiveness, IkeDeep, L2tp, Icmp} <= set(probers(datagrams))
    datagrams.close()


@pytest.mark.parametrize("name", WORLDS)
async def test_a_healthy_backend_passes_with_a_round_trip_time(name: str) -> None:
    world = WORLDS[name]
    async with world.healthy() as port, asking() as ask:
        result = await ask(world.method(port))
    assert (result.outcome, result.reason) == (Outcome.PASS, Reason.ANSWERED)
    assert result.rtt_s is not None
    assert 0 < result.rtt_s < 20


@pytest.mark.parametrize("name", WORLDS)
async def test_a_mute_backend_times_out(name: str) -> None:
    world = WORLDS[name]
    async with world.mute() as port, asking() as ask:
        for _ in range(20):
            result = await ask(world.method(port), within_s=0.1)
            if result.reason is not Reason.OVERLOADED:
                break
    assert (result.outcome, result.reason, result.rtt_s) == (Outcome.FAIL, Reason.TIMED_OUT, None)


@pytest.mark.parametrize("name", WITH_PORTS)
async def test_a_backend_without_the_daemon_refuses_long_before_the_deadline(name: str) -> None:
    began = time.monotonic()
    async with asking() as ask:
        result = await ask(WORLDS[name].method(free_port(ADDRESS)), within_s=60.0)
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.REFUSED)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", WORLDS)
async def test_cancellation_closes_everything(name: str) -> None:
    world = WORLDS[name]
    async with world.mute() as port:
        gc.collect()
        before = open_descriptors()
        async with asking() as ask:
            running = asyncio.create_task(ask(world.method(port), within_s=60.0))
            # The engine's own descriptor is there from the start.
            await eventually_async(lambda: open_descriptors() > before + 1, every_s=0.005)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert running.cancelled()
        gc.collect()
        assert open_descriptors() <= before + 1  # the server of the test may still hold its half


@pytest.mark.parametrize("name", WORLDS)
async def test_a_method_of_another_kind_says_nothing_about_the_backend(name: str) -> None:
    method = WORLDS[name].method(1)
    other = Http if not isinstance(method, Http) else Tcp
    wrong = Http(url="http://x/", statuses=frozenset()) if other is Http else Tcp(port=1)
    datagrams = DatagramProber(exchange_for, clock=time.monotonic, entropy=os.urandom)
    prober = probers(datagrams)[type(method)]
    whom = Target(key=ProbeKey(1, "probe"), method=wrong, address=ip_address(ADDRESS))
    result = await run_probe({other: prober}, whom, deadline=time.monotonic() + 20, clock=time.monotonic)
    datagrams.close()
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, Reason.PROBE_ERROR)
