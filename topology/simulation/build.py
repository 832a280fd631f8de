"""From a scenario to the Internet, fleet and demand that its runs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from topology import caida, fleet_file
from topology.attach import attach
from topology.controllers import (
    Controller,
    DoNothing,
    GuardedStrikes,
    NaiveWithdraw,
    StagedPrepend,
    ThreeStrikes,
)
from topology.controllers_popctl import Popctl
from topology.demand import DEFAULT_SEED, Demand, combine, fitted, load, load_measured
from topology.engine import engine_named
from topology.errors import Problem, TopologyError
from topology.example import example_fleet
from topology.fit import PEERINGS_PER_AS
from topology.flat import compile_links
from topology.generate import generate
from topology.model import Model
from topology.scenario_fields import KeyPath, line_of, spelled
from topology.scenario_sites import uncounted
from topology.simulation.record import Run
from topology.simulation.run import Simulation
from topology.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from topology.attach import Attachment
    from topology.flat import FlatGraph
    from topology.fleet import Fleet
    from topology.scenario import Event, Scenario

BASELINE: Final = "none"
OURS: Final = "popctl"
CONTROLLERS: Final = (BASELINE, "naive-withdraw", "three-strikes", "guarded-strikes", "staged-prepend", OURS)

_NO_REGIONS: Final = (
    "names no regions, so no PoP can be placed: add lines `# region|NAME|ASN ASN ...` to it, or give a [fleet] file"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What all controllers of a comparison share."""

    scenario: Scenario
    model: Model
    demand: Demand


def stage_of(scenario: Scenario, *, engine: str = "auto") -> Stage:
    """Build what a scenario plays on."""
    internet, sites = scenario.internet, scenario.sites
    if internet.file is not None:
        links = caida.load(internet.file)
    else:
        density = PEERINGS_PER_AS if internet.peerings_per_as is None else internet.peerings_per_as
        links = generate(internet.ases, scenario.seed, peerings_per_as=density)
    graph = compile_links(links)
    motor = engine_named(engine)
    if sites.file is not None:
        fleet = fleet_file.load(sites.file)
    elif not graph.regions:
        raise TopologyError([_problem(scenario, ("internet", "file"), _NO_REGIONS)])
    else:
        fleet = example_fleet(
            graph,
            pops=sites.pops,
            upstreams=sites.upstreams,
            sessions=sites.users,
            seed=scenario.seed,
            engine=motor,
        )
    _check(scenario, graph, fleet)
    if sites.file is None:
        attachment = attach(graph, fleet)
    else:
        attachment = attach(graph, fleet, place_of=fleet_file.place_finder(sites.file, fleet), source=str(sites.file))
    model = Model(attachment, motor)
    return Stage(scenario=scenario, model=model, demand=_demand(scenario, attachment))


def _demand(scenario: Scenario, attachment: Attachment) -> Demand:
    """Return where the users are: as files say, or spread."""
    sites, graph = scenario.sites, attachment.graph
    wanted = fitted(graph, sites.users, DEFAULT_SEED) if sites.demand is None else load(sites.demand, graph)
    if sites.measured is not None:
        wanted = combine(wanted, load_measured(sites.measured, graph, attachment.fleet))
    crowds = uncounted(scenario, wanted.total)
    if crowds:
        raise TopologyError([_problem(scenario, ("crowd", index, "rise"), text) for index, text in crowds])
    return wanted


def _check(scenario: Scenario, graph: FlatGraph, fleet: Fleet) -> None:
    """Raise `TopologyError` with all that the scenario names and the files do not have."""
    upstreams = {session.upstream for session in fleet.sessions}
    found: list[tuple[KeyPath, str]] = [
        (("crowd", index, "region"), f"{one.region!r} is none of the AS graph's: {', '.join(graph.regions)}")
        for index, one in enumerate(scenario.crowds)
        if one.region not in graph.regions
    ]
    for index, one in enumerate(scenario.events):
        pops = _eligible(one, fleet)
        if not pops:
            found.append((("event", index, "region"), f"no PoP is in {one.region!r}"))
        elif one.upstream is not None and one.upstream not in upstreams:
            found.append((("event", index, "upstream"), f"no PoP has a session with AS {one.upstream}"))
        elif one.upstream is not None and not any(
            session.pop in pops and session.upstream == one.upstream for session in fleet.sessions
        ):
            text = f"none of its PoPs has a session with AS {one.upstream}"
            found.append((("event", index, "upstream"), text))
    if found:
        raise TopologyError([_problem(scenario, path, text) for path, text in found])


def _eligible(event: Event, fleet: Fleet) -> frozenset[int]:
    """Return the PoPs that an event may befall; the largest are known only when routes are."""
    return frozenset(
        index
        for index, pop in enumerate(fleet.pops)
        if (not event.pops or pop.name in event.pops) and event.region in (None, pop.region)
    )


def _problem(scenario: Scenario, path: KeyPath, text: str) -> Problem:
    """Return a problem with the line of its key, if the scenario is from a file."""
    said = f"{spelled(path)}: {text}"
    if scenario.file is None:
        return Problem(file=scenario.name, line=0, text=said)
    return Problem(file=str(scenario.file), line=line_of(scenario.file.read_text(encoding="utf-8"), path), text=said)


def controller_named(name: str, world: World) -> Controller:
    """Return a controller. Raises `KeyError` if there is none of that name."""
    fleet, scenario = world.fleet, world.scenario
    makers: dict[str, Callable[[], Controller]] = {
        "none": lambda: DoNothing(fleet, scenario.seed),
        "naive-withdraw": lambda: NaiveWithdraw(fleet, scenario.seed),
        "three-strikes": lambda: ThreeStrikes(fleet, scenario.seed, scenario.tick_s),
        "guarded-strikes": lambda: GuardedStrikes(fleet, scenario.seed, scenario.tick_s),
        "staged-prepend": lambda: StagedPrepend(fleet, scenario.seed, scenario.tick_s),
        "popctl": lambda: Popctl(fleet, world),
    }
    return makers[name]()


def play(stage: Stage, controller: str, watch: Callable[[], None] | None = None, *, judged: bool = False) -> Run:
    """Run one controller from the start of the scenario to its end; to be `judged` takes it a little longer."""
    world = World(stage.scenario, stage.model, stage.demand, stage.model.attachment.fleet.profile)
    return Simulation(world, controller_named(controller, world)).run(watch, judged=judged)
