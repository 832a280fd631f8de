"""The TCP prober against real listeners."""

from __future__ import annotations

import gc
import socket
import time
from ipaddress import ip_address

from popctl.model.observation import Outcome
from popctl.model.probe import Icmp, ProbeKey, Tcp
from popctl.model.reason import Reason
from popctl.senses.prober import Result, Target
from popctl.senses.run import run_probe
from popctl.senses.tcp import TcpProber
from tests.unit.senses.peers import open_descriptors

PROBERS = {Tcp: TcpProber(), Icmp: TcpProber()}


async def run(port: int, *, address: str = "127.0.0.2", source: str | None = None, within_s: float = 10.0) -> Result:
    whom = Target(
        key=ProbeKey(1, "tcp"),
        method=Tcp(port=port),
        address=ip_address(address),
        source=None if source is None else ip_address(source),
    )
    return await run_probe(PROBERS, whom, deadline=time.monotonic() + within_s, clock=time.monotonic)


def listener(address: str = "127.0.0.2", *, backlog: int = 128) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((address, 0))
    sock.listen(backlog)
    return sock


async def test_an_accepted_connection_passes() -> None:
    with listener() as sock:
        result = await run(sock.getsockname()[1])
    assert (result.outcome, result.reason) == (Outcome.PASS, Reason.ANSWERED)
    assert result.rtt_s is not None


async def test_ipv6_is_probed_too() -> None:
    with listener("::1") as sock:
        assert (await run(sock.getsockname()[1], address="::1")).reason is Reason.ANSWERED


async def test_the_source_address_is_used() -> None:
    with listener() as sock:
        await run(sock.getsockname()[1], source="127.0.0.9")
        accepted, peer = sock.accept()
        accepted.close()
    assert peer[0] == "127.0.0.9"


async def test_a_reset_is_a_refusal() -> None:
    with listener() as sock:
        port = sock.getsockname()[1]
    result = await run(port)
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.REFUSED)


async def test_a_listener_without_room_times_out() -> None:
    """A full backlog drops SYNs: the process hangs, the kernel does not answer for it."""
    with listener(backlog=0) as sock:
        held = [socket.create_connection(sock.getsockname()) for _ in range(1)]
        for _ in range(20):
            result = await run(sock.getsockname()[1], within_s=0.1)
            if result.reason is not Reason.OVERLOADED:
                break
        for each in held:
            each.close()
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.TIMED_OUT)


async def test_a_source_address_that_is_not_ours_says_nothing_about_the_backend() -> None:
    assert (await run(1, source="192.0.2.77")).reason is Reason.PROBE_ERROR


async def test_another_kind_of_method_says_nothing_about_the_backend() -> None:
    whom = Target(key=ProbeKey(1, "x"), method=Icmp(), address=ip_address("127.0.0.2"))
    result = await run_probe(PROBERS, whom, deadline=time.monotonic() + 9, clock=time.monotonic)
    assert result.reason is Reason.PROBE_ERROR


async def test_a_thousand_runs_leave_no_descriptor_behind() -> None:
    gc.collect()
    with listener() as sock:
        port = sock.getsockname()[1]
        before = open_descriptors()
        for _ in range(1000):
            assert (await run(port)).reason is Reason.ANSWERED
            sock.accept()[0].close()
        assert open_descriptors() == before
