"""A synthetic Internet, fitted to the statistics in `topology.fit` and the same for the same seed everywhere.

Transit ASes stand in a row from the top down and buy only from ASes further up, so there are no provider cycles. Every
transit AS gets as many customer slots as the published distribution has at its place; customers are matched to slots,
three quarters of them within their region. A few reseller chains give the depth that the real graph has. Peers are
matched by their wanted number of peerings (configuration model), repeated and impossible pairs drawn again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from topology import fit
from topology.fleet import Place
from topology.links import AsLinks, distinct, links_from_pairs

if TYPE_CHECKING:
    from topology.flat import Ints, Longs

REGIONS: Final = {
    "africa": Place(latitude_deg=1.0, longitude_deg=17.0),
    "asia-pacific": Place(latitude_deg=15.0, longitude_deg=110.0),
    "europe": Place(latitude_deg=50.0, longitude_deg=12.0),
    "latin-america": Place(latitude_deg=-15.0, longitude_deg=-58.0),
    "north-america": Place(latitude_deg=40.0, longitude_deg=-95.0),
}
_REGION_SHARES: Final = (0.03, 0.20, 0.35, 0.16, 0.26)
"""Shares of the regional registries' AS numbers, roughly: an assumption, nothing is fitted to it."""
_LOCAL: Final = 0.75
_MORE_PROVIDERS: Final = (0.389, 0.112, 0.042, 0.017, 0.010, 0.006, 0.004, 0.003, 0.002)
"""Shares of 2, 3, ... providers; the published ones up to five."""
_SINGLE_PROVIDER_STUBS: Final = 0.450
_SINGLE_PROVIDER_TRANSIT: Final = 0.220
"""So that 54.8 % of the stubs are multihomed and 41.5 % of all ASes have one provider."""
_ORPHANS: Final = 0.0048
"""ASes without providers beside the clique: islands."""
_PEERING_TRANSIT_SHARE: Final = 0.516
_PEERING_STUB_SHARE: Final = 0.13
_LARGE_PEER: Final = 150
"""Peers above which an AS is matched by itself."""
FEWEST_ASES: Final = 200
"""With fewer the clique alone would be a tenth of the Internet."""


def generate(ases: int, seed: int, *, peerings_per_as: float = fit.PEERINGS_PER_AS) -> AsLinks:
    """Return a synthetic Internet.

    Args:
        ases: how many ASes, at least `FEWEST_ASES`.
        seed: the same seed gives the same Internet.
        peerings_per_as: how dense peering is; route servers make today's figure three times the fitted one.

    Raises:
        ValueError: too few ASes.
    """
    if ases < FEWEST_ASES:
        raise ValueError(f"a synthetic Internet has at least {FEWEST_ASES} ASes, not {ases}")
    random = np.random.Generator(np.random.PCG64(seed))
    region = random.choice(len(REGIONS), size=ases, p=_REGION_SHARES).astype(np.int16)
    transit_count = round(ases * (1 - fit.STUB_SHARE))
    wanted = _providers_wanted(ases, transit_count, random)
    customers = fit.sequence(((1, 0.0), *fit.CUSTOMERS), transit_count, wanted.sum() / transit_count)
    slots = _in_order(customers, random)
    upper = _transit_links(slots, wanted[:transit_count], region, random)
    left = np.maximum(slots - np.bincount(upper[:, 0], minlength=transit_count), 0)
    lower = _stub_links(left, wanted, region, random)
    transit = np.concatenate([upper, lower])
    peering = _peerings(slots, ases, transit, round(ases * peerings_per_as), random)

    # Numbers say nothing about who is above whom, or ties would all fall one way.
    asns = random.permutation(ases) + 1
    names = list(REGIONS)
    regions = {int(asn): names[index] for asn, index in zip(asns, region, strict=True)}
    return links_from_pairs(asns[transit], asns[peering], lone=asns.tolist(), region_of=regions)


def _providers_wanted(ases: int, transit_count: int, random: np.random.Generator) -> Longs:
    """Draw how many providers each AS has; transit ASes come first, the clique first of all."""
    more = np.array(_MORE_PROVIDERS) / sum(_MORE_PROVIDERS)
    wanted = random.choice(np.arange(2, len(more) + 2), size=ases, p=more)
    single = np.where(np.arange(ases) < transit_count, _SINGLE_PROVIDER_TRANSIT, _SINGLE_PROVIDER_STUBS)
    wanted[random.random(ases) < single] = 1
    wanted[: fit.CLIQUE] = 0
    wanted[transit_count:][random.random(ases - transit_count) < _ORPHANS] = 0
    return wanted


