"""The verdicts find what a bad controller does amid faults, and not what faults do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.property.simulation_mutants import Domino, Forgetful, Reckless
from topology import scenario_file
from topology.attach import attach
from topology.controllers import Act, DoNothing, Seen
from topology.controllers_popctl import Popctl
from topology.demand import Profile
from topology.model import Model
from topology.scenario import Crowd, Event, EventKind, Internet, Network, Scenario, Sites
from topology.simulation.build import Stage, play, stage_of
from topology.simulation.run import Simulation
from topology.simulation.verdicts import Invariant, judge
from topology.simulation.world import World

SHIPPED = Path(__file__).parents[2] / "data" / "topology" / "scenarios"
BROKEN = Scenario(
    name="amid faults",
    seed=5,
    duration_s=3600.0,
    tick_s=60.0,
    internet=Internet(ases=400),
    sites=Sites(pops=8, upstreams=2, users=20_000),
    network=Network(damping_share=0.0),
    crowds=(Crowd(region="europe", from_s=600.0, until_s=3000.0, rise=1.5),),
    events=(
        Event(kind=EventKind.POP_FAILURE, at_s=300.0, until_s=3600.0, largest=1),
        Event(kind=EventKind.TELEMETRY_LOSS, at_s=900.0, until_s=1200.0, largest=2, share=0.5),
    ),
)


def scarce(stage: Stage) -> Stage:
    """Give every PoP a sixth of the handshakes."""
    fleet = stage.model.attachment.fleet
    pops = tuple(
        replace(pop, capacity=replace(pop.capacity, handshakes_s=max(1, pop.capacity.handshakes_s // 6)))
        for pop in fleet.pops
    )
    graph = stage.model.attachment.graph
    return replace(stage, model=Model(attach(graph, replace(fleet, pops=pops)), stage.model.engine))


def honest(world: World) -> Popctl:
    return Popctl(world.fleet, world)


def broken(stage: Stage, controller: Callable[[World], Popctl]) -> set[Invariant]:
    """Return the invariants that a controller breaks."""
    world = World(stage.scenario, stage.model, stage.demand, Profile())
    run = Simulation(world, controller(world)).run(judged=True)
    return {one.invariant for one in judge(run, play(stage, "none")) if one.holds is False}


@pytest.mark.parametrize(
    ("mutant", "invariant", "seed"),
    [
        (Reckless, Invariant.NO_HARM, 13),
        (Reckless, Invariant.NO_HARM, 24),
        (Reckless, Invariant.CASCADE, 3),
        (Domino, Invariant.CASCADE, 18),
        (Forgetful, Invariant.RECONNECT_STORM, 12),
        (Reckless, Invariant.RECONNECT_STORM, 23),
    ],
)
def test_amid_faults_a_bad_controller_is_found_out_and_the_good_one_is_not(
    mutant: Callable[[World], Popctl], invariant: Invariant, seed: int
) -> None:
    stage = stage_of(replace(BROKEN, seed=seed), engine="numpy")
    stage = scarce(stage) if mutant is Forgetful else stage
    assert not broken(stage, honest)
    assert invariant in broken(stage, mutant)


@pytest.mark.parametrize("name", ["own-fleet", "small-crowd", "small-faults"])
def test_amid_all_faults_that_are_shipped_popctl_keeps_every_invariant(name: str) -> None:
    """The others take longer; `tests/bench/simulation.py` judges them."""
    stage = stage_of(scenario_file.load(SHIPPED / f"{name}.toml"), engine="numpy")
    run, baseline, again = (play(stage, one, judged=one == "popctl") for one in ("popctl", "none", "popctl"))
    assert run.acts
    assert not [one for one in judge(run, baseline, again) if not one.holds]


def test_a_crowd_that_comes_right_after_a_step_is_not_held_against_it() -> None:
    """A PoP sheds at 540 s, and the crowd that comes at 600 s makes its receiver shed before the step is verified."""
    assert not broken(stage_of(replace(BROKEN, seed=10), engine="numpy"), honest)


class _Hasty(DoNothing):
    """Withdraws a PoP with room for good, amid the crowd."""

    def turn(self, seen: Seen) -> list[Act]:
        if seen.now_s != 1260.0:
            return []
        pop = int(np.where((seen.tightness > 0) & (seen.tightness < 1), seen.sessions, 0).argmax())
        self.levels[pop] = 1
        return [Act(pop, 0, 1, "hasty")]

    stages = (0, None)


def test_harm_by_a_step_between_two_faults_is_found_though_the_step_is_never_taken_back() -> None:
    stage = stage_of(BROKEN, engine="numpy")
    world = World(stage.scenario, stage.model, stage.demand, Profile())
    run = Simulation(world, _Hasty(world.fleet, 5)).run(judged=True)
    assert len(run.acts) == 1
    found = {one.invariant for one in judge(run, play(stage, "none")) if one.holds is False}
    assert Invariant.NO_HARM in found


def test_without_a_step_what_would_have_been_is_what_was() -> None:
    stage = stage_of(BROKEN, engine="numpy")
    run = play(stage, "none", judged=True)
    assert run.frozen == run.ticks
    assert run.digest == play(stage, "none").digest


def test_a_copy_that_is_played_without_steps_is_the_baseline() -> None:
    """The oracle's copies are whole: played from the start without steps they are the run without a controller."""
    calm = replace(BROKEN, events=(), crowds=())
    stage = stage_of(calm, engine="numpy")
    world = World(stage.scenario, stage.model, stage.demand, Profile())
    simulation = Simulation(world, Popctl(world.fleet, world))
    copy = simulation.frozen()
    for number in range(calm.ticks):
        copy.tick(number)
    assert copy.result.ticks == play(stage, "none").ticks
    assert simulation.result.ticks == []


def test_a_run_that_was_not_played_to_be_judged_is_not_judged() -> None:
    stage = stage_of(BROKEN, engine="numpy")
    run = play(stage, "none")
    with pytest.raises(ValueError, match="played to be judged"):
        judge(run, run)
