"""ICMP echo against the kernel of this host."""

from __future__ import annotations

import os
import socket
import time
from ipaddress import ip_address

import pytest

from popctl.model.probe import Icmp, ProbeKey
from popctl.model.reason import Reason
from popctl.senses.prober import Result, Target
from tests.unit.senses.peers import prober


def _may_ping() -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP).close()
        except PermissionError:
            continue
        return True
    return False


async def ping(*addresses: str, backend: int = 1) -> list[Result]:
    async with prober() as made:
        targets = [
            Target(key=ProbeKey(backend, address), method=Icmp(), address=ip_address(address)) for address in addresses
        ]
        return [await made.run(each, deadline=time.monotonic() + 5) for each in targets]


@pytest.mark.skipif(not _may_ping(), reason="neither ping sockets nor raw sockets are allowed")
async def test_a_living_host_answers_over_both_versions() -> None:
    results = await ping("127.0.0.1", "::1")
    assert [result.reason for result in results] == [Reason.ANSWERED] * 2
    assert all(result.rtt_s is not None for result in results)


@pytest.mark.skipif(_may_ping() and os.geteuid() == 0, reason="root may always ping")
async def test_without_permission_nothing_is_known() -> None:
    (result,) = await ping("127.0.0.1")
    assert result.reason in {Reason.NO_PERMISSION, Reason.ANSWERED}


@pytest.mark.skipif(not _may_ping(), reason="neither ping sockets nor raw sockets are allowed")
async def test_two_probes_of_one_host_do_not_take_each_others_replies() -> None:
    async with prober() as made:
        results: dict[int, Result] = {}
        for number in range(20):
            whom = Target(key=ProbeKey(number, "icmp"), method=Icmp(), address=ip_address("127.0.0.1"))
            made.begin(whom, deadline=time.monotonic() + 5, done=lambda result, n=number: results.update({n: result}))
        again = Target(key=ProbeKey(99, "icmp"), method=Icmp(), address=ip_address("127.0.0.1"))
        assert (await made.run(again, deadline=time.monotonic() + 5)).reason is Reason.ANSWERED
    assert {result.reason for result in results.values()} <= {Reason.ANSWERED}
