"""Route keys: one integer per route, smaller is better, so that choosing is `min` and the order of arrival is nothing.

    bits 37-38  class: 0 learned from a customer, 1 from a peer, 2 from a provider
    bits 21-36  AS-path length as received: 1 at an upstream of ours, prepends included
    bits  0-20  tie: 0 an own session, else 1 + the place of the neighbour among all AS numbers (lowest wins)

The functions work on Python's and numpy's integers and inside compiled loops alike.
"""

from __future__ import annotations

from typing import Final

TIE_BITS: Final = 21
LENGTH_BITS: Final = 16
TIE_MASK: Final = (1 << TIE_BITS) - 1
LENGTH_MASK: Final = (1 << LENGTH_BITS) - 1

CUSTOMER: Final = 0
PEER: Final = 1
PROVIDER: Final = 2

PEER_KEY: Final = PEER << (LENGTH_BITS + TIE_BITS)
"""The smallest key of a route that is not from a customer."""
PROVIDER_KEY: Final = PROVIDER << (LENGTH_BITS + TIE_BITS)
"""The smallest key of a route that is from a provider."""
NONE: Final = 1 << 62
"""No route. Larger than every key, with room to add to it."""

MOST_PREPENDS: Final = 255
"""More than any upstream accepts, and few enough that no path outgrows its bits."""
MOST_ASES: Final = TIE_MASK - 1


def own_key(route_class: int, length: int) -> int:
    """Return the key of a route that an upstream has from one of our sessions."""
    return ((route_class << LENGTH_BITS) | length) << TIE_BITS
