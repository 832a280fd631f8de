"""Published statistics of the Internet's AS graph, and how far a graph is from them.

The figures summarise CAIDA's AS relationships (serial-1) of January 2018: 60,006 ASes, 117,703 provider-customer links,
143,637 peerings. The data itself is CAIDA's and is not part of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from topology.flat import FlatGraph, Ints

Points: TypeAlias = tuple[tuple[float, float], ...]
"""(value, share of ASes with at most that value), ascending."""

ASES: Final = 60_006
TRANSIT_LINKS_PER_AS: Final = 117_703 / ASES
PEERINGS_PER_AS: Final = 143_637 / ASES
STUB_SHARE: Final = 0.850
MULTIHOMED_STUB_SHARE: Final = 0.548
CLIQUE: Final = 19
"""ASes without providers that all peer with each other."""
LONGEST_CHAIN: Final = 41
"""Largest rank."""
MEAN_PATH: Final = 3.91
"""AS-path length from one origin, over the ASes that are reached."""

PROVIDERS: Final[Points] = (
    *((0, 0.005), (1, 0.420), (2, 0.809), (3, 0.921), (4, 0.963), (5, 0.980)),
    (118, 1.0),
)
"""Providers per AS."""
CUSTOMERS: Final[Points] = ((2, 0.5), (18, 0.9), (166, 0.99), (1197, 0.999), (5243, 1.0))
"""Quantiles of customers per AS that has any."""
PEERS: Final[Points] = ((0, 0.812), (60, 0.99), (998, 0.999), (5684, 1.0))
"""Peers per AS."""
STUB_PEERS: Final[Points] = ((0, 0.870),)
"""Peers per AS without customers."""
RANKS: Final[Points] = ((1, 0.940), (LONGEST_CHAIN, 1.0))
"""Rank per AS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How one statistic of a graph compares."""

    name: str
    distance: float
    """Kolmogorov-Smirnov distance, taken at the published points; for a single figure the relative difference."""
    bound: float
    """What counts as fitted."""

    @property
    def ok(self) -> bool:
        """Tell whether the statistic is fitted."""
        return self.distance <= self.bound


def ks_distance(values: npt.NDArray[np.integer], published: Points, *, quantiles: bool = False) -> float:
    """Return the largest difference between two cumulative distributions at the points where one is known.

    A quantile of integers says less than a share: that the distribution passes the share at this value, wherever from.
    """
    ordered = np.sort(values)
    points = [value for value, _ in published]
    wanted = np.array([share for _, share in published])
    upto = np.searchsorted(ordered, points, side="right") / len(ordered)
    if not quantiles:
        return float(np.abs(upto - wanted).max())
    below = np.searchsorted(ordered, points, side="left") / len(ordered)
    return float(np.maximum(0.0, np.maximum(wanted - upto, below - wanted)).max())


def measure(graph: FlatGraph) -> tuple[Fit, ...]:
    """Compare a graph with the published statistics."""
    providers, peers, customers = (np.diff(way.ptr) for way in graph.links)
    stub = customers == 0
    spread = (
        ("providers per AS", providers, PROVIDERS, 0.03),
        ("customers per transit AS", customers[~stub], CUSTOMERS, 0.03),
        ("peers per AS", peers, PEERS, 0.03),
        ("peers per stub", peers[stub], STUB_PEERS, 0.03),
        ("rank", graph.rank, RANKS, 0.03),
    )
    single = (
        ("stubs", float(stub.mean()), STUB_SHARE, 0.02),
        ("multihomed stubs", float((providers[stub] > 1).mean()), MULTIHOMED_STUB_SHARE, 0.05),
        ("transit links per AS", providers.sum() / len(graph), TRANSIT_LINKS_PER_AS, 0.05),
        ("peerings per AS", peers.sum() / 2 / len(graph), PEERINGS_PER_AS, 0.05),
        ("most customers", float(customers.max()), CUSTOMERS[-1][0], 0.25),
        ("most peers", float(peers.max()), PEERS[-1][0], 0.25),
        ("largest rank", float(graph.rank.max()), LONGEST_CHAIN, 0.25),
    )
    return (
        *(
            Fit(name=name, distance=ks_distance(values, known, quantiles=known is CUSTOMERS), bound=bound)
            for name, values, known, bound in spread
        ),
        *(
            Fit(name=name, distance=float(abs(found - known) / known), bound=bound)
            for name, found, known, bound in single
        ),
    )


def sequence(points: Points, count: int, mean: float) -> Ints:
    """Return `count` descending integers that follow the points and have about the wanted mean.

    Between points the logarithm of the value grows as a power of the share, which leaves one number free: the power,
    chosen for the mean. A mean that is out of reach that way stretches all values but the smallest.
    """
    shares = (np.arange(count, 0, -1) - 0.5) / count
    low, high = 1.0, 12.0
    if _curve(points, shares, power=low, stretch=1.0).mean() >= mean:
        for _ in range(40):
            middle = (low + high) / 2
            grown = _curve(points, shares, power=middle, stretch=1.0).mean() >= mean
            low, high = (middle, high) if grown else (low, middle)
        return _curve(points, shares, power=low, stretch=1.0)
    low, high = 1.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        short = _curve(points, shares, power=1.0, stretch=middle).mean() < mean
        low, high = (middle, high) if short else (low, middle)
    return _curve(points, shares, power=1.0, stretch=low)


def _curve(points: Points, shares: npt.NDArray[np.float64], *, power: float, stretch: float) -> Ints:
    values = np.log([value if value <= 1 else value * stretch for value, _ in points])
    known = np.array([share for _, share in points])
    right = np.clip(np.searchsorted(known, shares), 1, len(known) - 1)
    along = (shares - known[right - 1]) / (known[right] - known[right - 1])
    grown = values[right - 1] + (values[right] - values[right - 1]) * along**power
    whole: Ints = np.maximum(np.rint(np.exp(grown)), 1).astype(np.int32)
    return whole
