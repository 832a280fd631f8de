"""ICMP echo (RFC 792, RFC 4443 section 4) as an exchange: one request, and only its own reply counts."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Turn, Verdict

if TYPE_CHECKING:
    from popctl.wire.exchange import Entropy

_HEADER = struct.Struct(">BBHHH")
"""Type, code, checksum, identifier, sequence number."""

_REQUEST_AND_REPLY = {4: (8, 0), 6: (128, 129)}
_IPV4 = 4
_PAYLOAD_BYTES = 32
_IPV4_HEADER_MIN_BYTES = 20


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of `data`; 0 when `data` holds its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:  # noqa: PLR2004 - one's complement: the carry goes round
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class EchoExchange:
    """One echo request with a random payload.

    The payload tells replies apart, not the identifier: the kernel writes its own identifier into what leaves a ping
    socket, and several raw sockets of one host see each other's replies.
    """

    def __init__(self, *, ip_version: int, entropy: Entropy, ip_header: bool) -> None:
        """Draw identifier, sequence number and payload from `entropy`.

        `ip_header` says that received datagrams start with an IPv4 header, as they do on a raw IPv4 socket.
        """
        request, self._reply_type = _REQUEST_AND_REPLY[ip_version]
        self._ip_header = ip_header
        self._ipv4 = ip_version == _IPV4
        self._sequence = int.from_bytes(entropy(2))
        identifier = int.from_bytes(entropy(2))
        self._payload = entropy(_PAYLOAD_BYTES)
        # The kernel fills in the ICMPv6 checksum, which covers addresses that only it knows (RFC 3542 section 3.1).
        unsummed = _HEADER.pack(request, 0, 0, identifier, self._sequence) + self._payload
        total = checksum(unsummed) if self._ipv4 else 0
        self._request = _HEADER.pack(request, 0, total, identifier, self._sequence) + self._payload

    def start(self) -> bytes:
        """Return the echo request."""
        return self._request

    def receive(self, datagram: bytes) -> Turn:
        """Pass on the reply to this very request; ignore all other ICMP messages.

        Raises:
            WireError: too short for an ICMP message, or the ICMPv4 checksum is wrong.
        """
        message = _after_ipv4_header(datagram) if self._ip_header else datagram
        if len(message) < _HEADER.size:
            raise WireError("too short for an ICMP message", found=message)
        if self._ipv4 and checksum(message):
            raise WireError("wrong ICMP checksum", found=message, offset=2)
        kind, code, _, _, sequence = _HEADER.unpack_from(message)
        if (kind, code, sequence) != (self._reply_type, 0, self._sequence) or message[_HEADER.size :] != self._payload:
            return IGNORED
        return Turn(verdict=Verdict(Outcome.PASS, Reason.ANSWERED))

    def abandon(self) -> tuple[bytes, ...]:
        """Return nothing: an echo leaves no state behind."""
        return ()


def _after_ipv4_header(packet: bytes) -> bytes:
    """Return what follows the IPv4 header (RFC 791 section 3.1: its length in words is the low half of byte 0)."""
    length = (packet[0] & 0x0F) * 4 if packet else 0
    if length < _IPV4_HEADER_MIN_BYTES or len(packet) < length:
        raise WireError("not an IPv4 packet", found=packet)
    return packet[length:]
