"""Captures: the IP packets of a classic pcap file, for `popctl lb explain`."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from popctl.wire.errors import WireError

_MAGIC = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}
_FILE_HEADER = 24
_RECORD_HEADER = 16
_ETHERNET, _RAW, _RAW_BSD, _SLL, _SLL2 = 1, 101, 12, 113, 276
_VLAN_TYPES = (b"\x81\x00", b"\x88\xa8")
_IP_TYPES = (b"\x08\x00", b"\x86\xdd")


def ip_packets(capture: bytes) -> Iterator[bytes | None]:
    """Yield the IP packet of every record, None for a record that is not IP.

    Raises:
        WireError: it is no pcap file, its link type is not known, or a record is cut short.
    """
    order = _MAGIC.get(capture[:4])
    if order is None or len(capture) < _FILE_HEADER:
        raise WireError("not a pcap file (pcapng is not read; `tcpdump -r in -w out` converts)", found=capture)
    (link,) = struct.unpack(order + "I", capture[20:24])
    link &= 0xFFFF
    if link not in (_ETHERNET, _RAW, _RAW_BSD, _SLL, _SLL2):
        raise WireError(f"link type {link} is not read", found=capture)
    offset = _FILE_HEADER
    while offset < len(capture):
        header = capture[offset : offset + _RECORD_HEADER]
        if len(header) < _RECORD_HEADER:
            raise WireError("record header cut short", offset=offset)
        (length,) = struct.unpack(order + "I", header[8:12])
        frame = capture[offset + _RECORD_HEADER : offset + _RECORD_HEADER + length]
        if len(frame) < length:
            raise WireError("record cut short", offset=offset)
        yield _network(frame, link)
        offset += _RECORD_HEADER + length


def _network(frame: bytes, link: int) -> bytes | None:
    match link:
        case 1:
            at = 12
            while frame[at : at + 2] in _VLAN_TYPES:
                at += 4
            kind, rest = frame[at : at + 2], frame[at + 2 :]
        case 113:
            kind, rest = frame[14:16], frame[16:]
        case 276:
            kind, rest = frame[0:2], frame[20:]
        case _:
            return frame
    return rest if kind in _IP_TYPES else None