def _in_order(customers: Ints, random: np.random.Generator) -> Ints:
    """Stand transit ASes in a row: mostly the larger above the smaller, the clique strictly first."""
    score = np.log(customers) + random.normal(0.0, 0.3, len(customers))
    score[: fit.CLIQUE] = np.inf
    return customers[np.argsort(-score, kind="stable")]


def _transit_links(slots: Ints, wanted: Longs, region: npt.NDArray[np.int16], random: np.random.Generator) -> Longs:
    """Return (provider, customer) among transit ASes."""
    customer = np.repeat(np.arange(len(slots)), wanted)
    local = random.random(len(customer)) < _LOCAL
    provider = np.full(len(customer), -1)
    for index in range(len(REGIONS)):
        sellers = np.flatnonzero(region[: len(slots)] == index)
        buyers = np.flatnonzero(local & (region[customer] == index))
        provider[buyers] = _draw_above(slots, sellers, customer[buyers], random)
    rest = np.flatnonzero(provider < 0)
    provider[rest] = _draw_above(slots, np.arange(len(slots)), customer[rest], random)
    chains = _chains(len(slots), random)
    every = np.concatenate([np.stack([provider, customer], axis=1), chains])
    packed = distinct(every[:, 0] * len(slots) + every[:, 1])
    return np.stack([packed // len(slots), packed % len(slots)], axis=1)


def _draw_above(slots: Ints, sellers: Longs, buyers: Longs, random: np.random.Generator) -> Longs:
    """Draw a seller for each buyer among those further up, in proportion to slots; -1 where there is none."""
    sums = np.concatenate([[0], np.cumsum(slots[sellers])])
    above = sums[np.searchsorted(sellers, buyers)]
    place = np.searchsorted(sums, random.random(len(buyers)) * above, side="right") - 1
    drawn = sellers[np.clip(place, 0, max(len(sellers) - 1, 0))] if len(sellers) else np.full(len(buyers), -1)
    return np.where(above > 0, drawn, -1)


def _chains(transit_count: int, random: np.random.Generator) -> Longs:
    """Return links of resellers, each buying from the one before: the longest chain, one of half its length, and so on.

    Some ranks lie above and below a chain, and a smaller Internet is less deep.
    """
    full = round(fit.ASES * (1 - fit.STUB_SHARE))
    length = round((fit.LONGEST_CHAIN - 5) * min(1.0, np.log2(transit_count) / np.log2(full)))
    links = [np.zeros((0, 2), dtype=np.int64)]
    while length > 2:  # noqa: PLR2004 - shorter ones come by themselves
        length = min(length, (transit_count - fit.CLIQUE) // 2)
        links_of = np.sort(random.choice(np.arange(fit.CLIQUE, transit_count), size=length, replace=False))
        links.append(np.stack([links_of[:-1], links_of[1:]], axis=1))
        length //= 2
    return np.concatenate(links)


def _stub_links(left: Longs, wanted: Longs, region: npt.NDArray[np.int16], random: np.random.Generator) -> Longs:
    """Match the providers that stubs want with the slots that are left."""
    customer = np.repeat(np.arange(len(left), len(wanted)), wanted[len(left) :])
    slots = np.repeat(np.arange(len(left)), left)
    missing = len(customer) - len(slots)
    if missing > 0:
        more = random.choice(len(left), size=missing, p=left / left.sum())
        slots = np.concatenate([slots, more])
    slots = random.permutation(slots)
    local = random.random(len(customer)) < _LOCAL
    provider = np.full(len(customer), -1)
    taken = np.zeros(len(slots), dtype=bool)
    for index in range(len(REGIONS)):
        offered = np.flatnonzero(region[slots] == index)
        buyers = random.permutation(np.flatnonzero(local & (region[customer] == index)))
        count = min(len(offered), len(buyers))
        provider[buyers[:count]] = slots[offered[:count]]
        taken[offered[:count]] = True
    rest = np.flatnonzero(provider < 0)
    provider[rest] = slots[~taken][: len(rest)]
    return _without_repeats(provider, customer, random)


def _without_repeats(provider: Longs, customer: Longs, random: np.random.Generator) -> Longs:
    """Swap providers of links that occur twice with random others; drop the few that are left after some rounds."""
    for _ in range(8):
        packed = provider * (customer.max() + 1) + customer
        _, first = np.unique(packed, return_index=True)
        again = np.setdiff1d(np.arange(len(packed)), first)
        if not len(again):
            break
        others = random.integers(0, len(provider), len(again))
        mixed = np.unique(np.concatenate([again, others]))
        provider[mixed] = provider[random.permutation(mixed)]
    packed = distinct(provider * (customer.max() + 1) + customer)
    return np.stack([packed // (customer.max() + 1), packed % (customer.max() + 1)], axis=1)


def _peerings(slots: Ints, ases: int, transit: Longs, links: int, random: np.random.Generator) -> Longs:
    """Return pairs of peers, the clique's full mesh among them."""
    transit_peers = round(_PEERING_TRANSIT_SHARE * len(slots))
    stub_peers = round(_PEERING_STUB_SHARE * (ases - len(slots)))
    size = np.log(slots) + random.normal(0.0, 0.4, len(slots))
    chosen = np.concatenate(
        [
            np.argsort(-size, kind="stable")[:transit_peers],
            random.choice(np.arange(len(slots), ases), size=stub_peers, replace=False),
        ]
    )
    score = np.concatenate([np.sort(size)[::-1][:transit_peers], random.normal(0.0, 1.5, stub_peers)])
    chosen = chosen[np.argsort(-score, kind="stable")]
    among = tuple((max(value, 1), max(0.0, (share - 0.812) / 0.188)) for value, share in fit.PEERS)
    wanted = np.minimum(fit.sequence(among, len(chosen), 2 * links / len(chosen)), len(chosen) // 2)

    mesh = np.stack(np.triu_indices(fit.CLIQUE, 1), axis=1)
    banned = distinct(_packed(np.concatenate([transit, mesh]), ases))
    large = _large_peers(chosen, wanted, random)
    large = large[~np.isin(_packed(large, ases), banned)]
    left = np.maximum(wanted - np.bincount(large.ravel(), minlength=ases)[chosen], 0)
    banned = np.sort(np.concatenate([banned, _packed(large, ases)]))
    found = np.concatenate([mesh, large, _matched(np.repeat(chosen, left), ases, banned, random)])
    for _ in range(4):
        # What fitted nowhere goes to random pairs, so that the number of peerings is the wanted one.
        missing = max(links - len(found), 0)
        ends = random.choice(chosen, size=2 * missing, p=wanted / wanted.sum())
        banned = distinct(np.concatenate([banned, _packed(found, ases)]))
        found = np.concatenate([found, _matched(ends, ases, banned, random)])
    return found


def _packed(pairs: Longs, ases: int) -> Longs:
    """Return one integer per pair, whichever way round it is."""
    return np.minimum(pairs[:, 0], pairs[:, 1]) * ases + np.maximum(pairs[:, 0], pairs[:, 1])


def _large_peers(chosen: Longs, wanted: Ints, random: np.random.Generator) -> Longs:
    """Let the largest peers, in order, draw distinct partners in proportion to what these still want.

    Joined end by end like the rest they would mostly meet each other again and again.
    """
    left = wanted.astype(np.float64)
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for place in range(int(np.count_nonzero(wanted > _LARGE_PEER))):
        count = min(int(left[place]), len(left) - place - 1)
        left[place] = 0
        if count <= 0:
            continue
        with np.errstate(divide="ignore"):
            # The smallest of exponential variates with rates `left`: a weighted draw without replacement.
            arrival = random.standard_exponential(len(left)) / left
        partners = np.argpartition(arrival, count - 1)[:count]
        partners = partners[np.isfinite(arrival[partners])]
        left[partners] -= 1
        pairs.append(np.stack([np.full(len(partners), chosen[place]), chosen[partners]], axis=1))
    return np.concatenate(pairs)


def _matched(ends: Longs, ases: int, banned: Longs, random: np.random.Generator) -> Longs:
    """Join link ends at random into distinct allowed pairs; ends that fit nowhere are drawn again some rounds."""
    found = [np.zeros(0, dtype=np.int64)]
    for _ in range(8):
        ends = random.permutation(ends)
        half = len(ends) // 2
        pairs = np.stack([ends[:half], ends[half : 2 * half]], axis=1)
        packed = _packed(pairs, ases)
        _, first = np.unique(packed, return_index=True)
        fresh = np.zeros(half, dtype=bool)
        fresh[first] = True
        fresh &= (pairs[:, 0] != pairs[:, 1]) & ~_among(packed, banned)
        found.append(packed[fresh])
        banned = np.sort(np.concatenate([banned, packed[fresh]]), kind="stable")
        ends = pairs[~fresh].ravel()
        if len(ends) < 2:  # noqa: PLR2004 - a pair has two ends
            break
    every = np.concatenate(found)
    return np.stack([every // ases, every % ases], axis=1)


def _among(values: Longs, ordered: Longs) -> npt.NDArray[np.bool_]:
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[place] == values
    return found
