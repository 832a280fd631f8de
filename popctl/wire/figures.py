"""Numbers of a JSON document that somebody else wrote: only what is one, and only of a size that can be reckoned with.

Python reads `1e999` as infinity, takes `true` and `"nan"` for numbers where it is asked for one, and knows integers
that no float can hold. Each of them would go on through sums and instants, and fail far from where it came in.
"""

from __future__ import annotations

import math
from typing import Final

MOST_COUNT: Final = 2**64 - 1
"""Nothing that a host counts is more."""


def number(value: object, *, most: float = math.inf) -> float:
    """Return a finite number from 0 to `most`. Raises `ValueError`, and `OverflowError` for what no float can hold."""
    found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (0 <= found <= most and math.isfinite(found)):
        raise ValueError(f"{_shown(value)} is not a number of 0 or more")
    return found


def count(value: object) -> int:
    """Return a whole number from 0 to `MOST_COUNT`. Raises `ValueError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_COUNT:
        raise ValueError(f"{_shown(value)} is not a whole number of 0 or more")
    return value


def _shown(value: object) -> str:
    return f"{value!r:.40}"
