"""nftables over netlink: what changed in which set, and the bones of a table without the elements of its sets.

Every transaction on the host ends with NEWGEN and its number; a hand that knows the numbers of its own transactions
can tell drift from its own work. `nft -j list table` reads 65,536 elements to say whether one rule is gone; the bones
are a few dumps. See linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from popctl.wire.errors import WireError
from popctl.wire.nft_text import SeenSet, SeenTable

SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES."""
MULTICAST_GROUP = 7
"""NFNLGRP_NFTABLES."""
NEWGEN = 15
GETGEN = 16
FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}
_HEADER = struct.Struct("=IHHII")
_NFGENMSG = 4
_ATTRIBUTE = struct.Struct("=HH")
_REQUEST, _DUMP, _INTERRUPTED = 1, 0x300, 0x10
_ERROR, _DONE = 2, 3
_TABLE, _NAME = 1, 2
"""Numbers of the first two attributes in every message about what is in a table; of NEWGEN, 1 is the number."""
_CHAIN_NAME, _CHAIN_HOOK, _RULE_USERDATA, _SET_FLAGS, _SET_DESCRIPTION, _SET_TIMEOUT = 3, 4, 7, 3, 9, 11
_OBJECT_TYPE, _OBJECT_DATA, _COUNTER = 3, 4, 1
_ANONYMOUS = 0x01
_MAP_FLAGS = 0x08 | 0x40
"""NFT_SET_MAP, NFT_SET_OBJECT."""
_HOOKS = {0: "prerouting", 1: "input", 2: "forward", 3: "output", 4: "postrouting", 5: "ingress"}


class Kind(IntEnum):
    """What can be dumped, by its question; the answer's number is one less."""

    CHAINS = 4
    RULES = 7
    SETS = 10
    OBJECTS = 19


_OF_SETS = range(Kind.SETS - 1, Kind.SETS + 5)
"""Messages whose second attribute is the name of a set: about sets and about elements."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something in a table was changed."""

    table: str
    set_name: str = ""
    """The set, when it is about one or about elements of one."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A transaction is complete."""

    number: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of a dump: attributes by number."""

    family: int
    kind: Kind
    attributes: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Others changed the rule set during the dump: what was told may be of two generations. Its end still follows."""


@dataclass(frozen=True, slots=True)
class End:
    """A dump is complete, or refused."""

    error: int = 0


def generation_request() -> bytes:
    """Return the question for the present generation."""
    return _HEADER.pack(_HEADER.size + _NFGENMSG, SUBSYSTEM << 8 | GETGEN, _REQUEST, 1, 0) + bytes(_NFGENMSG)


def dump_request(kind: Kind) -> bytes:
    """Return the question for all things of a kind on the host; older kernels ignore narrower ones."""
    return _HEADER.pack(_HEADER.size + _NFGENMSG, SUBSYSTEM << 8 | kind, _REQUEST | _DUMP, 1, 0) + bytes(_NFGENMSG)


def messages(datagram: bytes) -> Iterator[Change | Generation]:
    """Read the change messages of one datagram.

    Raises:
        WireError: it is cut short.
    """
    for kind, _, body in _split(datagram):
        if kind >> 8 != SUBSYSTEM:
            continue
        attributes = _attributes(body[_NFGENMSG:])
        number = kind & 0xFF
        if number == NEWGEN:
            yield Generation(int.from_bytes(attributes.get(_TABLE, b"")[:4], "big"))
        elif table := _string(attributes.get(_TABLE, b"")):
            yield Change(table, _string(attributes.get(_NAME, b"")) if number in _OF_SETS else "")


def dumped(datagram: bytes, kind: Kind) -> Iterator[Entry | Interrupted | End]:
    """Read one datagram of the answer to `dump_request(kind)`.

    Raises:
        WireError: it is cut short.
    """
    for number, flags, body in _split(datagram):
        if flags & _INTERRUPTED:
            yield Interrupted()
        if number in (_ERROR, _DONE):
            yield End(-int.from_bytes(body[:4], sys.byteorder, signed=True) if len(body) >= 4 else 0)  # noqa: PLR2004 - an int
        elif number == SUBSYSTEM << 8 | (kind - 1) and body:
            yield Entry(body[0], kind, _attributes(body[_NFGENMSG:]))


