"""What the senses say about themselves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from popctl.model.probe import ProbeKey

_LAGS: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counters since start and gauges of now."""

    probes: int
    """Configured."""
    runs: int
    """Finished."""
    in_flight: int
    waiting: int
    """Due, but there is no room yet."""
    overloaded: int
    """Runs that ended OVERLOADED: our own fault."""
    missed: Mapping[ProbeKey, int]
    """Slots that a probe could not use; probes without any are left out."""
    missed_total: int
    foreign_datagrams: int
    """Garbage, strangers' packets and answers that came after their run."""
    loop_lag_s: float
    """How late the latest wake-up came."""
    loop_lag_p99_s: float
    """The same, 99th percentile of the latest wake-ups."""
    loop_lag_max_s: float
    """The same, the worst of them."""


class LagMeter:
    """The latest wake-ups of the loop: how late each came."""

    def __init__(self) -> None:
        """Start without any."""
        self._lags: deque[float] = deque(maxlen=_LAGS)

    def note(self, lag_s: float) -> None:
        """Take one wake-up into account."""
        self._lags.append(max(lag_s, 0.0))

    def latest_s(self) -> float:
        """Return the latest lag, 0 before the first."""
        return self._lags[-1] if self._lags else 0.0

    def quantile_s(self, share: float) -> float:
        """Return the lag that `share` of the wake-ups did not exceed."""
        if not self._lags:
            return 0.0
        ordered = sorted(self._lags)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
