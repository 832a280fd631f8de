"""ICMP errors about packets of a backend: to the one that sent them where that is known, else a copy to every one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from popctl.lb.counters import read_counters
from popctl.model.balancer import Forward, Marks, Tables
from popctl.model.reason import Reason
from popctl.wire import packet
from popctl.wire.errors import WireError
from popctl.wire.packet import ICMP, ICMPV6, UDP
from tests.balancers import CLIENT4, CLIENT6, VIP4, VIP6, esp_spi, rows, tables
from tests.eventually import eventually_async
from tests.peers.lb_net import Net, needs_nft, net
from tests.peers.test_lb_hand import running

__all__ = ["net"]
pytestmark = [pytest.mark.peer, needs_nft]
BACKENDS = range(3)
ROUTER = {4: IPv4Address("192.0.2.2"), 6: IPv6Address("2001:db8:1::2")}
ENDS = {4: (CLIENT4, VIP4), 6: (CLIENT6, VIP6)}
FAMILIES = pytest.mark.parametrize("version", [4, 6])


@dataclass
class Pop:
    """A balancer and three backends, each behind a link of its own, that do nothing but listen."""

    net: Net
    ears: list[socket.socket]

    def send(self, network: bytes) -> None:
        """Let a router towards the clients send an IP packet."""
        kind = b"\x08\x00" if network[0] >> 4 == 4 else b"\x86\xdd"
        self.net.sockets[0].send(self.net.mac("lb", "l0") + self.net.mac("in", "i0") + kind + network)

    def heard(self, version: int) -> list[int]:
        """Return the backends that heard an ICMP error since the last time, one entry for each."""
        return [number for number, ear in enumerate(self.ears) for _ in _errors(ear, version)]


def wanted(limit_per_s: int = 100) -> Tables:
    """Return tables whose backends are behind links of their own."""
    forwards = {
        number: Forward(
            name=f"b{number}", ipv4=IPv4Address(f"10.78.{number}.2"), ipv6=IPv6Address(f"2001:db8:78:{number}::2")
        )
        for number in BACKENDS
    }
    base = tables(3, rows=rows(3, size=512))
    return replace(base, backends=forwards, marks=Marks(replicate_per_s=limit_per_s))


@pytest.fixture
def pop(net: Net) -> Pop:
    """Provide the hosts."""
    net.add("lb", "in", *(f"b{number}" for number in BACKENDS))
    net.link("in", "i0", "192.0.2.2/24 2001:db8:1::2/64", "lb", "l0", "192.0.2.1/24 2001:db8:1::1/64")
    for number in BACKENDS:
        ours, theirs = (f"10.78.{number}.{end}/30 2001:db8:78:{number}::{end}/64" for end in (1, 2))
        net.link(f"b{number}", "e0", theirs, "lb", f"l{number + 1}", ours)
    net.packet_socket("in", "i0")
    ears = []
    for number in BACKENDS:
        ear = net.packet_socket(f"b{number}", "e0", listens=True)
        ear.setblocking(False)  # noqa: FBT003 - the socket module's own
        ears.append(ear)
    # As the router would have by the first packet: what is copied is not kept while a neighbour is looked for.
    for number in BACKENDS:
        mac = ":".join(f"{byte:02x}" for byte in net.mac(f"b{number}", "e0"))
        for gateway in (f"10.78.{number}.2", f"2001:db8:78:{number}::2"):
            net.ip("lb", f"neigh replace {gateway} lladdr {mac} dev l{number + 1}")
    return Pop(net, ears)


def too_big(version: int, port: int = 40000) -> bytes:
    """Return a router's complaint about ESP in UDP from the VIP to a client."""
    client, vip = ENDS[version]
    quoted = packet.ip(vip, client, UDP, packet.udp(4500, port, packet.esp(0xF0000001) + bytes(8)))
    message = packet.icmp_too_big(quoted, version=version)
    return packet.ip(ROUTER[version], vip, ICMP if version == 4 else ICMPV6, message)


def data(version: int, backend: int, port: int = 40000) -> bytes:
    """Return ESP in UDP of a client that is on `backend`."""
    client, vip = ENDS[version]
    return packet.ip(client, vip, UDP, packet.udp(port, 4500, packet.esp(esp_spi(backend)) + bytes(8)))


def _errors(ear: socket.socket, version: int) -> Iterator[bytes]:
    while True:
        try:
            frame = ear.recv(2048)
        except BlockingIOError:
            return
        try:
            found = packet.parse(frame[14:])
        except WireError:
            continue
        if found.destination == ENDS[version][1] and found.protocol in (ICMP, ICMPV6):
            yield frame


@FAMILIES
async def test_an_error_about_an_unknown_client_reaches_every_backend_once(pop: Pop, version: int) -> None:
    async with running(pop.net, wanted()):
        pop.send(too_big(version))
        heard: list[int] = []
        await eventually_async(lambda: heard.extend(pop.heard(version)) or len(heard) >= len(BACKENDS))
        counters = await read_counters(netns=pop.net.name("lb"))
        assert {b: counters.forwarded[b, Reason.REPLICATED].packets for b in BACKENDS} == dict.fromkeys(BACKENDS, 1)
        assert sorted(heard + pop.heard(version)) == list(BACKENDS)


@FAMILIES
async def test_an_error_about_a_known_client_reaches_its_backend_only(pop: Pop, version: int) -> None:
    async with running(pop.net, wanted()):
        for backend in (2, 0):
            pop.send(data(version, backend, port=40000 + backend))
            pop.send(too_big(version, port=40000 + backend))
            heard: list[int] = []
            await eventually_async(lambda heard=heard: heard.extend(pop.heard(version)) or heard)  # type: ignore[misc]  # mypy cannot infer defaults
            assert heard == [backend]
        counters = await read_counters(netns=pop.net.name("lb"))
        assert {b: counters.forwarded[b, Reason.REPLICATED].packets for b in BACKENDS} == dict.fromkeys(BACKENDS, 0)


@FAMILIES
async def test_a_flood_of_errors_is_copied_no_faster_than_the_limit(pop: Pop, version: int) -> None:
    sent = 300
    async with running(pop.net, wanted(limit_per_s=5)):
        for _ in range(sent):
            pop.send(too_big(version))

        async def dealt_with() -> bool:
            found = await read_counters(netns=pop.net.name("lb"))
            return found.forwarded[0, Reason.REPLICATED].packets + found.copies_over_limit == sent

        await eventually_async(dealt_with)
        counters = await read_counters(netns=pop.net.name("lb"))
        copied = counters.forwarded[0, Reason.REPLICATED].packets
        assert {b: counters.forwarded[b, Reason.REPLICATED].packets for b in BACKENDS} == dict.fromkeys(
            BACKENDS, copied
        )
        # The first five are the limit's burst; a slow machine lets a few more seconds pass.
        assert 5 <= copied < 60