def bones(entries: Iterable[Entry], family: str, table: str) -> SeenTable:
    """Return a table from dumps of all kinds, sets without elements (`SeenSet.elements` is None).

    Raises:
        WireError: an attribute is not what it should be.
    """
    chains: dict[str, list[str]] = {}
    hooks: dict[str, tuple[str, int]] = {}
    sets: dict[str, SeenSet] = {}
    counters = set()
    wanted = [e for e in entries if e.family == FAMILIES[family] and _string(e.attributes.get(_TABLE, b"")) == table]
    for entry in sorted(wanted, key=lambda one: one.kind):
        attributes = entry.attributes
        # Of a rule it is its chain. Chains come first, and each kind in the kernel's order.
        name = _string(attributes.get(_CHAIN_NAME if entry.kind is Kind.CHAINS else _NAME, b""))
        match entry.kind:
            case Kind.CHAINS:
                chains[name] = []
                if _CHAIN_HOOK in attributes:
                    hooks[name] = _hook(attributes[_CHAIN_HOOK])
            case Kind.RULES:
                chains.setdefault(name, []).append(_comment(attributes.get(_RULE_USERDATA, b"")))
            case Kind.SETS if not _number(attributes, _SET_FLAGS) & _ANONYMOUS:
                sets[name] = _set(attributes)
            case Kind.OBJECTS:
                counters.add(name)
    return SeenTable(
        counters=frozenset(counters),
        sets=sets,
        chains={name: tuple(comments) for name, comments in chains.items()},
        hooks=hooks,
    )


def counted(entries: Iterable[Entry], table: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, packets and bytes of every counter of this table, in whatever family, from a dump of objects.

    Raises:
        WireError: an attribute is not what it should be.
    """
    for entry in entries:
        attributes = entry.attributes
        ours = entry.kind is Kind.OBJECTS and _string(attributes.get(_TABLE, b"")) == table
        if ours and _number(attributes, _OBJECT_TYPE) == _COUNTER:
            data = _attributes(attributes.get(_OBJECT_DATA, b""))
            yield _string(attributes.get(_NAME, b"")), _number(data, 2), _number(data, 1)


def _hook(value: bytes) -> tuple[str, int]:
    nested = _attributes(value)
    number = _number(nested, 1)
    return _HOOKS.get(number, str(number)), int.from_bytes(nested.get(2, b""), "big", signed=True)


def _set(attributes: dict[int, bytes]) -> SeenSet:
    return SeenSet(
        kind="map" if _number(attributes, _SET_FLAGS) & _MAP_FLAGS else "set",
        size=_number(_attributes(attributes.get(_SET_DESCRIPTION, b"")), 1),
        timeout_s=_number(attributes, _SET_TIMEOUT) // 1000,
        elements=None,
    )


def _number(attributes: dict[int, bytes], which: int) -> int:
    return int.from_bytes(attributes.get(which, b""), "big")


def _comment(userdata: bytes) -> str:
    """Return the comment among a rule's user data: type, length, value, where type 0 is the comment."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == 0:
            return _string(userdata[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""


def _split(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, flags and body of each message."""
    offset = 0
    while offset < len(datagram):
        if len(datagram) - offset < _HEADER.size:
            raise WireError("netlink header cut short", offset=offset)
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or offset + length > len(datagram):
            raise WireError(f"netlink length {length} does not fit", offset=offset)
        yield kind, flags, datagram[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _attributes(body: bytes) -> dict[int, bytes]:
    found = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size or offset + length > len(body):
            raise WireError("netlink attribute does not fit", offset=offset)
        found[kind & 0x3FFF] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _string(value: bytes) -> str:
    return value.split(b"\0")[0].decode(errors="replace")
