"""What every planning command is told: the Internet, the fleet, the demand, the engine; and how it becomes a study."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter, validators

from popctl.cli.client import ClientError, MissingError, NothingThereError
from popctl.cli.exits import Exit
from popctl.cli.options import AsJson
from popctl.cli.options import attempt as answered
from popctl.cli.plan_render import show_cycles
from topology import caida, demand, fleet_file
from topology.attach import Attachment, attach
from topology.bounds import MOST_SESSIONS
from topology.cache import compiled, digest_of
from topology.demand import Demand
from topology.engine import NoEngineError, engine_named
from topology.errors import Problem, TopologyError
from topology.flat import FlatGraph
from topology.fleet import Fleet
from topology.model import Model
from topology.whatif import Study

INTERNET = Path("internet.txt.gz")
FLEET = Path("fleet.json")

_T = TypeVar("_T")

Cache = Annotated[Path | None, Parameter(name="--cache")]


class NotInFleetError(NothingThereError):
    """A PoP or session that the fleet does not have."""


class BadInputError(ClientError):
    """Files that the model cannot use; all problems at once."""

    exit_code = Exit.PROBLEMS
    located = True


def attempt(work: Callable[[], int], *, as_json: bool) -> int:
    """Run a command as all are run, with what the model refuses in the words of a command."""

    def asked() -> int:
        try:
            return work()
        except TopologyError as error:
            raise BadInputError(str(error)) from error
        except NoEngineError as error:
            raise MissingError(str(error)) from error

    return answered(asked, as_json=as_json)


def _finite(_: object, value: float) -> None:
    """Refuse a limit that no utilisation passes, or all do. What is no number compares as neither."""
    if not 0 < value < math.inf:
        raise ValueError(f"{value} is not a number above 0")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where the model's inputs are, and how to answer."""

    internet: Annotated[Path, Parameter(name="--internet")] = INTERNET
    """AS relationships: CAIDA serial-1 or serial-2, plain, .gz or .bz2."""
    fleet: Annotated[Path, Parameter(name="--fleet")] = FLEET
    """The fleet: JSON or GraphML."""
    demand: Annotated[Path | None, Parameter(name="--demand")] = None
    """Sessions per AS: CSV with asn,sessions[,region]. Without it a seeded default is spread over all ASes."""
    sessions: Annotated[
        int | None, Parameter(name="--sessions", validator=validators.Number(gte=1, lte=MOST_SESSIONS))
    ] = None
    """How many sessions that default has; two thirds of the fleet's capacity when left out."""
    measured: Annotated[Path | None, Parameter(name="--measured")] = None
    """Sessions as seen at the PoPs: CSV with asn,pop,sessions[,region]. They win over the model."""
    limit: Annotated[float, Parameter(name="--limit", validator=_finite)] = 1.0
    """Utilisation from which a PoP counts as overloaded."""
    cache: Cache = None
    """Folder for compiled AS graphs; the user's cache folder when left out."""
    engine: Annotated[str, Parameter(name="--engine")] = "auto"
    """numpy, numba, or auto for the faster one that is installed."""
    json: AsJson = False
    """One JSON object on standard output."""


THE_WORLD = World()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """The fleet that a question is about."""

    fleet: Fleet
    unannounced: frozenset[int] = frozenset()
    """Sessions that the baseline leaves out."""
    sized_for: Fleet | None = None
    """Whose capacity the default demand goes by, if not this one."""
    added: Path | None = None
    """The file of the last PoP, if it has one of its own."""


def as_filed(world: World) -> Sites:
    """Return the world's fleet as its file has it. Raises `TopologyError`."""
    return Sites(fleet=fleet_file.load(world.fleet))


def graph_of(path: Path, cache: Path | None) -> FlatGraph:
    """Return the compiled AS graph of a file, from the cache if it is there; name its provider cycles."""
    try:
        digest = digest_of(path)
    except OSError as error:
        raise TopologyError([Problem(file=str(path), line=0, text=f"cannot be read: {error}")]) from error
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "popctl"
    graph = compiled(path, caida.load, folder / f"{digest}.graph")
    show_cycles(path, graph.collapsed)
    return graph


class _Problems:
    """Collects what is wrong with inputs that can be looked at one without the other."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def of(self, read: Callable[[], _T]) -> _T | None:
        """Return an input, or None when it is bad."""
        try:
            return read()
        except TopologyError as error:
            self._found += error.problems
            return None

    def all_told(self) -> None:
        """Raise `TopologyError` with all problems, if there is any."""
        if self._found:
            raise TopologyError(self._found)


def study_of(world: World, sites_of: Callable[[World], Sites] = as_filed) -> Study:
    """Return the study of a world. Raises `TopologyError` with the problems of all its files."""
    problems = _Problems()
    graph = problems.of(lambda: graph_of(world.internet, world.cache))
    sites = problems.of(lambda: sites_of(world))
    attachment, wanted, measured = None, None, world.measured
    if graph is not None:
        wanted = problems.of(lambda: _demand(world, graph, sites))
    if graph is not None and sites is not None:
        attachment = problems.of(lambda: _attached(world, graph, sites))
        if measured is not None:
            seen = problems.of(lambda: demand.load_measured(measured, graph, sites.fleet))
            wanted = wanted if wanted is None or seen is None else demand.combine(wanted, seen)
    problems.all_told()
    # Nothing was wrong, so everything is there.
    assert sites is not None and attachment is not None and wanted is not None  # noqa: S101, PT018
    model = Model(attachment, engine_named(world.engine))
    plan = tuple(None if index in sites.unannounced else one for index, one in enumerate(sites.fleet.plan()))
    return Study(model, wanted, sites.fleet.profile, plan=plan, limit=world.limit)


def _attached(world: World, graph: FlatGraph, sites: Sites) -> Attachment:
    finder = fleet_file.place_finder(world.fleet, sites.fleet, added=sites.added)
    return attach(graph, sites.fleet, source=str(world.fleet), place_of=finder)


def _demand(world: World, graph: FlatGraph, sites: Sites | None) -> Demand | None:
    """Return the demand, None when that depends on a fleet that could not be read."""
    if world.demand is not None:
        return demand.load(world.demand, graph)
    if sites is None:
        return None
    capacity = sum(pop.capacity.sessions for pop in (sites.sized_for or sites.fleet).pops)
    total = capacity * 100 // demand.HEADROOM_PERCENT if world.sessions is None else world.sessions
    if total > MOST_SESSIONS:
        text = f"has room for {capacity} sessions, and the model counts up to {MOST_SESSIONS}: give --sessions"
        raise TopologyError([Problem(file=str(world.fleet), line=0, text=text)])
    return demand.fitted(graph, total, demand.DEFAULT_SEED)
