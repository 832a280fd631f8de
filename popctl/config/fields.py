"""Text -> typed scalar: addresses, prefixes, communities, durations, names. One value at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Annotated, TypeAlias

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from popctl.model import route

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SCALED = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([kMG])")
_SCALE = {"k": 1e3, "M": 1e6, "G": 1e9}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_EVERY_HOST = IPv4Address(0xFFFFFFFF)
_AS_TRANS = 23456
_PREFIX_LENGTH = re.compile(r"[0-9]{1,3}")
_MAX_U32 = 0xFFFFFFFF
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{1,8}")
_RESERVED_ASNS = (
    (0, 0, "RFC 7607"),
    (_AS_TRANS, _AS_TRANS, "AS_TRANS, RFC 6793"),
    (65535, 65535, "RFC 7300"),
    (65552, 131071, "IANA"),
    (_MAX_U32, _MAX_U32, "RFC 7300"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What docs/configuration.md calls a type of value."""

    text: str


def refuse(problem: str, remedy: str, found: str | None = None) -> PydanticCustomError:
    """Return the error to raise for one value; `found` replaces the value where that must not be shown."""
    return PydanticCustomError("popctl", "{problem}", {"problem": problem, "remedy": remedy, "found": found})


def read_text(value: object, example: str) -> str:
    """Read text as it is; `example` is for whoever wrote something else."""
    if not isinstance(value, str):
        raise refuse("is not text", f"write it like {example}")
    return value


def _address(value: object) -> route.Address:
    text = read_text(value, "192.0.2.1 or 2001:db8::1")
    try:
        address = ip_address(text)
    except ValueError:
        raise refuse("is not an IP address", "write it like 192.0.2.1 or 2001:db8::1") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise refuse("has a zone, which BGP cannot carry", "use an address without '%'")
    if address.is_unspecified or address.is_multicast or address == _EVERY_HOST:
        raise refuse("is not the address of one host", "use a unicast address")
    return address


def _router_id(value: object) -> IPv4Address:
    text = read_text(value, "192.0.2.10")
    try:
        address = IPv4Address(text)
    except ValueError:
        raise refuse("is not an IPv4 address", "a router id is written like 192.0.2.10, also with IPv6") from None
    if address.is_unspecified:
        raise refuse("is not a valid BGP identifier (RFC 6286 section 2.1)", "use an address of this PoP's edge host")
    return address


def _prefix(value: object) -> route.Prefix:
    example = "198.51.100.0/24 or 2001:db8::/48"
    text = read_text(value, example)
    if not _PREFIX_LENGTH.fullmatch(text.rpartition("/")[2]) or "%" in text or "/" not in text:
        raise refuse("is not a prefix", f"write it like {example}")
    try:
        interface = ip_interface(text)
    except ValueError:
        raise refuse("is not a prefix", f"write it like {example}") from None
    prefix = interface.network
    if interface.ip != prefix.network_address:
        raise refuse("has host bits set", f"write {prefix}")
    if prefix.prefixlen == 0:
        raise refuse("is a default route", "list the prefixes of the service; popctl never announces everything")
    if prefix.is_multicast or prefix.is_loopback or prefix.is_link_local:
        raise refuse("is not a unicast prefix that routers carry", "use a prefix of the service")
    return prefix


def _community(value: object) -> route.Community:
    try:
        return route.Community.parse(read_text(value, "65010:100"))
    except ValueError:
        raise refuse("is not a community (RFC 1997)", "write two numbers of 0..65535 like 65010:100") from None


def _large_community(value: object) -> route.LargeCommunity:
    try:
        return route.LargeCommunity.parse(read_text(value, "65010:1:2"))
    except ValueError:
        raise refuse("is not a large community (RFC 8092)", "write three 32-bit numbers like 65010:1:2") from None


