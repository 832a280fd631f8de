"""What every planning command is told: the Internet, the fleet, the demand, the engine; and how it becomes a study."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from popctl.cli.client import ClientError, MissingError, NothingThereError
from popctl.cli.exits import Exit
from popctl.cli.options import AsJson
from popctl.cli.options import attempt as answered
from topology import caida, demand, fleet_file
from topology.attach import attach
from topology.bounds import MOST_SESSIONS
from topology.cache import compiled, digest_of
from topology.demand import Profile
from topology.engine import NoEngineError, engine_named
from topology.errors import Problem, TopologyError
from topology.flat import FlatGraph
from topology.fleet import Fleet
from topology.model import Model
from topology.whatif import Study

INTERNET = Path("internet.txt.gz")
FLEET = Path("fleet.json")
_DEFAULT_LOAD = demand.HEADROOM
"""Without any figure for demand the fleet is taken to have half as much capacity again as it needs."""


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


def graph_of(path: Path, cache: Path | None) -> FlatGraph:
    """Return the compiled AS graph of a file, from the cache if it is there."""
    try:
        digest = digest_of(path)
    except OSError as error:
        raise TopologyError([Problem(file=str(path), line=0, text=f"cannot be read: {error}")]) from error
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "popctl"
    return compiled(path, caida.load, folder / f"{digest}.graph")


def study_of(
    world: World,
    fleet: Fleet | None = None,
    *,
    unannounced: frozenset[int] = frozenset(),
    sized_for: Fleet | None = None,
    added: Path | None = None,
) -> Study:
    """Return the study of a world.

    Args:
        world: what the user said.
        fleet: in place of the world's.
        unannounced: sessions that the baseline leaves out.
        added: the file of the fleet's last PoP, if it has one of its own.
        sized_for: the fleet whose capacity the default demand goes by, if not this one.
    """
    graph = graph_of(world.internet, world.cache)
    sites = fleet_file.load(world.fleet) if fleet is None else fleet
    model = Model(
        attach(
            graph,
            sites,
            source=str(world.fleet),
            place_of=fleet_file.place_finder(world.fleet, sites, added=added),
        ),
        engine_named(world.engine),
    )
    if world.demand is not None:
        wanted = demand.load(world.demand, graph)
    else:
        capacity = sum(pop.capacity.sessions for pop in (sized_for or sites).pops)
        total = int(capacity / _DEFAULT_LOAD) if world.sessions is None else world.sessions
        if total > MOST_SESSIONS:
            text = f"has room for {capacity} sessions, and the model counts up to {MOST_SESSIONS}: give --sessions"
            raise TopologyError([Problem(file=str(world.fleet), line=0, text=text)])
        wanted = demand.fitted(graph, total, demand.DEFAULT_SEED)
    if world.measured is not None:
        wanted = demand.combine(wanted, demand.load_measured(world.measured, model.attachment))
    plan = tuple(None if index in unannounced else one for index, one in enumerate(sites.plan()))
    return Study(model, wanted, Profile(), plan=plan, limit=world.limit)
