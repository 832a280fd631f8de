"""Demand over time: one whole number per region and moment, in thousandths of the base demand.

Whole numbers, because then all sums over the fleet are exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.flat import Longs
    from topology.fleet import Fleet
    from topology.scenario import Crowd, Diurnal, Scenario

UNIT: Final = 1000
"""Sessions are counted in thousandths in the simulated world."""
_DAY_S: Final = 86_400.0
_PEAK_HOUR: Final = 20.0
_DEGREES_PER_HOUR: Final = 15.0


def factors(scenario: Scenario, regions: Sequence[str], fleet: Fleet, now_s: float) -> Longs:
    """Return the thousandths per region; the last element is for users whose region is not known."""
    found = [UNIT * _sun(scenario.diurnal, fleet, region, now_s) for region in (*regions, "")]
    for crowd in scenario.crowds:
        found[list(regions).index(crowd.region)] *= 1.0 + crowd.rise * _swell(crowd, now_s)
    return np.array([round(one) for one in found], dtype=np.int64)


def _sun(diurnal: Diurnal | None, fleet: Fleet, region: str, now_s: float) -> float:
    if diurnal is None:
        return 1.0
    place = fleet.regions.get(region)
    east_hours = 0.0 if place is None else place.longitude_deg / _DEGREES_PER_HOUR
    phase = now_s / _DAY_S + (east_hours - _PEAK_HOUR) / 24.0
    return 1.0 + diurnal.amplitude * math.cos(2.0 * math.pi * phase)


def _swell(crowd: Crowd, now_s: float) -> float:
    """Return how much of the crowd is there, 0 to 1."""
    if now_s < crowd.from_s or now_s >= crowd.until_s + crowd.ramp_s:
        return 0.0
    if crowd.ramp_s <= 0:
        return 1.0
    return min(1.0, (now_s - crowd.from_s) / crowd.ramp_s, (crowd.until_s + crowd.ramp_s - now_s) / crowd.ramp_s)
