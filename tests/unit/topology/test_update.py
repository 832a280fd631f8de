"""Answers by way of a difference on a graph of many ranks; the property tests have small ones with every oddity."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.topology.agreement import ENGINES
from topology.attach import Attachment, attach
from topology.engine import Engine, engine_named
from topology.example import example_fleet
from topology.flat import compile_links
from topology.fleet import prepend, withdraw
from topology.generate import generate
from topology.model import Model


@pytest.fixture(scope="module")
def attachment() -> Attachment:
    graph = compile_links(generate(500, 3))
    return attach(graph, example_fleet(graph, pops=12, upstreams=3, sessions=1000, seed=3, engine=engine_named()))


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_an_update_is_the_full_run_of_the_first_engine(engine: Engine, attachment: Attachment) -> None:
    fleet, model = attachment.fleet, Model(attachment, engine)
    plans = [withdraw(fleet, fleet.plan(), [pop]) for pop in range(12)]
    plans += [prepend(fleet, plans[(pop + 1) % 12], pop, 2) for pop in range(0, 12, 3)]
    solution = model.solve(fleet.plan())
    for plan in [*plans, fleet.plan()]:
        # From one change to the next, so that routes and PoPs come back, too.
        solution, wanted = model.update(solution, plan), Model(attachment, engine_named("numpy")).solve(plan)
        assert np.array_equal(solution.best, wanted.best)
        assert np.array_equal(solution.spread, wanted.spread)
