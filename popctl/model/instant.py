"""Time as a value: what every decision is told instead of reading a clock."""

from typing import TypeAlias

Instant: TypeAlias = float
"""Seconds on the host's monotonic clock. Never wall time: a clock step must move nothing."""

NEVER: Instant = float("inf")
"""Later than every `Instant`: "no deadline"."""
