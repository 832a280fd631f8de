"""What IKEv1 and IKEv2 share: the header, the chain of payloads, and the marker on port 4500.

RFC 7296 section 3.1 and 3.2, RFC 2408 section 3.1 and 3.2 (the same 28 bytes and the same chain), RFC 3948 section 2.2.
Nothing here knows what is inside a payload.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = struct.Struct(">8s8sBBBBII")
"""Initiator SPI, responder SPI, next payload, version, exchange type, flags, message id, length."""
PAYLOAD_HEADER = struct.Struct(">BBH")
"""Next payload, critical bit and reserved bits, length with this header."""

MAX_MESSAGE = 8192
"""Bytes. Far above what a probe without certificates can be answered with; a bound for hostile input."""
MAX_PAYLOADS = 64
NON_ESP_MARKER = bytes(4)
"""RFC 3948 section 2.2: on port 4500, four zero bytes tell IKE from ESP, whose SPI is never zero."""
NAT_T_PORT = 4500
NO_SPI = bytes(8)

NO_NEXT = 0
_CRITICAL = 0x80


class Header(NamedTuple):
    """The fixed header of a message. IKEv1 calls the SPIs cookies."""

    spi_i: bytes
    spi_r: bytes
    next_payload: int
    version: int
    """Major version in the high four bits, minor in the low ones."""
    exchange: int
    flags: int
    message_id: int

    @property
    def major(self) -> int:
        """The major version: 1 or 2."""
        return self.version >> 4


class Payload(NamedTuple):
    """One payload of the chain."""

    type: int
    body: bytes
    critical: bool = False


def without_marker(datagram: bytes, *, nat_t: bool) -> bytes:
    """Return the IKE message in `datagram`. Raises `WireError` when port 4500 carried ESP or a keepalive instead."""
    if not nat_t:
        return datagram
    if datagram[:4] != NON_ESP_MARKER:
        raise WireError("no non-ESP marker", found=datagram)
    return datagram[4:]


def with_marker(message: bytes, *, nat_t: bool) -> bytes:
    """Return the datagram that carries `message`."""
    return NON_ESP_MARKER + message if nat_t else message


def decode_header(message: bytes) -> Header:
    """Read the header. Raises `WireError` unless the length field is exactly what arrived."""
    if len(message) < HEADER.size:
        raise WireError("IKE header truncated", found=message)
    if len(message) > MAX_MESSAGE:
        raise WireError("IKE message oversized", found=message)
    *fields, length = HEADER.unpack_from(message)
    if length != len(message):
        raise WireError(f"IKE length {length} in {len(message)} bytes", found=message[24:28], offset=24)
    return Header(*fields)


def encode(header: Header, body: bytes) -> bytes:
    """Put `header` before `body`, with the length filled in."""
    return HEADER.pack(*header, HEADER.size + len(body)) + body


def encode_payloads(payloads: Iterable[Payload]) -> bytes:
    """Chain payloads. The type of the first belongs into the header that precedes them."""
    chain = tuple(payloads)
    following = (*(payload.type for payload in chain[1:]), NO_NEXT)[: len(chain)]
    return b"".join(
        PAYLOAD_HEADER.pack(after, _CRITICAL if payload.critical else 0, PAYLOAD_HEADER.size + len(payload.body))
        + payload.body
        for payload, after in zip(chain, following, strict=True)
    )


def message_of(header: Header, payloads: Iterable[Payload]) -> bytes:
    """Encode a whole message; `next_payload` of `header` is replaced by what it must be."""
    chain = tuple(payloads)
    first = chain[0].type if chain else NO_NEXT
    return encode(header._replace(next_payload=first), encode_payloads(chain))


def decode_payloads(first: int, body: bytes, *, last_type: int = -1, padded: bool = False) -> tuple[Payload, ...]:
    """Walk the chain that fills `body`.

    Args:
        first: type of the first payload.
        body: the chain, to its last byte.
        last_type: a payload that ends the chain whatever it names as next (Encrypted, RFC 7296 section 3.14).
        padded: bytes may follow the chain (decrypted IKEv1, RFC 2409 appendix B).

    Raises:
        WireError: a length points outside, or there are too many payloads or bytes.
    """
    found: list[Payload] = []
    kind, at, end = first, 0, len(body)
    while kind != NO_NEXT:
        if len(found) == MAX_PAYLOADS:
            raise WireError("too many IKE payloads", offset=at)
        if at + PAYLOAD_HEADER.size > end:
            raise WireError("IKE payload header truncated", found=body[at:], offset=at)
        following, bits, length = PAYLOAD_HEADER.unpack_from(body, at)
        if not PAYLOAD_HEADER.size <= length <= end - at:
            raise WireError(f"IKE payload length {length}", found=body[at:], offset=at)
        found.append(Payload(kind, body[at + PAYLOAD_HEADER.size : at + length], bool(bits & _CRITICAL)))
        at += length
        kind = NO_NEXT if kind == last_type else following
    if at != end and not padded:
        raise WireError("bytes after the last IKE payload", found=body[at:], offset=at)
    return tuple(found)


def only(payloads: Iterable[Payload], kind: int) -> bytes | None:
    """Return the body of the payload of type `kind`, None without one. Raises `WireError` when there are several."""
    bodies = [payload.body for payload in payloads if payload.type == kind]
    if len(bodies) > 1:
        raise WireError(f"{len(bodies)} IKE payloads of type {kind}")
    return bodies[0] if bodies else None
