"""What is in a message of VICI once it is deserialized: sections, values, counts. Anything else is a `WireError`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from popctl.wire.errors import WireError

_MAX_DIGITS: Final = 20


def sections(body: Mapping[str, Any], inner: str) -> list[Mapping[str, Any]]:
    """Return the sections of one event, of which each may have a section `inner` of sections. Raises `WireError`."""
    for name in body:
        within = section(section(body, name), inner, {})
        for one in within:
            section(within, one)
    return list(body.values())


def section(body: Mapping[str, Any], name: str, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Return the section of this name. Raises `WireError`: there is none, or something else is called so."""
    value = body.get(name, default)
    if not isinstance(value, Mapping):
        raise WireError(f"no section {name!r}", found=str(value))
    return value


def text(body: Mapping[str, Any], name: str) -> str:
    """Return the value of this name. Raises `WireError`: there is none, or something else is called so."""
    value = body.get(name)
    if not isinstance(value, bytes):
        raise WireError(f"no value {name!r}", found=str(value))
    return value.decode("utf-8", "replace")


def number(body: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """Return the count of this name; `default`, if any, where there is none. Raises `WireError`."""
    if default is not None and name not in body:
        return default
    digits = text(body, name)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise WireError(f"{name!r} is not a number", found=digits)
    return int(digits)
