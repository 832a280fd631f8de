"""IP packets to and from bytes: what `explain` reads from hex or a capture, and what it builds from a description."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from popctl.model.balancer import Packet
from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from popctl.model.route import Address

UDP = 17
ESP = 50
ICMP = 1
ICMPV6 = 58
IKE_PORT = 500
NATT_PORT = 4500
L2TP_PORT = 1701
NON_ESP_MARKER = bytes(4)
"""RFC 3948 section 2.2: what tells IKE from ESP on UDP 4500."""
KEEPALIVE = b"\xff"
"""RFC 3948 section 2.3."""

_IPV4_HEADER = 20
_IPV6_HEADER = 40
_IKE_SPI = 8
_AH = 51
_FRAGMENT = 44
_EXTENSIONS = frozenset({0, 43, 60, _AH})
_MAX_LENGTH = 0xFFFF


def parse(network: bytes) -> Packet:
    """Read a whole IP packet from its first byte on.

    Raises:
        WireError: it is no IP packet, is cut short, or is a fragment (the kernel steers the reassembled datagram).
    """
    if not network:
        raise WireError("empty packet")
    match network[0] >> 4:
        case 4:
            return _parse_ipv4(network)
        case 6:
            return _parse_ipv6(network)
    raise WireError("neither IPv4 nor IPv6", found=network)


def _parse_ipv4(network: bytes) -> Packet:
    if len(network) < _IPV4_HEADER:
        raise WireError("IPv4 header cut short", found=network)
    header, total = (network[0] & 0x0F) * 4, int.from_bytes(network[2:4], "big")
    if header < _IPV4_HEADER or total < header or total > len(network):
        raise WireError(f"IPv4 lengths disagree: header {header}, total {total} of {len(network)}", found=network)
    if int.from_bytes(network[6:8], "big") & 0x3FFF:
        raise WireError("a fragment; the balancer steers the reassembled datagram", found=network, offset=6)
    return Packet(
        version=4,
        source=IPv4Address(network[12:16]),
        destination=IPv4Address(network[16:20]),
        protocol=network[9],
        network=network[:total],
        transport_offset=header,
    )


def _parse_ipv6(network: bytes) -> Packet:
    if len(network) < _IPV6_HEADER:
        raise WireError("IPv6 header cut short", found=network)
    total = _IPV6_HEADER + int.from_bytes(network[4:6], "big")
    if total > len(network):
        raise WireError(f"IPv6 payload cut short: {total} of {len(network)}", found=network)
    protocol, offset = network[6], _IPV6_HEADER
    while protocol in _EXTENSIONS:
        if offset + 2 > total:
            raise WireError("extension header cut short", found=network, offset=offset)
        units = network[offset + 1]
        protocol, offset = network[offset], offset + ((units + 2) * 4 if protocol == _AH else (units + 1) * 8)
    if protocol == _FRAGMENT:
        raise WireError("a fragment; the balancer steers the reassembled datagram", found=network, offset=offset)
    if offset > total:
        raise WireError("extension header reaches past the packet", found=network, offset=offset)
    return Packet(
        version=6,
        source=IPv6Address(network[8:24]),
        destination=IPv6Address(network[24:40]),
        protocol=protocol,
        network=network[:total],
        transport_offset=offset,
    )


def from_hex(text: str) -> Packet:
    """Read hex digits; spaces, colons and a leading 0x are ignored. Raises `WireError`."""
    digits = "".join(text.split()).replace(":", "").removeprefix("0x")
    try:
        network = bytes.fromhex(digits)
    except ValueError as error:
        raise WireError("not hex digits", found=text) from error
    return parse(network)


def ip(source: Address, destination: Address, protocol: int, payload: bytes) -> bytes:
    """Build an IP packet without options. Raises `WireError`: something does not fit."""
    _fits("protocol", protocol, 8)
    if source.version != destination.version:
        raise WireError(f"{source} and {destination} are of different families")
    if isinstance(source, IPv4Address):
        total = _IPV4_HEADER + len(payload)
        if total > _MAX_LENGTH:
            raise WireError(f"{total} bytes do not fit in an IPv4 packet")
        header = struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, protocol, 0) + source.packed + destination.packed
        return header[:10] + _checksum(header) + header[12:] + payload
    if len(payload) > _MAX_LENGTH:
        raise WireError(f"{len(payload)} bytes do not fit in an IPv6 packet")
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + source.packed + destination.packed + payload


def udp(sport: int, dport: int, payload: bytes) -> bytes:
    """Build a UDP datagram without a checksum (legal for ESP in UDP, RFC 3948 section 2.1).

    Raises:
        WireError: something does not fit.
    """
    _fits("source port", sport, 16)
    _fits("destination port", dport, 16)
    if 8 + len(payload) > _MAX_LENGTH:
        raise WireError(f"{8 + len(payload)} bytes do not fit in a UDP datagram")
    return struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


def ike(spi_i: bytes, spi_r: bytes, *, version: int = 2, initiator: bool = True, exchange: int = 34) -> bytes:
    """Build a bare IKE header (RFC 7296 section 3.1; RFC 2408 section 3.1 for version 1).

    Raises:
        WireError: something does not fit.
    """
    for spi in (spi_i, spi_r):
        if len(spi) != _IKE_SPI:
            raise WireError(f"an IKE SPI of {len(spi)} bytes instead of {_IKE_SPI}", found=spi)
    _fits("version", version, 4)
    _fits("exchange type", exchange, 8)
    flags = 0x08 if initiator and version != 1 else 0
    return spi_i + spi_r + struct.pack(">BBBBII", 0, version << 4, exchange, flags, 0, 28)


def esp(spi: int, sequence: int = 1) -> bytes:
    """Build an ESP header and a few bytes (RFC 4303 section 2). Raises `WireError`: a number does not fit."""
    _fits("SPI", spi, 32)
    _fits("sequence number", sequence, 32)
    return struct.pack(">II", spi, sequence) + bytes(16)


def icmp_too_big(quoted: bytes, *, version: int, mtu: int = 1400) -> bytes:
    """Build "fragmentation needed" (RFC 792) or "packet too big" (RFC 4443 section 3.2) about a packet.

    Raises:
        WireError: the MTU does not fit.
    """
    _fits("MTU", mtu, 16 if version == 4 else 32)  # noqa: PLR2004 - IP version
    if version == 4:  # noqa: PLR2004 - IP version
        body = struct.pack(">BBHHH", 3, 4, 0, 0, mtu) + quoted
        return body[:2] + _checksum(body) + body[4:]
    return struct.pack(">BBHI", 2, 0, 0, mtu) + quoted


def address(text: str) -> Address:
    """Read an address. Raises `WireError`."""
    try:
        return ip_address(text)
    except ValueError as error:
        raise WireError("not an IP address", found=text) from error


def _fits(what: str, number: int, bits: int) -> None:
    if not 0 <= number < 1 << bits:
        raise WireError(f"{what} {number} does not fit in {bits} bits")


def _checksum(data: bytes) -> bytes:
    padded = data + bytes(len(data) % 2)
    total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")
