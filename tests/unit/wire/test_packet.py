"""Packets built from a description: what does not fit is a `WireError` that says what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from popctl.wire import packet
from popctl.wire.errors import WireError
from tests.balancers import CLIENT4, VIP4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(packet.udp, 70000, 500, b""), "source port 70000"),
        (partial(packet.udp, 500, -1, b""), "destination port -1"),
        (partial(packet.udp, 500, 500, bytes(65528)), "65536 bytes"),
        (partial(packet.esp, 1 << 32), "SPI 4294967296"),
        (partial(packet.esp, 1, -1), "sequence number -1"),
        (partial(packet.ike, bytes(7), bytes(8)), "SPI of 7 bytes"),
        (partial(packet.ike, bytes(8), bytes(9)), "SPI of 9 bytes"),
        (partial(packet.ike, bytes(8), bytes(8), version=16), "version 16"),
        (partial(packet.ike, bytes(8), bytes(8), exchange=256), "exchange type 256"),
        (partial(packet.ip, CLIENT4, VIP4, 256, b""), "protocol 256"),
        (partial(packet.icmp_too_big, b"", version=4, mtu=1 << 16), "MTU 65536"),
        (partial(packet.icmp_too_big, b"", version=6, mtu=-1), "MTU -1"),
    ],
)
def test_what_does_not_fit_is_named(build: Callable[[], bytes], message: str) -> None:
    with pytest.raises(WireError, match=message):
        build()


def test_the_largest_of_all_fit() -> None:
    body = packet.esp(0xFFFFFFFF, 0xFFFFFFFF)
    assert packet.parse(packet.ip(CLIENT4, VIP4, packet.UDP, packet.udp(0xFFFF, 0, body))).destination == VIP4
