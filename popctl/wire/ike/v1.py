"""IKEv1 payloads (RFC 2408 section 3, RFC 2407, RFC 2409 appendix A): numbers, SA, Notification, Delete."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from popctl.wire.errors import WireError
from popctl.wire.ike.message import Payload

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 0x10


class Kind(IntEnum):
    """Payload types (RFC 2408 section 3.1)."""

    SA = 1
    KE = 4
    ID = 5
    HASH = 8
    NONCE = 10
    NOTIFICATION = 11
    DELETE = 12


class Exchange(IntEnum):
    """Exchange types (RFC 2408 section 3.1)."""

    MAIN_MODE = 2
    """Identity Protection."""
    AGGRESSIVE = 4
    INFORMATIONAL = 5


FLAG_ENCRYPTED = 0x01


class NotifyType(IntEnum):
    """Notify message types (RFC 2408 section 3.14.1). Below 16384 they are errors."""

    INVALID_PAYLOAD_TYPE = 1
    DOI_NOT_SUPPORTED = 2
    SITUATION_NOT_SUPPORTED = 3
    INVALID_COOKIE = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_EXCHANGE_TYPE = 7
    INVALID_PROTOCOL_ID = 10
    NO_PROPOSAL_CHOSEN = 14
    BAD_PROPOSAL_SYNTAX = 15
    PAYLOAD_MALFORMED = 16
    INVALID_KEY_INFORMATION = 17
    INVALID_ID_INFORMATION = 18
    INVALID_HASH_INFORMATION = 23
    AUTHENTICATION_FAILED = 24
    INVALID_SIGNATURE = 25


_NOTIFY_NUMBERS = frozenset(NotifyType)


class Attribute(IntEnum):
    """Attributes of an ISAKMP transform (RFC 2409 appendix A)."""

    ENCRYPTION = 1
    HASH = 2
    AUTHENTICATION = 3
    GROUP = 4
    LIFE_TYPE = 11
    LIFE_DURATION = 12
    KEY_BITS = 14


_REPEATED = frozenset({Attribute.LIFE_TYPE, Attribute.LIFE_DURATION})
"""In pairs: a lifetime in seconds and one in kilobytes. Anything else has one value, or no meaning."""
AUTH_PSK = 1
LIFE_SECONDS = 1
DOI_IPSEC = 1
_SIT_IDENTITY_ONLY = 1
PROTOCOL_ISAKMP = 1
KEY_IKE = 1
_MORE_PROPOSALS, _MORE_TRANSFORMS = 2, 3
_SA = struct.Struct(">II")
_PROPOSAL = struct.Struct(">BxHBBBB")
_TRANSFORM = struct.Struct(">BxHBBxx")
_NOTIFICATION = struct.Struct(">IBBH")
_SHORT_FORM = 0x8000
_COOKIES = 16


class Transform(NamedTuple):
    """One complete set of algorithms, numbered."""

    number: int
    attributes: tuple[tuple[int, int], ...]
    id: int = KEY_IKE

    def get(self, attribute: Attribute) -> int | None:
        """Return the value of `attribute`, None without it; of a lifetime the first."""
        return next((value for kind, value in self.attributes if kind == attribute), None)


class Notification(NamedTuple):
    """A Notification payload (RFC 2408 section 3.14)."""

    type: int
    spi: bytes = b""
    """Both cookies, or nothing."""
    data: bytes = b""
    protocol: int = PROTOCOL_ISAKMP

    @property
    def name(self) -> str:
        """The name in the RFC, or the number."""
        return NotifyType(self.type).name if self.type in _NOTIFY_NUMBERS else f"notify {self.type}"


def transform(
    number: int, *, encryption: tuple[int, int | None], hash_id: int, group: int, lifetime_s: int = 28800
) -> Transform:
    """Build a transform with a pre-shared key; `encryption` is algorithm and key bits, None where fixed."""
    cipher, key_bits = encryption
    key = () if key_bits is None else ((Attribute.KEY_BITS, key_bits),)
    attributes: tuple[tuple[int, int], ...] = (
        (Attribute.ENCRYPTION, cipher),
        *key,
        (Attribute.HASH, hash_id),
        (Attribute.GROUP, group),
        (Attribute.AUTHENTICATION, AUTH_PSK),
        (Attribute.LIFE_TYPE, LIFE_SECONDS),
        (Attribute.LIFE_DURATION, lifetime_s),
    )
    return Transform(number, tuple((int(kind), value) for kind, value in attributes))


def encode_sa(transforms: Iterable[Transform]) -> bytes:
    """Encode the body of an SA payload: IPsec DOI, one ISAKMP proposal (RFC 2408 section 3.4 to 3.6)."""
    offered = tuple(transforms)
    encoded = b"".join(_encode_transform(each, last=each is offered[-1]) for each in offered)
    proposal = _PROPOSAL.pack(0, _PROPOSAL.size + len(encoded), 1, PROTOCOL_ISAKMP, 0, len(offered)) + encoded
    return _SA.pack(DOI_IPSEC, _SIT_IDENTITY_ONLY) + proposal


def _encode_transform(each: Transform, *, last: bool) -> bytes:
    attributes = b"".join(
        struct.pack(">HH", _SHORT_FORM | kind, value) if value < 1 << 16 else struct.pack(">HHI", kind, 4, value)
        for kind, value in each.attributes
    )
    more = 0 if last else _MORE_TRANSFORMS
    return _TRANSFORM.pack(more, _TRANSFORM.size + len(attributes), each.number, each.id) + attributes


def decode_sa(body: bytes) -> tuple[Transform, ...]:
    """Read the body of an SA payload with one ISAKMP proposal, as phase 1 has it. Raises `WireError`."""
    if len(body) < _SA.size + _PROPOSAL.size:
        raise WireError("SA payload truncated", found=body)
    doi, situation = _SA.unpack_from(body)
    more, length, _, protocol, spi_size, count = _PROPOSAL.unpack_from(body, _SA.size)
    if (doi, situation, protocol) != (DOI_IPSEC, _SIT_IDENTITY_ONLY, PROTOCOL_ISAKMP):
        raise WireError("not an SA of phase 1", found=body)
    start = _SA.size + _PROPOSAL.size + spi_size
    if more or length != len(body) - _SA.size or start > len(body):
        raise WireError("proposal malformed", found=body[_SA.size :], offset=_SA.size)
    return _decode_transforms(body[start:], count)


def _decode_transforms(body: bytes, count: int) -> tuple[Transform, ...]:
    found = []
    at = 0
    for left in range(count, 0, -1):
        if at + _TRANSFORM.size > len(body):
            raise WireError("transform truncated", found=body[at:], offset=at)
        more, length, number, kind = _TRANSFORM.unpack_from(body, at)
        if more != (_MORE_TRANSFORMS if left > 1 else 0) or not _TRANSFORM.size <= length <= len(body) - at:
            raise WireError("transform malformed", found=body[at:], offset=at)
        found.append(Transform(number, _decode_attributes(body[at + _TRANSFORM.size : at + length]), kind))
        at += length
    if at != len(body):
        raise WireError("bytes after the last transform", found=body[at:], offset=at)
    return tuple(found)


def _decode_attributes(body: bytes) -> tuple[tuple[int, int], ...]:
    """Read data attributes (RFC 2408 section 3.3), short and long form."""
    found: list[tuple[int, int]] = []
    seen: set[int] = set()
    at = 0
    while at < len(body):
        if at + 4 > len(body):
            raise WireError("attribute truncated", found=body[at:], offset=at)
        kind, value = struct.unpack_from(">HH", body, at)
        at += 4
        if not kind & _SHORT_FORM:
            length, value = value, int.from_bytes(body[at : at + value], "big")
            if at + length > len(body):
                raise WireError("attribute truncated", found=body[at:], offset=at)
            at += length
        kind &= ~_SHORT_FORM
        if kind in seen and kind not in _REPEATED:
            raise WireError(f"attribute {kind} twice", found=body)
        seen.add(kind)
        found.append((kind, value))
    return tuple(found)


def encode_notification(notification: Notification) -> bytes:
    """Encode the body of a Notification payload."""
    spi = notification.spi
    return _NOTIFICATION.pack(DOI_IPSEC, notification.protocol, len(spi), notification.type) + spi + notification.data


def decode_notification(body: bytes) -> Notification:
    """Read the body of a Notification payload. Raises `WireError`."""
    if len(body) < _NOTIFICATION.size or len(body) < _NOTIFICATION.size + body[5]:
        raise WireError("Notification payload truncated", found=body)
    _, protocol, spi_size, kind = _NOTIFICATION.unpack_from(body)
    end = _NOTIFICATION.size + spi_size
    return Notification(kind, body[_NOTIFICATION.size : end], body[end:], protocol)


def delete_ike_sa(spi_i: bytes, spi_r: bytes) -> Payload:
    """Return the Delete payload for the ISAKMP SA (RFC 2408 section 3.15)."""
    return Payload(Kind.DELETE, struct.pack(">IBBH", DOI_IPSEC, PROTOCOL_ISAKMP, _COOKIES, 1) + spi_i + spi_r)
