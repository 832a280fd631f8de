"""What all of netlink has in common: the number of a question, which its answers bear (netlink(7), nlmsg_seq)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from popctl.wire.errors import WireError

_HEADER = struct.Struct("=IHHII")
_NUMBER = struct.Struct("=I")
_NUMBER_AT = 8


def numbered(messages: bytes, number: int) -> bytes:
    """Return the same messages with this number in each.

    Raises:
        WireError: they are cut short.
    """
    result = bytearray(messages)
    for at, _, _ in _places(messages):
        _NUMBER.pack_into(result, at + _NUMBER_AT, number)
    return bytes(result)


def answering(datagram: bytes, number: int) -> bytes:
    """Return those messages of a datagram that bear this number; others answer questions that nobody waits for.

    Raises:
        WireError: it is cut short.
    """
    return b"".join(datagram[at:end] for at, end, found in _places(datagram) if found == number)


def _places(datagram: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield begin, end (padding included) and number of each message."""
    at = 0
    while at < len(datagram):
        if len(datagram) - at < _HEADER.size:
            raise WireError("netlink header cut short", offset=at)
        length, _, _, number, _ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            raise WireError(f"netlink length {length} does not fit", offset=at)
        end = at + ((length + 3) & ~3)
        yield at, end, number
        at = end
