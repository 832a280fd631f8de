"""Every engine against the object-level reference and against each other, on random small Internets."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings

from tests.unit.topology import reference, worlds
from tests.unit.topology.agreement import ENGINES, agrees
from topology.attach import attach
from topology.engine import engine_named
from topology.flat import compile_links
from topology.keys import NONE
from topology.model import Model, entries, path
from topology.seeds import seeds_of

if TYPE_CHECKING:
    from tests.unit.topology.worlds import World
    from topology.links import AsLinks


@settings(max_examples=1000, deadline=None)
@given(world=worlds.worlds(worlds.elaborate))
def test_every_engine_finds_the_routes_and_tied_pops_of_the_reference(world: World) -> None:
    links, fleet, [plan] = world.links, world.fleet, world.plans
    attachment, wanted = attach(compile_links(links), fleet), reference.solve(links, fleet, plan)
    for engine in ENGINES:
        model = Model(attachment, engine)
        agrees(wanted, fleet, model, model.solve(plan))


@settings(max_examples=1000, deadline=None)
@given(world=worlds.worlds(worlds.plain, count=3))
def test_an_update_ends_where_a_full_run_does(world: World) -> None:
    attachment, plans = attach(compile_links(world.links), world.fleet), world.plans
    for engine in ENGINES:
        model = Model(attachment, engine)
        solution = model.solve(plans[0])
        for plan in plans[1:]:
            solution, fresh = model.update(solution, plan), model.solve(plan)
            assert np.array_equal(solution.best, fresh.best), engine.name
            assert np.array_equal(solution.spread, fresh.spread), engine.name


@settings(max_examples=300, deadline=None)
@given(world=worlds.worlds(worlds.elaborate, count=4))
def test_a_batch_holds_the_answer_of_every_single_run(world: World) -> None:
    attachment, plans = attach(compile_links(world.links), world.fleet), world.plans
    for engine in ENGINES:
        model = Model(attachment, engine)
        columns = engine.batch(attachment.graph, [seeds_of(attachment, plan) for plan in plans])
        for column, (plan, together) in enumerate(zip(plans, model.solve_all(plans), strict=True)):
            alone = model.solve(plan)
            if not alone.lowered:
                assert np.array_equal(columns[:, column], alone.best), engine.name
            assert np.array_equal(together.best, alone.best), engine.name
            assert np.array_equal(together.spread, alone.spread), engine.name
            assert np.array_equal(together.bound, alone.bound), engine.name


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