def _asn(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_U32:
        raise refuse("is not an AS number", "write a number of 1..4294967294, without 'AS' and without a dot")
    for low, high, authority in _RESERVED_ASNS:
        if low <= value <= high:
            raise refuse(f"is a reserved AS number ({authority})", "use the AS number that was assigned")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return round(float(match[1]) * _UNIT_S[match[2]], 9)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise refuse("is not a duration", "write seconds as a number, or text like 500ms, 3s, 15m, 2h")


def duration(low_s: float, high_s: float) -> Callable[[object], float]:
    """Return a reader of durations within bounds, in seconds."""

    def read(value: object) -> float:
        seconds = _seconds(value)
        if not low_s <= seconds <= high_s:
            raise refuse(f"is not within {low_s:g} s and {high_s:g} s", "choose a duration within these bounds")
        return seconds

    return read


def whole_seconds(low_s: int, high_s: int) -> Callable[[object], int]:
    """Return a reader of durations within bounds that whoever takes them cannot divide: whole seconds."""
    within = duration(low_s, high_s)

    def read(value: object) -> int:
        seconds = within(value)
        if not seconds.is_integer():
            raise refuse("is not a whole number of seconds", f"use {math.ceil(seconds)}s")
        return int(seconds)

    return read


def _hold_time(value: object) -> int:
    seconds = _seconds(value)
    if seconds in {1.0, 2.0}:
        raise refuse("a hold time is 0 or at least 3 s (RFC 4271 section 4.2)", "use 9s, or 0 for no keepalives")
    if not seconds.is_integer() or not 0 <= seconds <= 0xFFFF:  # noqa: PLR2004 - 16 bits in OPEN
        raise refuse("a hold time is a whole number of seconds up to 65535", "use 9s, or 0 for no keepalives")
    return int(seconds)


def _lease(value: object) -> float:
    seconds = _seconds(value)
    if seconds < 1:
        raise refuse("a lease under 1 s expires while a busy host schedules the agent", "use at least 1s")
    if seconds > 300:  # noqa: PLR2004 - five minutes
        raise refuse("the routes of a dead agent would stay for more than 5 minutes", "use at most 5m")
    return seconds


def _jitter(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 0.9:  # noqa: PLR2004 - bound
        raise refuse("jitter is a share of the interval within 0 and 0.9", "use 0.2")
    return float(value)


def read_name(value: object) -> str:
    """Read a name that is safe in a key path, a metric label and a command line."""
    if not _NAME.fullmatch(read_text(value, "fra1")):
        raise refuse("is not a name", "use 1 to 63 letters, digits, '-' and '_', the first a letter or digit")
    return str(value)


def _label(value: object) -> str:
    text = read_text(value, "Frankfurt")
    if not text.strip() or not text.isprintable() or len(text) > 255:  # noqa: PLR2004 - one line of a display
        raise refuse("is not one line of 1 to 255 printable characters", "shorten it or remove control characters")
    return text


def _argument(value: object) -> str:
    text = read_text(value, "/usr/local/bin/check")
    if not text or not text.isprintable():
        raise refuse("is not an argument", "use printable characters on one line, not empty")
    return text


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise refuse("is not a share", "write a number of 0..1, such as 0.5")
    return float(value)


def _word(value: object) -> int:
    if isinstance(value, str) and _HEXADECIMAL.fullmatch(value):
        value = int(value, 16)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_U32:
        raise refuse("is not a number of 32 bits", "write it like 0x5b000000, or in decimal digits")
    return value


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise refuse("is not a number above 0", "write it like 1.2")
    return float(value)


def _amount(value: object) -> float:
    if isinstance(value, str) and (match := _SCALED.fullmatch(value)):
        value = float(match[1]) * _SCALE[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise refuse("is not an amount", "write a number above 0, or text like 800k, 2.5M, 10G")
    return float(value)


def _points(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise refuse("is not a number of 0 or more", "write it like 1000")
    return float(value)


def _asn_key(value: object) -> int:
    text = read_text(value, "65000")
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(_MAX_U32)):
        raise refuse("is not an AS number", "write a number of 1..4294967294, without 'AS' and without a dot")
    return _asn(int(text))


Address: TypeAlias = Annotated[route.Address, PlainValidator(_address), Kind("address")]
RouterId: TypeAlias = Annotated[IPv4Address, PlainValidator(_router_id), Kind("IPv4 address")]
Prefix: TypeAlias = Annotated[route.Prefix, PlainValidator(_prefix), Kind("prefix")]
Community: TypeAlias = Annotated[route.Community, PlainValidator(_community), Kind("community")]
LargeCommunity: TypeAlias = Annotated[route.LargeCommunity, PlainValidator(_large_community), Kind("large community")]
Asn: TypeAlias = Annotated[int, PlainValidator(_asn), Kind("AS number")]
HoldTime: TypeAlias = Annotated[int, PlainValidator(_hold_time), Kind("duration, whole seconds")]
WholeSeconds: TypeAlias = Annotated[
    int, PlainValidator(whole_seconds(1, 86400)), Kind("duration, whole seconds, 1s..24h")
]
LeaseTime: TypeAlias = Annotated[float, PlainValidator(_lease), Kind("duration, 1s..5m")]
Duration: TypeAlias = Annotated[float, PlainValidator(duration(0.0, 86400.0)), Kind("duration, 0..24h")]
Interval: TypeAlias = Annotated[float, PlainValidator(duration(0.02, 3600.0)), Kind("duration, 20ms..1h")]
Jitter: TypeAlias = Annotated[float, PlainValidator(_jitter), Kind("share, 0..0.9")]
Name: TypeAlias = Annotated[str, PlainValidator(read_name), Kind("name")]
Label: TypeAlias = Annotated[str, PlainValidator(_label), Kind("text")]
Share: TypeAlias = Annotated[float, PlainValidator(_share), Kind("share, 0..1")]
Word: TypeAlias = Annotated[int, PlainValidator(_word), Kind("number, 0..0xffffffff")]
Argument: TypeAlias = Annotated[str, PlainValidator(_argument), Kind("text")]
Seconds: TypeAlias = Annotated[float, PlainValidator(duration(0.05, 3600.0)), Kind("duration, 50ms..1h")]
Positive: TypeAlias = Annotated[float, PlainValidator(_positive), Kind("number above 0")]
Age: TypeAlias = Annotated[float, PlainValidator(duration(1.0, 366 * 86400.0)), Kind("duration, 1s..8784h")]
Amount: TypeAlias = Annotated[float, PlainValidator(_amount), Kind("amount above 0")]
AsnKey: TypeAlias = Annotated[int, PlainValidator(_asn_key), Kind("AS number")]
Points: TypeAlias = Annotated[float, PlainValidator(_points), Kind("number of 0 or more")]
