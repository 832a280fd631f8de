"""Draining a backend: whether it may, how far it is, and when it will be empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from statistics import median

from popctl.model.instant import NEVER, Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainProgress:
    """What is left on a draining backend."""

    sas: int
    oldest_s: float
    median_s: float
    empty_at: Instant
    """Estimate; `NEVER` while nothing has left yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """Why a drain is refused without force."""

    service: str
    left: int
    """Weight of backends that would still take new SAs."""
    needed: int


def refusals(
    weights: Mapping[str, Mapping[int, int]],
    usable: frozenset[int],
    drains: frozenset[int],
    *,
    least_share: float,
) -> tuple[Shortfall, ...]:
    """Return the services that would keep less than `least_share` of their configured weight for new SAs.

    Args:
        weights: service -> backend id -> weight.
        usable: backends that are up.
        drains: all that drain already and the one that is asked for.
        least_share: 0..1 of the configured weight.
    """
    found = []
    for service, members in sorted(weights.items()):
        left = sum(weight for backend, weight in members.items() if backend in usable - drains)
        needed = -int(-least_share * sum(members.values()) // 1)
        if left < needed and members.keys() & drains:
            found.append(Shortfall(service=service, left=left, needed=needed))
    return tuple(found)


def progress(
    ages_s: Sequence[float], history: Sequence[tuple[Instant, int]], now: Instant, *, busy: int = 0
) -> DrainProgress:
    """Return how far a drain is, from the ages of the SAs that are left and earlier counts since it began.

    Clients leave independently of each other, so the count falls exponentially: the estimate is when less than one
    is left at the rate seen so far.

    Args:
        ages_s: of the SAs that are left.
        history: when each number was first seen.
        now: when this was seen.
        busy: SAs of unknown age that are left, too. A drain is at its end when there is none of either.
    """
    left = len(ages_s) + busy
    return DrainProgress(
        sas=left,
        oldest_s=max(ages_s, default=0.0),
        median_s=median(ages_s) if ages_s else 0.0,
        empty_at=_empty_at(left, history, now) if left else now,
    )


def noted(history: Sequence[tuple[Instant, int]], count: int, now: Instant) -> tuple[tuple[Instant, int], ...]:
    """Return the history with a new count: when each number was first seen is all that the estimate needs."""
    seen = any(count == before for _, before in history)
    return (*history,) if seen else (*history, (now, count))


def _empty_at(left: int, history: Sequence[tuple[Instant, int]], now: Instant) -> Instant:
    began = next(((at, count) for at, count in history if count > left and at < now), None)
    if began is None:
        return NEVER
    at, count = began
    # count * exp(-rate * t) = left now, and = 1 at the end; counted in halvings.
    halvings_so_far = log2(count / left)
    halvings_to_go = log2(left) + 1
    return now + (now - at) * halvings_to_go / halvings_so_far
