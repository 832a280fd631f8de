"""Load: samples folded into EWMA and peak, added up over backends, set against capacity. Chooses nothing.

Silence never reads as idleness: what is missing or stale makes a sum a lower bound, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from popctl.model.instant import Instant
from popctl.model.load import Amounts, BackendLoad, LoadSample, LoadTiming, Resource, Row, Tightness, Track
from popctl.model.reason import Reason

UNHEARD = BackendLoad()


def fold(load: BackendLoad, sample: LoadSample, timing: LoadTiming) -> BackendLoad:
    """Take one sample in. A resource that the sample lacks keeps its track, which then goes stale.

    Classes and symptoms are those of the latest sample: nothing is averaged, and nothing outlives the look that saw it.
    """
    tracks = dict(load.tracks)
    for resource, value in sample.used.items():
        tracks[resource] = _next(tracks.get(resource), value, sample.at, timing)
    return BackendLoad(
        tracks=tracks,
        unknown=sample.unknown,
        classes=sample.classes,
        symptoms=sample.symptoms,
        at=max(sample.at, load.at),
    )


def _next(track: Track | None, value: float, at: Instant, timing: LoadTiming) -> Track:
    if track is None or at >= track.at + timing.stale_after_s:
        # After a gap the past says nothing; an average with it would be late.
        return Track(smooth=value, peak=value, latest=value, at=at)
    gap_s = max(at - track.at, 0.0)
    weight = -math.expm1(-gap_s / timing.smoothing_s)
    faded = track.peak * 0.5 ** (gap_s / timing.peak_half_life_s)
    smooth = track.smooth + weight * (value - track.smooth)
    return Track(smooth=smooth, peak=max(value, smooth, faded), latest=value, at=max(at, track.at))


def known(load: BackendLoad, timing: LoadTiming, now: Instant) -> Mapping[Resource, Track]:
    """Return the tracks that may still be believed."""
    return {resource: track for resource, track in load.tracks.items() if now < track.at + timing.stale_after_s}


def heard(load: BackendLoad, timing: LoadTiming, now: Instant) -> bool:
    """Return whether the latest sample may still be believed: its classes and symptoms, too."""
    return now < load.at + timing.stale_after_s


def next_stale(load: BackendLoad, timing: LoadTiming, now: Instant) -> Instant:
    """Return when the next resource goes stale by time alone, or `NEVER`."""
    ends = (track.at + timing.stale_after_s for track in load.tracks.values())
    return min((end for end in ends if end > now), default=math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The load of several backends together."""

    used: Amounts
    """Sums of EWMAs. Resources that some backend does not tell are lower bounds, named in `missing`."""
    peak: Amounts
    missing: Mapping[Resource, Reason]
    """Why a resource is not, or not wholly, known."""

    def exact(self) -> tuple[Amounts, Amounts]:
        """Return what is used and peaks where every backend told it: what may be published to others."""
        used = {resource: value for resource, value in self.used.items() if resource not in self.missing}
        return used, {resource: self.peak[resource] for resource in used}


def total(loads: Iterable[BackendLoad], timing: LoadTiming, now: Instant) -> Total:
    """Add up the backends that serve. Give `UNHEARD` for one that has no meter."""
    used: dict[Resource, float] = {}
    peak: dict[Resource, float] = {}
    missing: dict[Resource, Reason] = {}
    for load in loads:
        tracks = known(load, timing, now)
        for resource in Resource:
            track = tracks.get(resource)
            if track is None:
                missing.setdefault(resource, _why(load, resource))
            else:
                used[resource] = used.get(resource, 0.0) + track.smooth
                peak[resource] = peak.get(resource, 0.0) + track.peak
    return Total(used=used, peak=peak, missing=missing)


def _why(load: BackendLoad, resource: Resource) -> Reason:
    if resource in load.unknown:
        return load.unknown[resource]
    return Reason.STALE if resource in load.tracks else Reason.NOT_YET_KNOWN


def add(capacities: Iterable[Amounts]) -> Amounts:
    """Add capacities up. A resource that is unlimited anywhere is unlimited in the sum."""
    every = list(capacities)
    limited = set[Resource].intersection(*(set(one) for one in every)) if every else set()
    return {resource: sum(one[resource] for one in every) for resource in Resource if resource in limited}


def columns(rows: Sequence[Row]) -> list[list[float]]:
    """Return the columns of rows of one length; none if there is no row. Made for a thousand of them."""
    flat: list[float] = []
    for row in rows:
        flat += row
    width = len(rows[0]) if rows else 0
    return [flat[place::width] for place in range(width)]


def tightest(one: Amounts, other: Amounts) -> Amounts:
    """Return the lower limit of each resource. One that either limits is limited."""
    return {
        resource: min(one.get(resource, math.inf), other.get(resource, math.inf))
        for resource in Resource
        if resource in one or resource in other
    }


def tighter(one: Tightness, other: Tightness) -> Tightness:
    """Return the fuller of two, exact only if both are."""
    fuller = max(one, other, key=lambda found: (found.at_least, found.resource is not None))
    return fuller if fuller.missing else replace(fuller, missing=one.missing or other.missing)


def fullness(used: Amounts, capacity: Amounts) -> tuple[float, Resource | None]:
    """Return how full the tightest limited resource that is known is, and which one that is."""
    fullest: Resource | None = None
    at_least = 0.0
    for resource, limit in capacity.items():
        if resource in used:
            share = used[resource] / limit if limit > 0 else math.inf
            if fullest is None or share > at_least:
                fullest, at_least = resource, share
    return at_least, fullest


def tightness(used: Amounts, capacity: Amounts, missing: Mapping[Resource, Reason]) -> Tightness:
    """Return how full the tightest limited resource is."""
    at_least, fullest = fullness(used, capacity)
    lacking = (
        missing.get(resource, Reason.NOT_YET_KNOWN)
        for resource in capacity
        if resource in missing or resource not in used
    )
    return Tightness(at_least=at_least, resource=fullest, missing=next(lacking, None))
