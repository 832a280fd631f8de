"""Every engine against the object-level reference and against each other, on random small Internets."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings

from tests.unit.topology import reference, worlds
from tests.unit.topology.loops import PlainLoops
from topology.attach import attach
from topology.engine import engine_named, has_numba
from topology.flat import compile_links
from topology.keys import LENGTH_BITS, NONE, TIE_BITS
from topology.model import Model, entries, parents, path
from topology.seeds import seeds_of

if TYPE_CHECKING:
    from tests.unit.topology.worlds import World
    from topology.announce import Plan
    from topology.engine import Engine
    from topology.fleet import Fleet
    from topology.links import AsLinks
    from topology.model import Solution

ENGINES = [PlainLoops(), engine_named("numpy"), *([engine_named("numba")] if has_numba() else [])]
by_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)


def agrees_with_reference(links: AsLinks, fleet: Fleet, plan: Plan, model: Model, solution: Solution) -> None:
    graph = model.attachment.graph
    above = parents(graph.by_order, solution.best)
    for asn, asys in reference.solve(links, fleet, plan).items():
        node = graph.node(asn)
        wanted = asys.best()
        key = int(solution.best[node])
        assert (None if key == NONE else divmod(key >> TIE_BITS, 1 << LENGTH_BITS)) == wanted, asn
        if wanted is None:
            continue
        assert graph.asn[above[node]] == asys.first_choice(), asn
        row, pops = solution.spread[node], asys.pops()
        assert {int(row[-2]), len(fleet.pops) - 1 - int(row[-1])} == {min(pops), max(pops)}, asn
        for index, region in enumerate((*graph.regions, "")):
            assert model.attachment.preference.pop_of_rank[index, row[index]] == reference.nearest(fleet, region, pops)


@by_engine
@settings(max_examples=400, deadline=None)
@given(world=worlds.worlds(worlds.elaborate))
def test_an_engine_finds_the_routes_and_tied_pops_of_the_reference(engine: Engine, world: World) -> None:
    links, fleet, [plan] = world.links, world.fleet, world.plans
    model = Model(attach(compile_links(links), fleet), engine)
    agrees_with_reference(links, fleet, plan, model, model.solve(plan))


@by_engine
@settings(max_examples=400, deadline=None)
@given(world=worlds.worlds(worlds.plain, count=3))
def test_an_update_ends_where_a_full_run_does(engine: Engine, world: World) -> None:
    links, fleet, plans = world.links, world.fleet, world.plans
    model = Model(attach(compile_links(links), fleet), engine)
    solution = model.solve(plans[0])
    for plan in plans[1:]:
        solution, fresh = model.update(solution, plan), model.solve(plan)
        assert np.array_equal(solution.best, fresh.best)
        assert np.array_equal(solution.spread, fresh.spread)


@by_engine
@settings(max_examples=200, deadline=None)
@given(world=worlds.worlds(worlds.elaborate, count=4))
def test_a_batch_holds_the_answer_of_every_single_run(engine: Engine, world: World) -> None:
    links, fleet, plans = world.links, world.fleet, world.plans
    model = Model(attach(compile_links(links), fleet), engine)
    columns = engine.batch(model.attachment.graph, [seeds_of(model.attachment, plan) for plan in plans])
    for column, (plan, together) in enumerate(zip(plans, model.solve_all(plans), strict=True)):
        alone = model.solve(plan)
        if not alone.lowered:
            assert np.array_equal(columns[:, column], alone.best)
        assert np.array_equal(together.best, alone.best)
        assert np.array_equal(together.spread, alone.spread)
        assert np.array_equal(together.bound, alone.bound)


@settings(max_examples=200, deadline=None)
@given(world=worlds.worlds(worlds.elaborate))
def test_chosen_paths_are_valley_free_and_loop_free_and_lead_to_a_session(world: World) -> None:
    links, fleet, [plan] = world.links, world.fleet, world.plans
    graph = compile_links(links)
    solution = Model(attach(graph, fleet), engine_named("numpy")).solve(plan)
    ends = entries(graph.by_order, solution.best)
    for node in range(len(graph)):
        steps = path(graph.asn, graph.by_order, solution.best, node)
        assert len(set(steps)) == len(steps)
        assert bool(steps) == (solution.best[node] != NONE)
        if steps:
            assert steps[-1] == graph.asn[ends[node]]
            assert steps[-1] in {session.upstream for session in fleet.sessions}
            assert is_valley_free(links, steps)


def is_valley_free(links: AsLinks, steps: tuple[int, ...]) -> bool:
    """Tell whether a path, seen from the client, goes up, over at most one peering, then only down."""
    transit = {tuple(pair) for pair in links.asns[links.transit].tolist()}
    peering = {tuple(pair) for pair in links.asns[links.peering].tolist()}
    kinds = ""
    for near, far in pairwise(steps):
        kinds += "u" if (far, near) in transit else "d" if (near, far) in transit else "p"
        assert kinds[-1] != "p" or {(near, far), (far, near)} & peering
    return kinds.lstrip("u").removeprefix("p").lstrip("d") == ""
