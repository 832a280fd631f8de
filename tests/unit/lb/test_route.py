"""The hand's questions about routing, and answers that are no routes. The kernel has its say in tests/peers."""

from __future__ import annotations

import errno
import struct
from collections import deque
from ipaddress import IPv4Address

import pytest

from popctl.lb.balancer import KernelError
from popctl.lb.route import BackendRoute, Routes, Routing
from popctl.model.balancer import Marks
from popctl.wire.rtnetlink import Kind

_AF_INET = 2


class Host:
    """The kernel's end: IPv4 as it is, IPv6 as where it was booted without; one answer may be late."""

    def __init__(self, ipv6_error: int = errno.EAFNOSUPPORT) -> None:
        self.ipv6_error = ipv6_error
        self.late = False
        self.answers: deque[bytes] = deque()

    def send(self, data: bytes, /) -> int:
        _, kind, _, number, _ = struct.unpack_from("=IHHII", data)
        family = data[16]
        if family != _AF_INET:
            self.answers.append(struct.pack("=IHHIIi", 20, Kind.ERROR, 0, number, 0, -self.ipv6_error))
            return len(data)
        if kind == Kind.GET_ADDRESS:
            body = struct.pack("=BBBBI", family, 24, 0, 0, 1) + struct.pack("=HH", 8, 1) + bytes([192, 0, 2, 1])
            self.answers.append(struct.pack("=IHHII", 16 + len(body), Kind.NEW_ADDRESS, 0, number, 0) + body)
        self.answers.append(struct.pack("=IHHIIi", 20, Kind.DONE, 0, number, 0, 0))
        return len(data)

    def recv(self, _: int, /) -> bytes:
        if self.late:
            self.late = False
            raise TimeoutError("timed out")
        return self.answers.popleft()

    def close(self) -> None:
        """Nothing is held."""


def test_a_host_without_ipv6_has_none_of_its_addresses_and_rules() -> None:
    routes = Routes(Host)
    assert routes.addresses() == {IPv4Address("192.0.2.1")}
    assert routes.read(Marks(), Routing()) == Routing()
    want = Routing(routes=frozenset({BackendRoute(6, 5101, None)}))
    assert routes.read(Marks(), want) == Routing()
    with pytest.raises(KernelError, match="not supported"):
        routes.apply(Marks(), want, Routing())


def test_another_error_is_told() -> None:
    with pytest.raises(KernelError, match="Operation not permitted"):
        Routes(lambda: Host(errno.EPERM)).addresses()


def test_an_answer_that_comes_too_late_is_not_taken_for_that_to_the_next_question() -> None:
    host = Host()
    routes = Routes(lambda: host)
    host.late = True
    with pytest.raises(KernelError, match="timed out"):
        routes.addresses()
    assert routes.read(Marks(), Routing()) == Routing()
    assert routes.addresses() == {IPv4Address("192.0.2.1")}
