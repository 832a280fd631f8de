"""What this PoP carries, against what it can carry: how tight it is, and what it tells the other PoPs.

Two sums, because a drain parts them. What new users may be given to decides how tight the PoP is; what a step would
move is all that is connected, drained backends included. A backend that is down counts for neither. What the
PoP as a whole can carry stands beside the sum of its backends: the tightest wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from popctl.core import health, load
from popctl.model.instant import NEVER, Instant
from popctl.model.load import NOTHING_KNOWN, Amounts, PopLoad, Resource, Tightness
from popctl.model.pop import Pop
from popctl.model.reason import Reason
from popctl.model.view import Verdict, View

_NOTHING: Amounts = dict.fromkeys(Resource, 0.0)
"""The sum over no backend at all. An empty mapping would be a capacity without a limit, or a load that is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What the steered services of the PoP carry."""

    tightness: Tightness
    """Of the backends that may be given something new. Exact only if it is known which ones those are."""
    used: Amounts
    """Of all that serve somebody; a resource that one of them does not tell is absent."""
    peak: Amounts
    capacity: Amounts
    """Of those that may be given something new, and no more than the PoP as a whole can carry."""
    certain: Amounts
    """Of those that are known to be healthy: what others may count on."""
    at: Instant
    """When the oldest figure was measured."""
    until: Instant
    """When the next figure goes stale."""

    def told(self, *, level: int, announcing: bool, settling: bool) -> PopLoad:
        """Return what the other PoPs are told."""
        return PopLoad(
            level=level,
            announcing=announcing,
            used=self.used,
            peak=self.peak,
            capacity=self.certain,
            at=self.at,
            settling=settling,
        )


def weigh(pop: Pop, view: View, verdicts: Mapping[int, Verdict | None], now: Instant) -> Weight | None:
    """Return what the PoP carries; None if it is not known what every backend can carry.

    `verdicts` has every backend; None stands for one that drains.
    """
    members = _members(pop)
    capacities = {number: pop.backends[number].capacity for number in members}
    limits = {number: capacity for number, capacity in capacities.items() if capacity is not None}
    if not limits or len(limits) < len(members):
        return None
    serving = [number for number in members if verdicts[number] in (Verdict.UP, Verdict.UNKNOWN)]
    healthy = [number for number in serving if verdicts[number] is Verdict.UP]
    carrying = [number for number in members if number in serving or _drains_alive(number, pop, view, verdicts, now)]
    whole = NOTHING_KNOWN if pop.capacity is None else pop.capacity
    backends = _capacity(limits[number] for number in serving)
    capacity = load.tightest(backends, whole)
    felt = _total(pop, view, serving, now)
    everything = felt if carrying == serving else _total(pop, view, carrying, now)
    # What the PoP as a whole can carry, all that is connected uses up: drained backends, too.
    tightness = load.tighter(
        load.tightness(felt.used, backends, felt.missing),
        load.tightness(everything.used, whole, everything.missing),
    )
    if len(healthy) < len(serving) and tightness.exact:
        tightness = replace(tightness, missing=Reason.TOO_FEW_KNOWN)
    # Without a backend that serves somebody nothing is carried, and that is known.
    used, peak = everything.exact() if carrying else (_NOTHING, _NOTHING)
    loads = [view.loads.get(number, load.UNHEARD) for number in carrying]
    return Weight(
        tightness=tightness,
        used=used,
        peak=peak,
        capacity=capacity,
        certain=load.tightest(_capacity(limits[number] for number in healthy), whole),
        at=min((max((track.at for track in one.tracks.values()), default=0.0) for one in loads), default=now),
        until=min((load.next_stale(one, pop.load_timing, now) for one in loads), default=NEVER),
    )


def _drains_alive(number: int, pop: Pop, view: View, verdicts: Mapping[int, Verdict | None], now: Instant) -> bool:
    """Return whether a backend that drains still serves somebody: one that was switched off afterwards does not."""
    if verdicts[number] is not None:
        return False
    return health.backend_verdict(pop.backends[number], view.health, now)[0] is not Verdict.DOWN


def _members(pop: Pop) -> list[int]:
    """Return the backends of the services that load may move; of all of them where it moves none."""
    services = [one for one in pop.services if pop.load is None or one.name in pop.load.services]
    return sorted({number for service in services for number in service.backends})


def _capacity(limits: Iterable[Amounts]) -> Amounts:
    every = list(limits)
    return load.add(every) if every else _NOTHING


def _total(pop: Pop, view: View, backends: Iterable[int], now: Instant) -> load.Total:
    return load.total((view.loads.get(number, load.UNHEARD) for number in backends), pop.load_timing, now)
