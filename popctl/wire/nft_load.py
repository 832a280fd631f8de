"""Many elements of a map of marks in one netlink transaction.

The program nft takes a second to read 65,536 elements as text; the kernel takes them in a few milliseconds.
See linux/netfilter/nf_tables.h and nfnetlink.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from itertools import islice

from popctl.wire.errors import WireError
from popctl.wire.nfnetlink import FAMILIES, SUBSYSTEM

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct(">BBH")
"""Family, version, resource."""
_ATTRIBUTE = struct.Struct("=HH")
_ELEMENT = struct.Struct("=HHHHHHIHHHHI")
"""LIST_ELEM { KEY { VALUE: mark }, DATA { VALUE: mark } }."""
_BEGIN, _END, _NEW_ELEMENTS = 0x10, 0x11, SUBSYSTEM << 8 | 12
_REQUEST, _ACK, _CREATE, _NESTED = 0x01, 0x04, 0x400, 0x8000
_TABLE, _SET, _ELEMENTS, _GENERATION = 1, 2, 3, 1
_ERROR = 2
_PER_MESSAGE = 2048
"""An attribute holds 64 kB at most; an element takes 28 bytes."""


def load_request(family: str, table: str, name: str, elements: Iterable[tuple[int, int]], generation: int) -> bytes:
    """Return a transaction that adds elements (mark -> mark) to a map, if the rule set is still of this generation.

    The last message asks for an answer.
    """
    pieces = list(_pieces(elements))
    number = struct.pack(">I", generation)
    parts = [_message(_BEGIN, _REQUEST, _GENERIC.pack(0, 0, SUBSYSTEM) + _attribute(_GENERATION, number))]
    names = _attribute(_TABLE, table.encode() + b"\0") + _attribute(_SET, name.encode() + b"\0")
    for at, piece in enumerate(pieces, start=1):
        flags = _REQUEST | _CREATE | (_ACK if at == len(pieces) else 0)
        body = _GENERIC.pack(FAMILIES[family], 0, 0) + names + _attribute(_ELEMENTS | _NESTED, piece)
        parts.append(_message(_NEW_ELEMENTS, flags, body))
    parts.append(_message(_END, _REQUEST, _GENERIC.pack(0, 0, SUBSYSTEM)))
    return b"".join(parts)


def load_answers(datagram: bytes) -> list[int]:
    """Return the errno of each answer; 0 is success.

    Raises:
        WireError: it is cut short, or no answer.
    """
    found = []
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, _, _, _ = _HEADER.unpack_from(datagram, offset)
        if kind != _ERROR or length < _HEADER.size + 4 or offset + length > len(datagram):
            raise WireError("not an answer of netlink", found=datagram, offset=offset)
        found.append(-int.from_bytes(datagram[offset + 16 : offset + 20], sys.byteorder, signed=True))
        offset += (length + 3) & ~3
    if not found:
        raise WireError("not an answer of netlink", found=datagram)
    return found


def _pieces(elements: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    rest = iter(elements)
    pack = _ELEMENT.pack
    while piece := b"".join(
        pack(28, 1 | _NESTED, 12, 1 | _NESTED, 8, 1, key, 12, 2 | _NESTED, 8, 1, value)
        for key, value in islice(rest, _PER_MESSAGE)
    ):
        yield piece


def _attribute(number: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(len(value) + _ATTRIBUTE.size, number) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body
