"""What comes in fragments is steered by the SPI in the first of them, and reaches one backend whole."""

from __future__ import annotations

import itertools
import socket

import pytest

from popctl.core.jhash import row_of
from popctl.lb.counters import read_counters
from popctl.model.reason import Reason
from popctl.wire import packet
from popctl.wire.packet import ESP
from tests.balancers import VIP4, VIP6, esp_spi, server_spi
from tests.eventually import eventually_async
from tests.peers.lb_net import needs_nft, net
from tests.peers.test_lb_hand import running
from tests.peers.test_lb_icmp import Pop, pop, wanted

__all__ = ["net", "pop"]
pytestmark = [pytest.mark.peer, needs_nft]
HOME = 1
LENGTH = 3000
CLIENT_SPI = b"\x11" * 8
MARKER = packet.NON_ESP_MARKER
V1, V2 = (packet.ike(CLIENT_SPI, server_spi(HOME), version=version) for version in (1, 2))
(SERVICE,) = wanted().services
FIRST = packet.ike(
    next(
        spi
        for spi in (number.to_bytes(8, "big") for number in itertools.count(1))
        if SERVICE.rows.row(row_of(spi, SERVICE.seed, SERVICE.rows.count))[0] == HOME
    ),
    bytes(8),
)
"""A first message that rows give to that backend."""
NATIVE = 0
"""In place of a port: ESP without UDP."""
BODIES = [
    pytest.param(500, V1, Reason.IKE_LABEL, id="ikev1-500"),
    pytest.param(500, V2, Reason.IKE_LABEL, id="ikev2-500"),
    pytest.param(500, FIRST, Reason.NEW_SA, id="first-500"),
    pytest.param(4500, MARKER + V1, Reason.IKE_LABEL, id="ikev1-4500"),
    pytest.param(4500, MARKER + V2, Reason.IKE_LABEL, id="ikev2-4500"),
    pytest.param(4500, MARKER + FIRST, Reason.NEW_SA, id="first-4500"),
    pytest.param(4500, packet.esp(esp_spi(HOME)), Reason.ESP_SLICE, id="esp-in-udp"),
    pytest.param(NATIVE, packet.esp(esp_spi(HOME)), Reason.ESP_SLICE, id="esp"),
]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("port", "begins", "reason"), BODIES)
async def test_a_fragmented_datagram_reaches_one_backend_whole(
    pop: Pop, version: int, port: int, begins: bytes, reason: Reason
) -> None:
    vip, gateway = (VIP4, "192.0.2.1") if version == 4 else (VIP6, "2001:db8:1::1")
    pop.net.ip("in", f"-{version} route add {vip} via {gateway}")
    for name in ("b0", "b1", "b2"):
        pop.net.ip(name, f"-{version} addr add {vip} dev lo" + (" nodad" if version == 6 else ""))
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    kind = (family, socket.SOCK_RAW, ESP) if port == NATIVE else (family, socket.SOCK_DGRAM)
    body = begins + bytes(range(250)) * 12
    assert len(body) > LENGTH
    with (
        pop.net.thread(f"b{HOME}") as there,
        pop.net.thread("in") as here,
        there.submit(socket.socket, *kind).result() as ear,
        here.submit(socket.socket, *kind).result() as mouth,
    ):
        ear.settimeout(10.0)
        ear.bind((str(vip), port))
        async with running(pop.net, wanted()):
            mouth.sendto(body, (str(vip), port))
            assert ear.recv(4096).endswith(body)

            async def counted() -> bool:
                found = await read_counters(netns=pop.net.name("lb"))
                seen = {key: count.packets for key, count in found.forwarded.items() if count.packets}
                return seen == {(HOME, reason): 1} and not any(one.packets for one in found.dropped.values())

            await eventually_async(counted)
