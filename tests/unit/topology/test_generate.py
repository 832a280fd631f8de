"""The synthetic Internet: how well it is fitted, that it is reproducible, and that it survives its file form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from topology import caida, fit
from topology.announce import Announcement, Relation
from topology.attach import attach
from topology.engine import engine_named
from topology.flat import compile_links
from topology.fleet import Capacity, Fleet, Pop, Session
from topology.generate import generate
from topology.keys import NONE
from topology.model import Model, path_length

if TYPE_CHECKING:
    from pathlib import Path

    from topology.flat import FlatGraph


@pytest.mark.parametrize("seed", [1, 2])
def test_a_synthetic_internet_is_fitted_to_the_published_statistics(seed: int) -> None:
    """Every distribution by its Kolmogorov-Smirnov distance, every single figure by its relative difference."""
    flat = compile_links(generate(fit.ASES, seed))
    assert flat.collapsed == ()
    assert [(one.name, round(one.distance, 3)) for one in fit.measure(flat) if not one.ok] == []
    assert mean_path_and_reach(flat) == (pytest.approx(fit.MEAN_PATH, rel=0.15), pytest.approx(0.993, abs=0.005))


def mean_path_and_reach(flat: FlatGraph) -> tuple[float, float]:
    """Propagate from single stubs, a site each."""
    sizes = np.diff(flat.links.customers.ptr), np.diff(flat.links.providers.ptr)
    stubs = np.flatnonzero((sizes[0] == 0) & (sizes[1] > 0))[::4001]
    lengths, reached = [], []
    for node in stubs:
        session = Session(
            name="s", pop=0, upstream=int(flat.asn[node]), relation=Relation.TRANSIT, announcement=Announcement()
        )
        pop = Pop(name="p", region="europe", capacity=Capacity(sessions=1, bit_s=1, handshakes_s=1))
        fleet = Fleet(asn=1, pops=(pop,), sessions=(session,))
        best = Model(attach(flat, fleet), engine_named("numpy")).solve(fleet.plan()).best
        # The upstream stands for the origin, so its own hop counts.
        lengths.append(path_length(best)[best != NONE].mean())
        reached.append(float((best != NONE).mean()))
    return float(np.mean(lengths)), float(np.mean(reached))


def test_the_same_seed_gives_the_same_internet_and_another_one_another() -> None:
    one, again, other = generate(500, 3), generate(500, 3), generate(500, 4)
    assert np.array_equal(one.transit, again.transit)
    assert np.array_equal(one.peering, again.peering)
    assert np.array_equal(one.region, again.region)
    assert not np.array_equal(one.transit, other.transit)


def test_a_generated_internet_survives_its_file(tmp_path: Path) -> None:
    links = generate(400, 5)
    path = tmp_path / "internet.txt.gz"
    caida.write(path, links, comment="synthetic")
    again = caida.load(path)
    for name in ("asns", "transit", "peering", "region"):
        assert np.array_equal(getattr(again, name), getattr(links, name)), name
    assert again.regions == links.regions


def test_too_few_ases_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 200"):
        generate(199, 1)


def test_ks_distance_of_shares_and_of_quantiles() -> None:
    values = np.array([1, 1, 2, 5])
    assert fit.ks_distance(values, ((1, 0.25), (2, 0.75), (5, 1.0))) == 0.25
    # Half of the values are at most 1, so 1 is a median, and 2 is not: three quarters lie up to it, half below.
    assert fit.ks_distance(values, ((2, 0.5),), quantiles=True) == 0.0
    assert fit.ks_distance(values, ((5, 0.5),), quantiles=True) == 0.25
