"""Packets for the balancer: every kind it tells apart, hostile ones included, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from popctl.wire import packet
from popctl.wire.packet import ESP, ICMP, ICMPV6, UDP
from tests.balancers import PLAN, POP, VIP4, VIP6, esp_spi, server_spi

if TYPE_CHECKING:
    from popctl.model.balancer import SpiPlan
    from popctl.model.route import Address


@dataclass
class Corpus:
    """A source of packets to the VIPs, from few clients, so that what is learnt is met again."""

    seed: int
    backends: int
    plans: tuple[SpiPlan, ...] = (PLAN,)
    """In force together."""

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def packets(self, count: int) -> Iterator[bytes]:
        """Yield IP packets."""
        for _ in range(count):
            yield self.one()

    def one(self) -> bytes:
        """Return one packet of any kind."""
        v6 = self.draw.random() < 0.4
        client, vip = self.client(v6), VIP6 if v6 else VIP4
        kinds = [self.ike500, self.ike4500, self.ike4500, self.esp_udp, self.esp_native, self.esp_native, self.short]
        kinds += [self.keepalive, self.l2tp, self.other_udp, self.other_protocol]
        if self.draw.random() < 0.15:
            return self.icmp(client, vip)
        protocol, payload = self.draw.choice(kinds)()
        return packet.ip(client, vip, protocol, payload)

    def client(self, v6: bool) -> Address:  # noqa: FBT001 - which of two families
        number = self.draw.randrange(24)
        return IPv6Address("2001:db8:c::") + number if v6 else IPv4Address("203.0.113.0") + number

    def port(self) -> int:
        return self.draw.choice([500, 4500, 1024 + self.draw.randrange(8)])

    def backend(self) -> int:
        return self.draw.randrange(self.backends)

    def plan(self) -> SpiPlan:
        return self.plans[0] if len(self.plans) == 1 else self.draw.choice(self.plans)

    def spi(self) -> bytes:
        """Return an IKE SPI: of a backend, of a stray, zero or random."""
        kind = self.draw.randrange(8)
        if kind < 4:
            return server_spi(self.backend(), self.draw.getrandbits(32), plan=self.plan())
        if kind == 4:
            return server_spi(self.backend(), pop=POP + 1, plan=self.plan())
        if kind == 5:
            return bytes(8)
        return self.draw.randbytes(8)

    def ike(self) -> bytes:
        version = self.draw.choice([1, 1, 2, 2, 2, 3, 0])
        first = self.draw.random() < 0.4
        header = packet.ike(
            self.draw.randbytes(8) if first else self.spi(),
            bytes(8) if first else self.spi(),
            version=version,
            initiator=self.draw.random() < 0.5,
            exchange=self.draw.randrange(256),
        )
        return header + self.draw.randbytes(self.draw.randrange(40))

    def spi32(self) -> int:
        kind = self.draw.randrange(8)
        if kind < 5:
            return esp_spi(self.backend(), self.draw.randrange(1 << 16), plan=self.plan())
        if kind == 5:
            return esp_spi(self.backend(), pop=POP + 1, plan=self.plan())
        return self.draw.getrandbits(32)

    def ike500(self) -> tuple[int, bytes]:
        return UDP, packet.udp(self.port(), 500, self.ike())

    def ike4500(self) -> tuple[int, bytes]:
        return UDP, packet.udp(self.port(), 4500, bytes(4) + self.ike())

    def esp_udp(self) -> tuple[int, bytes]:
        return UDP, packet.udp(self.port(), 4500, packet.esp(self.spi32()))

    def esp_native(self) -> tuple[int, bytes]:
        return ESP, packet.esp(self.spi32())

    def keepalive(self) -> tuple[int, bytes]:
        return UDP, packet.udp(self.port(), 4500, b"\xff")

    def l2tp(self) -> tuple[int, bytes]:
        return UDP, packet.udp(1701, 1701, self.draw.randbytes(12))

    def other_udp(self) -> tuple[int, bytes]:
        return UDP, packet.udp(self.port(), self.draw.choice([53, 501, 4501]), self.draw.randbytes(20))

    def other_protocol(self) -> tuple[int, bytes]:
        return self.draw.choice([6, 47, 89, 132]), self.draw.randbytes(self.draw.randrange(40))

    def short(self) -> tuple[int, bytes]:
        """Return something cut off anywhere, its UDP length true or a lie."""
        protocol, whole = self.draw.choice([self.ike500, self.ike4500, self.esp_udp, self.esp_native])()
        cut = whole[: self.draw.randrange(len(whole) + 1)]
        if protocol == UDP and len(cut) >= 6 and self.draw.random() < 0.5:
            cut = cut[:4] + len(cut).to_bytes(2, "big") + cut[6:]
        return protocol, cut

    def icmp(self, client: Address, vip: Address) -> bytes:
        """Return an ICMP message of a router about a packet from the VIP to a client, or something like it."""
        version = client.version
        kind = self.draw.randrange(5)
        inner_protocol, inner = UDP, packet.udp(4500, self.port(), packet.esp(self.draw.getrandbits(32)))
        if kind == 1:
            inner_protocol, inner = ESP, packet.esp(self.draw.getrandbits(32))
        elif kind == 2:
            inner = packet.udp(500, 500, self.ike())
        quoted = packet.ip(vip, self.client(version == 6), inner_protocol, inner)
        message = packet.icmp_too_big(quoted, version=version)
        if kind == 3:
            message = bytes([self.draw.choice([0, 5, 8, 11, 12, 1, 3, 4, 128])]) + message[1:]
        if kind == 4:
            message = message[: self.draw.randrange(len(message))]
        return packet.ip(client, vip, ICMP if version == 4 else ICMPV6, message)
