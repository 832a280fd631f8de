"""L2TP control messages (RFC 2661): header, AVPs, hidden AVPs, tunnel authentication. Bytes to values and back."""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER = struct.Struct(">HHHHHH")
_AVP = struct.Struct(">HHH")
_CONTROL = 0xC802
"""T, L and S bits, version 2: the only form a control message has (section 3.1)."""
_CONTROL_MASK = 0xCB0F
"""T, L, S, O, P and version; reserved bits are ignored on receipt."""
_MANDATORY, _HIDDEN, _RESERVED, _LENGTH = 0x8000, 0x4000, 0x3C00, 0x03FF
_DIGEST = 16
AVPS_MOST = 64
"""Of one message. The largest of a control connection has some 15; thousands of empty ones would fit a datagram."""


class MessageType(IntEnum):
    """Control messages of the control connection (section 3.2)."""

    SCCRQ = 1
    SCCRP = 2
    SCCCN = 3
    STOP_CCN = 4
    HELLO = 6


class AvpType(IntEnum):
    """Attributes of the messages of the control connection (section 4.4)."""

    MESSAGE_TYPE = 0
    RESULT_CODE = 1
    PROTOCOL_VERSION = 2
    FRAMING_CAPABILITIES = 3
    BEARER_CAPABILITIES = 4
    TIE_BREAKER = 5
    FIRMWARE_REVISION = 6
    HOST_NAME = 7
    VENDOR_NAME = 8
    ASSIGNED_TUNNEL_ID = 9
    RECEIVE_WINDOW_SIZE = 10
    CHALLENGE = 11
    CHALLENGE_RESPONSE = 13
    RANDOM_VECTOR = 36


KNOWN = frozenset(AvpType)


class Avp(NamedTuple):
    """One attribute value pair (section 4.1)."""

    type: int
    value: bytes
    mandatory: bool = True
    hidden: bool = False
    vendor: int = 0


class ControlMessage(NamedTuple):
    """A control message; without AVPs it is a Zero-Length Body message, a bare acknowledgement."""

    tunnel_id: int
    """Of the receiver."""
    session_id: int
    ns: int
    nr: int
    avps: tuple[Avp, ...] = ()

    @property
    def type(self) -> int | None:
        """The message type, None for a bare acknowledgement."""
        return int.from_bytes(self.avps[0].value, "big") if self.avps else None

    def get(self, kind: AvpType) -> bytes | None:
        """Return the value of the first IETF AVP of `kind`, None without it."""
        return next((avp.value for avp in self.avps if avp.type == kind and not avp.vendor), None)


def encode(message: ControlMessage) -> bytes:
    """Encode a control message."""
    body = b"".join(
        _AVP.pack(
            (_MANDATORY if avp.mandatory else 0) | (_HIDDEN if avp.hidden else 0) | _AVP.size + len(avp.value),
            avp.vendor,
            avp.type,
        )
        + avp.value
        for avp in message.avps
    )
    length = _HEADER.size + len(body)
    return _HEADER.pack(_CONTROL, length, message.tunnel_id, message.session_id, message.ns, message.nr) + body


def decode(datagram: bytes) -> ControlMessage:
    """Read a control message, hidden AVPs as they are. Raises `WireError`, also for a data message."""
    if len(datagram) < _HEADER.size:
        raise WireError("L2TP header truncated", found=datagram)
    bits, length, tunnel_id, session_id, ns, nr = _HEADER.unpack_from(datagram)
    if bits & _CONTROL_MASK != _CONTROL:
        raise WireError("not an L2TP control message", found=datagram)
    if length != len(datagram):
        raise WireError(f"L2TP length {length} in {len(datagram)} bytes", found=datagram[2:4], offset=2)
    return ControlMessage(tunnel_id, session_id, ns, nr, _decode_avps(datagram))


