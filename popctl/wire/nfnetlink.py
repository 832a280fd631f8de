"""nftables' change messages: which of our tables somebody changed, and in which generation of the rule set.

Every transaction on the host ends with NEWGEN and its number; a hand that knows the numbers of its own transactions
can tell drift from its own work. See linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from popctl.wire.errors import WireError

SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES."""
MULTICAST_GROUP = 7
"""NFNLGRP_NFTABLES."""
NEWGEN = 15
GETGEN = 16
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = 4
_ATTRIBUTE = struct.Struct("=HH")
_REQUEST = 1
_FIRST_ATTRIBUTE = 1
"""The table's name in every message about a table or what is in it; the number in NEWGEN."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something in a table was changed."""

    table: str


@dataclass(frozen=True, slots=True)
class Generation:
    """A transaction is complete."""

    number: int


def generation_request() -> bytes:
    """Return the question for the present generation."""
    return _HEADER.pack(_HEADER.size + _NFGENMSG, SUBSYSTEM << 8 | GETGEN, _REQUEST, 1, 0) + bytes(_NFGENMSG)


def messages(datagram: bytes) -> Iterator[Change | Generation]:
    """Read the messages of one datagram.

    Raises:
        WireError: it is cut short.
    """
    offset = 0
    while offset < len(datagram):
        if len(datagram) - offset < _HEADER.size:
            raise WireError("netlink header cut short", offset=offset)
        length, kind, _, _, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or offset + length > len(datagram):
            raise WireError(f"netlink length {length} does not fit", offset=offset)
        if kind >> 8 == SUBSYSTEM:
            body = datagram[offset + _HEADER.size + _NFGENMSG : offset + length]
            value = _first(body)
            if kind & 0xFF == NEWGEN:
                yield Generation(int.from_bytes(value[:4], "big"))
            elif value:
                yield Change(value.split(b"\0")[0].decode(errors="replace"))
        offset += (length + 3) & ~3


def _first(body: bytes) -> bytes:
    """Return the value of the attribute numbered 1."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size or offset + length > len(body):
            raise WireError("netlink attribute does not fit", offset=offset)
        if kind & 0x3FFF == _FIRST_ATTRIBUTE:
            return body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return b""
