"""Addresses and prefixes of a JSON document that somebody else wrote: only what is text.

Python takes a number for an address, too, and `false` for 0.0.0.0.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from popctl.model.route import Address, Prefix


def address_of(value: object) -> Address:
    """Return an address. Raises `ValueError`."""
    return ip_address(_text(value))


def prefix_of(value: object) -> Prefix:
    """Return a prefix whose host bits are zero. Raises `ValueError`."""
    return ip_network(_text(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not the text of an address")  # noqa: TRY004 - as for text that is none
    return value
