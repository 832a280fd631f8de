"""IKEv2 payloads (RFC 7296 section 3): numbers, SA, KE, Notify, Delete. Bytes in, values out, and back."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from popctl.wire.errors import WireError
from popctl.wire.ike.message import Header, Payload, decode_header, decode_payloads

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 0x20


class Kind(IntEnum):
    """Payload types (section 3.2)."""

    SA = 33
    KE = 34
    ID_I = 35
    ID_R = 36
    AUTH = 39
    NONCE = 40
    NOTIFY = 41
    DELETE = 42
    ENCRYPTED = 46


_FIRST_DEFINED, _LAST_DEFINED = 33, 48
"""Payload types of RFC 7296. An unknown one with the critical bit refuses the message (section 2.5)."""


class Exchange(IntEnum):
    """Exchange types (section 3.1)."""

    IKE_SA_INIT = 34
    IKE_AUTH = 35
    INFORMATIONAL = 37


FLAG_INITIATOR = 0x08
"""Sent by the one who started the IKE SA."""
FLAG_RESPONSE = 0x20


class NotifyType(IntEnum):
    """Notify message types that a probe can be answered with (section 3.10.1). Below 16384 they are errors."""

    UNSUPPORTED_CRITICAL_PAYLOAD = 1
    INVALID_IKE_SPI = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_SYNTAX = 7
    INVALID_MESSAGE_ID = 9
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KE_PAYLOAD = 17
    AUTHENTICATION_FAILED = 24
    NO_ADDITIONAL_SAS = 35
    INTERNAL_ADDRESS_FAILURE = 36
    TS_UNACCEPTABLE = 38
    TEMPORARY_FAILURE = 43
    COOKIE = 16390
    REDIRECT = 16407
    CHILDLESS_IKEV2_SUPPORTED = 16418
    """RFC 6023 section 3: only then may IKE_AUTH come without a CHILD_SA."""


FIRST_STATUS_TYPE = 16384


class TransformType(IntEnum):
    """What a transform is for (section 3.3.2)."""

    ENCR = 1
    PRF = 2
    INTEG = 3
    DH = 4


PROTOCOL_IKE = 1
_MORE_PROPOSALS, _MORE_TRANSFORMS = 2, 3
_KEY_LENGTH = 0x800E
"""Attribute 14 in the short form, the only attribute that is defined (section 3.3.5)."""
_PROPOSAL = struct.Struct(">BxHBBBB")
_TRANSFORM = struct.Struct(">BxHBxH")
_MAX_COOKIE = 64
_SHORT_FORM = 0x8000


class Transform(NamedTuple):
    """One algorithm of a proposal."""

    type: int
    id: int
    key_bits: int | None = None


class Proposal(NamedTuple):
    """One proposal: any one transform of each type."""

    number: int
    transforms: tuple[Transform, ...]
    protocol: int = PROTOCOL_IKE
    spi: bytes = b""


class Notify(NamedTuple):
    """A Notify payload (section 3.10)."""

    type: int
    data: bytes = b""
    protocol: int = 0
    spi: bytes = b""

    @property
    def name(self) -> str:
        """The name in the RFC, or the number."""
        return NotifyType(self.type).name if self.type in _NOTIFY_NUMBERS else f"notify {self.type}"


_NOTIFY_NUMBERS = frozenset(NotifyType)


def decode(message: bytes) -> tuple[Header, tuple[Payload, ...]]:
    """Read the header and the payloads that are in clear, an Encrypted payload unopened. Raises `WireError`."""
    header = decode_header(message)
    return header, walk(header.next_payload, message[28:])


def walk(first: int, body: bytes) -> tuple[Payload, ...]:
    """Walk a chain of IKEv2 payloads. Raises `WireError`, also for an unknown payload marked critical."""
    payloads = decode_payloads(first, body, last_type=Kind.ENCRYPTED)
    for payload in payloads:
        if payload.critical and not _FIRST_DEFINED <= payload.type <= _LAST_DEFINED:
            raise WireError(f"unknown critical payload {payload.type}", found=payload.body)
    return payloads


def encode_sa(proposals: Iterable[Proposal]) -> bytes:
    """Encode the body of an SA payload (section 3.3)."""
    offered = tuple(proposals)
    out = []
    for index, proposal in enumerate(offered):
        transforms = b"".join(
            _encode_transform(transform, last=place == len(proposal.transforms))
            for place, transform in enumerate(proposal.transforms, start=1)
        )
        more = _MORE_PROPOSALS if index < len(offered) - 1 else 0
        length = _PROPOSAL.size + len(proposal.spi) + len(transforms)
        spi_size, count = len(proposal.spi), len(proposal.transforms)
        out += [_PROPOSAL.pack(more, length, proposal.number, proposal.protocol, spi_size, count)]
        out += [proposal.spi, transforms]
    return b"".join(out)


def _encode_transform(transform: Transform, *, last: bool) -> bytes:
    attributes = b"" if transform.key_bits is None else struct.pack(">HH", _KEY_LENGTH, transform.key_bits)
    more = 0 if last else _MORE_TRANSFORMS
    return _TRANSFORM.pack(more, _TRANSFORM.size + len(attributes), transform.type, transform.id) + attributes


def decode_sa(body: bytes) -> tuple[Proposal, ...]:
    """Read the body of an SA payload. Raises `WireError`."""
    proposals: list[Proposal] = []
    at, more = 0, True
    while more:
        if at + _PROPOSAL.size > len(body):
            raise WireError("proposal truncated", found=body[at:], offset=at)
        marker, length, number, protocol, spi_size, count = _PROPOSAL.unpack_from(body, at)
        transforms_at = at + _PROPOSAL.size + spi_size
        if marker not in {0, _MORE_PROPOSALS} or not transforms_at <= at + length <= len(body):
            raise WireError("proposal malformed", found=body[at:], offset=at)
        spi = body[at + _PROPOSAL.size : transforms_at]
        transforms = _decode_transforms(body[transforms_at : at + length], count)
        proposals.append(Proposal(number, transforms, protocol, spi))
        at, more = at + length, marker == _MORE_PROPOSALS
    if at != len(body):
        raise WireError("bytes after the last proposal", found=body[at:], offset=at)
    return tuple(proposals)


def _decode_transforms(body: bytes, count: int) -> tuple[Transform, ...]:
    transforms = []
    at = 0
    for left in range(count, 0, -1):
        if at + _TRANSFORM.size > len(body):
            raise WireError("transform truncated", found=body[at:], offset=at)
        more, length, kind, number = _TRANSFORM.unpack_from(body, at)
        if more != (_MORE_TRANSFORMS if left > 1 else 0) or not _TRANSFORM.size <= length <= len(body) - at:
            raise WireError("transform malformed", found=body[at:], offset=at)
        key_bits = _key_bits(body[at + _TRANSFORM.size : at + length])
        transforms.append(Transform(kind, number, key_bits))
        at += length
    if at != len(body):
        raise WireError("bytes after the last transform", found=body[at:], offset=at)
    return tuple(transforms)


def _key_bits(attributes: bytes) -> int | None:
    """Read the attributes of a transform: at most one, the key length."""
    if not attributes:
        return None
    if len(attributes) != 4:  # noqa: PLR2004 - one attribute in the short form: type and value, 16 bits each
        raise WireError("transform attributes malformed", found=attributes)
    kind, value = struct.unpack(">HH", attributes)
    if kind != _KEY_LENGTH:
        raise WireError(f"transform attribute {kind & ~_SHORT_FORM}", found=attributes)
    return int(value)


def encode_ke(group: int, public: bytes) -> bytes:
    """Encode the body of a KE payload (section 3.4)."""
    return struct.pack(">HH", group, 0) + public


def decode_ke(body: bytes) -> tuple[int, bytes]:
    """Read the body of a KE payload into group and public value. Raises `WireError`."""
    if len(body) <= 4:  # noqa: PLR2004 - group and reserved
        raise WireError("KE payload truncated", found=body)
    return int.from_bytes(body[:2], "big"), body[4:]


def encode_notify(notify: Notify) -> bytes:
    """Encode the body of a Notify payload (section 3.10)."""
    return struct.pack(">BBH", notify.protocol, len(notify.spi), notify.type) + notify.spi + notify.data


def decode_notify(body: bytes) -> Notify:
    """Read the body of a Notify payload. Raises `WireError`."""
    if len(body) < 4 or len(body) < 4 + body[1]:  # noqa: PLR2004 - protocol, SPI size, type
        raise WireError("Notify payload truncated", found=body)
    protocol, spi_size, kind = struct.unpack_from(">BBH", body)
    return Notify(kind, body[4 + spi_size :], protocol, body[4 : 4 + spi_size])


def notifies(payloads: Iterable[Payload]) -> tuple[Notify, ...]:
    """Read all Notify payloads, in order. Raises `WireError`."""
    return tuple(decode_notify(payload.body) for payload in payloads if payload.type == Kind.NOTIFY)


def cookie_of(found: Iterable[Notify]) -> bytes | None:
    """Return the cookie that the responder asks for (section 2.6), None without one. Raises `WireError`."""
    for notify in found:
        if notify.type == NotifyType.COOKIE:
            if not 1 <= len(notify.data) <= _MAX_COOKIE:
                raise WireError("cookie not of 1..64 bytes", found=notify.data)
            return notify.data
    return None


def cookie_payload(cookie: bytes) -> Payload:
    """Return the payload that must come first when IKE_SA_INIT is sent again with a cookie (section 2.6)."""
    return Payload(Kind.NOTIFY, encode_notify(Notify(NotifyType.COOKIE, cookie)))


DELETE_IKE_SA = Payload(Kind.DELETE, struct.pack(">BBH", PROTOCOL_IKE, 0, 0))
"""The Delete payload for the IKE SA itself: no SPI, the header has it (section 3.11)."""
