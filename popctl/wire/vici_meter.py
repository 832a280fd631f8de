"""VICI: requests out, packets in, and what charon's answers mean to a meter.

Framing and message encoding come from the `vici` package (strongSwan's own); `popctl.vici` speaks it. A packet is a
length of 4 bytes, a type of one byte, a name for requests and events, and a message (strongSwan,
src/libcharon/plugins/vici/README.md).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from vici.exception import DeserializationException
from vici.protocol import Message, Packet

from popctl.model.meter import IkeCounters, SaBytes
from popctl.wire.errors import WireError
from popctl.wire.vici_values import number, section, text

MAX_PACKET: Final = 512 * 1024
"""charon sends no longer ones."""
_HEADER: Final = 4


class Kind(IntEnum):
    """The types of packets that a client gets."""

    ANSWER = 1
    UNKNOWN_COMMAND = 2
    CONFIRMED = 5
    UNKNOWN_EVENT = 6
    EVENT = 7


@dataclass(frozen=True, slots=True)
class Received:
    """One packet."""

    kind: Kind
    event: str
    """Only for `EVENT`."""
    body: Mapping[str, Any]
    """Values are bytes, lists of bytes or mappings."""


def request(command: str, message: Mapping[str, object] | None = None) -> bytes:
    """Return a request, framed."""
    body = Message.serialize(message) if message else None
    return _framed(Packet.request(command, body))


def register(event: str) -> bytes:
    """Return a request to be sent events of this name, framed."""
    return _framed(Packet.register_event(event))


def unregister(event: str) -> bytes:
    """Take that back."""
    return _framed(Packet.unregister_event(event))


def _framed(packet: bytes) -> bytes:
    return struct.pack("!I", len(packet)) + packet


class Receiver:
    """Bytes in any portions in, packets out. After a `WireError` the connection is of no use any more."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[Received]:
        """Take bytes; return the packets that are complete now. Raises `WireError`."""
        self._buffer += data
        found = []
        while len(self._buffer) >= _HEADER:
            (length,) = struct.unpack_from("!I", self._buffer)
            if not 0 < length <= MAX_PACKET:
                raise WireError(f"a packet of {length} bytes", found=bytes(self._buffer))
            if len(self._buffer) < _HEADER + length:
                break
            found.append(decode(bytes(self._buffer[_HEADER : _HEADER + length])))
            del self._buffer[: _HEADER + length]
        return found


def decode(packet: bytes) -> Received:
    """Read one packet without its length. Raises `WireError`."""
    try:
        kind = Kind(packet[0])
        parsed = Packet.parse(packet)
        event = parsed.event_type.decode("ascii") if kind is Kind.EVENT else ""
        body = Message.deserialize(parsed.payload)
    except (ValueError, IndexError, KeyError, struct.error, DeserializationException) as error:
        raise WireError("not a VICI packet", found=packet) from error
    return Received(kind, event, body)


def counters(stats: Mapping[str, Any], counted: Mapping[str, Any], pools: Mapping[str, Any]) -> IkeCounters:
    """Read the answers to `stats`, `get-counters` (of all connections together) and `get-pools`.

    Raises:
        WireError: something is missing, or no number.
    """
    workers, queues, sas = section(stats, "workers"), section(stats, "queues"), section(stats, "ikesas")
    global_ = section(section(counted, "counters"), "")
    rekeys = number(global_, "ike-rekey-init") + number(global_, "ike-rekey-resp")
    sizes = [pool for pool in pools.values() if isinstance(pool, Mapping)]
    return IkeCounters(
        uptime_s=uptime_s(text(section(stats, "uptime"), "running")),
        sas=number(sas, "total"),
        half_open=number(sas, "half-open"),
        workers_idle=number(workers, "idle"),
        jobs_queued=sum(number(queues, name) for name in queues),
        handshakes=number(global_, "ike-init-in-req") + number(global_, "ike-rekey-resp"),
        rekeys=rekeys + number(global_, "child-rekey"),
        invalid_spi=number(global_, "invalid-spi"),
        invalid=number(global_, "invalid"),
        leases=sum(number(pool, "online") for pool in sizes) if sizes else None,
        addresses=sum(number(pool, "size") for pool in sizes) if sizes else None,
    )


_UNITS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


def uptime_s(words: str) -> float:
    """Read a duration as charon prints it, such as "7 minutes". Raises `WireError`."""
    found = re.fullmatch(r"([0-9]{1,9}) (second|minute|hour|day)s?", words)
    if found is None:
        raise WireError("not a duration", found=words)
    return int(found[1]) * _UNITS[found[2]]


def sa_bytes(body: Mapping[str, Any]) -> dict[str, SaBytes]:
    """Read one `list-sa` event: unique id -> what the SA moved, for those that are established. Raises `WireError`."""
    found = {}
    for sa in body.values():
        if not isinstance(sa, Mapping):
            raise WireError("not a section per SA", found=str(sa))
        if sa.get("state") != b"ESTABLISHED":
            continue
        children = [child for child in section(sa, "child-sas", {}).values() if isinstance(child, Mapping)]
        moved = sum(number(child, way) for child in children for way in ("bytes-in", "bytes-out") if way in child)
        found[text(sa, "uniqueid")] = SaBytes(children=len(children), bytes=moved)
    return found
