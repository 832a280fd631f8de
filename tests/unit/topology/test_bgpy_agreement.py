"""BGPy agrees about every AS's site and path length under its tie-break, which is ours: the lowest AS number."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.unit.topology import bgpy_side
from tests.unit.topology.worlds import fleet
from topology.attach import attach
from topology.engine import engine_named
from topology.flat import compile_links
from topology.generate import generate
from topology.keys import NONE
from topology.model import Model, entries, path_length

pytestmark = pytest.mark.skipif(importlib.util.find_spec("bgpy") is None, reason="bgpy-pkg is not installed")


@pytest.mark.filterwarnings("ignore")  # BGPy's own
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bgpy_agrees_about_site_and_path_length_of_every_as(seed: int) -> None:
    links = generate(3000, seed)
    flat = compile_links(links)
    random = np.random.Generator(np.random.PCG64(seed))
    upstreams = random.choice(links.asns, size=24, replace=False).tolist()
    sites = fleet(*((pop % 8, asn) for pop, asn in enumerate(upstreams)))
    best = Model(attach(flat, sites), engine_named("auto")).solve(sites.plan()).best
    reached = np.flatnonzero(best != NONE)
    ends, lengths = entries(flat.by_order, best), path_length(best)
    ours = {int(flat.asn[node]): (int(flat.asn[ends[node]]), int(lengths[node])) for node in reached}
    theirs, _ = bgpy_side.propagate(bgpy_side.build(links), upstreams)
    assert ours == theirs
