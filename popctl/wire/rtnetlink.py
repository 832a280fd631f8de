"""Rules, routes and addresses as rtnetlink messages: just what the balancer's hand says and reads.

See rtnetlink(7) and linux/fib_rules.h. A codec of our own, because the usual library would
cost the agent nine megabytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address

from popctl.wire.errors import WireError

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ROUTE = struct.Struct("=BBBBBBBBI")
"""rtmsg and fib_rule_hdr are of one shape: family, two lengths, tos, table, three bytes, flags."""
_ADDRESS = struct.Struct("=BBBBI")
_ERROR = struct.Struct("=i")
_TYPE_MASK = 0x3FFF
_ANY_SCOPE = 255
_STATIC = 4
_TO_TABLE = 1
_WORD = 4


class Kind(IntEnum):
    """Types of messages."""

    ERROR = 2
    DONE = 3
    NEW_ADDRESS = 20
    GET_ADDRESS = 22
    NEW_ROUTE = 24
    DELETE_ROUTE = 25
    GET_ROUTE = 26
    NEW_RULE = 32
    DELETE_RULE = 33
    GET_RULE = 34


class Flag(IntFlag):
    """Flags of requests."""

    REQUEST = 0x1
    ACK = 0x4
    DUMP = 0x300
    REPLACE = 0x100
    EXCLUSIVE = 0x200
    CREATE = 0x400


class RouteType(IntEnum):
    """What a route does with a packet."""

    UNICAST = 1
    BLACKHOLE = 6


class _RouteAttribute(IntEnum):
    GATEWAY = 5
    PRIORITY = 6
    TABLE = 15


class _RuleAttribute(IntEnum):
    PRIORITY = 6
    FWMARK = 10
    TABLE = 15
    FWMASK = 16


_IFA_ADDRESS = 1
_FAMILIES = {4: 2, 6: 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A default route of one table."""

    version: int
    table: int
    type: int
    gateway: IPv4Address | IPv6Address | None
    priority: int = 0
    default: bool = True
    """False: of a narrower prefix, which is read and never written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy rule by packet mark."""

    version: int
    priority: int
    mark: int
    mask: int
    table: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel says at the end: 0, or an errno."""

    error: int


def dump(kind: Kind, version: int, *, table: int = 0) -> bytes:
    """Return the question for all rules or addresses, or all routes of one table, of one family."""
    family = _FAMILIES[version]
    if kind is Kind.GET_ADDRESS:
        body = _ADDRESS.pack(family, 0, 0, 0, 0)
    else:
        body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        body += _attributes({_RouteAttribute.TABLE: _word(table)} if table else {})
    return _message(kind, Flag.REQUEST | Flag.DUMP, body)


def route(verb: Kind, one: Route) -> bytes:
    """Return the order to delete a route, or to put it in the place of whatever has its table and priority."""
    deletes = verb is Kind.DELETE_ROUTE
    scope = _ANY_SCOPE if deletes else 0
    head = _ROUTE.pack(_FAMILIES[one.version], 0, 0, 0, 0, 0 if deletes else _STATIC, scope, one.type, 0)
    attributes: dict[int, bytes] = {_RouteAttribute.TABLE: _word(one.table)}
    if one.gateway is not None:
        attributes[_RouteAttribute.GATEWAY] = one.gateway.packed
    if one.priority:
        attributes[_RouteAttribute.PRIORITY] = _word(one.priority)
    return _order(verb, head + _attributes(attributes), Flag(0) if deletes else Flag.CREATE | Flag.REPLACE)


def rule(verb: Kind, one: Rule) -> bytes:
    """Return the order to add or delete a rule."""
    head = _ROUTE.pack(_FAMILIES[one.version], 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
    attributes: dict[int, bytes] = {
        _RuleAttribute.PRIORITY: _word(one.priority),
        _RuleAttribute.FWMARK: _word(one.mark),
        _RuleAttribute.FWMASK: _word(one.mask),
        _RuleAttribute.TABLE: _word(one.table),
    }
    deletes = verb is Kind.DELETE_RULE
    return _order(verb, head + _attributes(attributes), Flag(0) if deletes else Flag.CREATE | Flag.EXCLUSIVE)


def messages(datagram: bytes) -> Iterator[Route | Rule | IPv4Address | IPv6Address | Answer]:
    """Read the messages of one datagram; kinds that nobody asked for are skipped.

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
        found = _read(kind, datagram[offset + _HEADER.size : offset + length])
        if found is not None:
            yield found
        offset += (length + 3) & ~3


def _read(kind: int, body: bytes) -> Route | Rule | IPv4Address | IPv6Address | Answer | None:
    try:
        match kind:
            case Kind.ERROR:
                return Answer(-_ERROR.unpack_from(body)[0])
            case Kind.DONE:
                return Answer(-_ERROR.unpack_from(body)[0] if len(body) >= _ERROR.size else 0)
            case Kind.NEW_ROUTE:
                return _route(body)
            case Kind.NEW_RULE:
                return _rule(body)
            case Kind.NEW_ADDRESS:
                value = _parse(body[_ADDRESS.size :]).get(_IFA_ADDRESS)
                return None if value is None else _ip(value)
    except (struct.error, ValueError, IndexError) as error:
        raise WireError(f"netlink message of type {kind}: {error}", found=body) from error
    return None


def _route(body: bytes) -> Route | None:
    family, destination_bits, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
    version = next((version for version, number in _FAMILIES.items() if number == family), None)
    if version is None:
        return None
    found = _parse(body[_ROUTE.size :])
    gateway = found.get(_RouteAttribute.GATEWAY)
    return Route(
        version=version,
        table=_number(found.get(_RouteAttribute.TABLE), table),
        type=kind,
        gateway=None if gateway is None else _ip(gateway),
        priority=_number(found.get(_RouteAttribute.PRIORITY), 0),
        default=destination_bits == 0,
    )


def _rule(body: bytes) -> Rule | None:
    family, _, _, _, table, _, _, _, _ = _ROUTE.unpack_from(body)
    version = next((version for version, number in _FAMILIES.items() if number == family), None)
    if version is None:
        return None
    found = _parse(body[_ROUTE.size :])
    return Rule(
        version=version,
        priority=_number(found.get(_RuleAttribute.PRIORITY), 0),
        mark=_number(found.get(_RuleAttribute.FWMARK), 0),
        mask=_number(found.get(_RuleAttribute.FWMASK), 0),
        table=_number(found.get(_RuleAttribute.TABLE), table),
    )


def _parse(body: bytes) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size or offset + length > len(body):
            raise WireError("netlink attribute does not fit", offset=offset)
        found[kind & _TYPE_MASK] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _number(value: bytes | None, otherwise: int) -> int:
    if value is None:
        return otherwise
    if len(value) != _WORD:
        raise ValueError(f"{len(value)} bytes where a word was expected")
    return int(struct.unpack("=I", value)[0])


def _ip(value: bytes) -> IPv4Address | IPv6Address:
    return IPv4Address(value) if len(value) == _WORD else IPv6Address(value)


def _word(number: int) -> bytes:
    return struct.pack("=I", number)


def _attributes(values: Mapping[int, bytes]) -> bytes:
    parts = (_ATTRIBUTE.pack(_ATTRIBUTE.size + len(v), kind) + v + bytes(-len(v) % _WORD) for kind, v in values.items())
    return b"".join(parts)


def _order(verb: Kind, body: bytes, how: Flag) -> bytes:
    return _message(verb, Flag.REQUEST | Flag.ACK | how, body)


def _message(kind: Kind, flags: Flag, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body
