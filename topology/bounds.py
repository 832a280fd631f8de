"""The largest figures that are taken from anybody.

With them every sum over a fleet, in thousandths of sessions as the simulation counts them, stays within 64 bits. The
model's own sums go through double precision, which is exact below 2^53.
"""

from __future__ import annotations

from typing import Final

MOST_SESSIONS: Final = 2**40
"""Of all users together, and of one PoP's capacity."""
MOST_AT_PEAK: Final = 2**50
"""Of all users together at any moment of a simulation, crowds included."""
MOST_HANDSHAKES_S: Final = 2**40
"""Of one PoP's capacity."""
MOST_BIT_S: Final = 2**60
"""Of one PoP's capacity: that of `MOST_SESSIONS`, with a wide margin."""
