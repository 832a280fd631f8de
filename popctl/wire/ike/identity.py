"""Identities as IKE carries them (RFC 7296 section 3.5, RFC 2407 section 4.6.2)."""

from __future__ import annotations

from enum import IntEnum
from ipaddress import ip_address
from typing import NamedTuple

from popctl.wire.errors import WireError

_MIN_BODY = 4
"""Type and three bytes that are zero (IKEv1 phase 1: protocol and port)."""


class IdType(IntEnum):
    """How the bytes of an identity are meant."""

    IPV4_ADDR = 1
    FQDN = 2
    RFC822_ADDR = 3
    IPV6_ADDR = 5


_TEXT = frozenset({IdType.FQDN, IdType.RFC822_ADDR})
_ADDRESS_BYTES: dict[int, int] = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}


class Identity(NamedTuple):
    """Who somebody claims to be."""

    type: int
    data: bytes

    def matches(self, other: Identity) -> bool:
        """Tell whether both name the same: names ignore case, all else is compared byte by byte."""
        if self.type != other.type:
            return False
        return self.data.lower() == other.data.lower() if self.type in _TEXT else self.data == other.data

    def __str__(self) -> str:
        if self.type in _TEXT:
            return self.data.decode("ascii", "backslashreplace")
        if len(self.data) == _ADDRESS_BYTES.get(self.type):
            return str(ip_address(self.data))
        return f"type {self.type}: {self.data.hex()}"


def parse_identity(text: str) -> Identity:
    """Read an identity as operators write it: an address, `user@domain`, or else a host name.

    Raises:
        ValueError: `text` is empty or not ASCII.
    """
    if not text or not text.isascii():
        raise ValueError(f"not an IKE identity: {text!r}")
    try:
        address = ip_address(text)
    except ValueError:
        return Identity(IdType.RFC822_ADDR if "@" in text else IdType.FQDN, text.encode("ascii"))
    return Identity(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)  # noqa: PLR2004


def encode_identity(identity: Identity) -> bytes:
    """Encode the body of an identification payload, of either version of IKE."""
    return bytes((identity.type, 0, 0, 0)) + identity.data


def decode_identity(body: bytes) -> Identity:
    """Read the body of an identification payload. Raises `WireError`."""
    if len(body) < _MIN_BODY:
        raise WireError("identification payload truncated", found=body)
    return Identity(body[0], body[_MIN_BODY:])