def _decode_avps(datagram: bytes) -> tuple[Avp, ...]:
    avps: list[Avp] = []
    at, end = _HEADER.size, len(datagram)
    left = AVPS_MOST
    while at < end:
        if not left:
            raise WireError(f"more than {AVPS_MOST} AVPs", found=datagram[at:], offset=at)
        left -= 1
        if at + _AVP.size > end:
            raise WireError("AVP truncated", found=datagram[at:], offset=at)
        bits, vendor, kind = _AVP.unpack_from(datagram, at)
        length = bits & _LENGTH
        if not _AVP.size <= length <= end - at:
            raise WireError(f"AVP length {length}", found=datagram[at:], offset=at)
        if bits & _RESERVED and bits & _MANDATORY:
            # Section 4.1: to be treated as an unknown AVP, and an unknown mandatory one ends the tunnel.
            raise WireError("reserved bits in a mandatory AVP", found=datagram[at:], offset=at)
        if not bits & _RESERVED:
            value = datagram[at + _AVP.size : at + length]
            avps.append(Avp(kind, value, bool(bits & _MANDATORY), bool(bits & _HIDDEN), vendor))
        at += length
    if avps and (avps[0].type, avps[0].vendor, avps[0].hidden, len(avps[0].value)) != (0, 0, False, 2):
        # Section 4.4.1: it comes first and is never hidden.
        raise WireError("no message type first", found=datagram[_HEADER.size :], offset=_HEADER.size)
    return tuple(avps)


def challenge_response(kind: MessageType, secret: bytes, challenge: bytes) -> bytes:
    """Return the answer to a challenge when it goes out in a message of type `kind` (sections 4.4.3 and 5.1.1)."""
    # The protocol fixes MD5; nothing of ours rests on it.
    return hashlib.md5(bytes((kind,)) + secret + challenge, usedforsecurity=False).digest()


def _mask(size: int, kind: int, secret: bytes, random_vector: bytes, hidden: bytes | None, plain: bytes = b"") -> bytes:
    """Apply the keystream of section 4.3: chained over the hidden text, which is `hidden` or the result."""
    block = hashlib.md5(kind.to_bytes(2, "big") + secret + random_vector, usedforsecurity=False).digest()
    source = plain if hidden is None else hidden
    out = b""
    for at in range(0, size, _DIGEST):
        piece = source[at : at + _DIGEST]
        result = bytes(a ^ b for a, b in zip(piece, block, strict=False))
        out += result
        chained = result if hidden is None else piece
        block = hashlib.md5(secret + chained, usedforsecurity=False).digest()
    return out


def hide(avp: Avp, secret: bytes, random_vector: bytes, padding: bytes = b"") -> Avp:
    """Hide the value of an AVP (section 4.3); a Random Vector AVP with `random_vector` must precede it."""
    plain = len(avp.value).to_bytes(2, "big") + avp.value + padding
    return avp._replace(value=_mask(len(plain), avp.type, secret, random_vector, None, plain), hidden=True)


def reveal(avps: Iterable[Avp], secret: bytes | None) -> tuple[Avp, ...]:
    """Uncover hidden AVPs (section 4.3). Raises `WireError` when that is impossible or gives nonsense."""
    found: list[Avp] = []
    random_vector: bytes | None = None
    for avp in avps:
        if avp.type == AvpType.RANDOM_VECTOR and not avp.vendor:
            random_vector = avp.value
        found.append(_reveal_one(avp, secret, random_vector) if avp.hidden else avp)
    return tuple(found)


def _reveal_one(avp: Avp, secret: bytes | None, random_vector: bytes | None) -> Avp:
    if secret is None or random_vector is None:
        raise WireError("hidden AVP without secret or random vector", found=avp.value)
    plain = _mask(len(avp.value), avp.type, secret, random_vector, avp.value)
    length = int.from_bytes(plain[:2], "big")
    if len(plain) < 2 + length:
        raise WireError("hidden AVP of impossible length", found=avp.value)
    return avp._replace(value=plain[2 : 2 + length], hidden=False)
