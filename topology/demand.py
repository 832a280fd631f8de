"""Where the users are: sessions per client AS and region, from a file or by default, and measured catchments.

Demand is kept in *atoms*: so many sessions in one AS and region. Numbers are whole, so that nothing is lost or made
when they are added up. A live session is a sample of the catchment: rows that name the PoP where sessions were seen
take the place of demand that is only estimated.
"""

from __future__ import annotations

import csv
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from topology.bounds import MOST_SESSIONS
from topology.errors import Problem, TopologyError
from topology.flat import Ints, Longs, Shorts
from topology.links import LARGEST_ASN, NO_REGION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from topology.flat import FlatGraph
    from topology.fleet import Fleet

NOT_MEASURED: Final = -1
DEFAULT_SEED: Final = 1
"""Of the default demand, so that everybody means the same by it."""
HEADROOM_PERCENT: Final = 150
"""Without any figure for demand a fleet is taken to have so much of the capacity that it needs."""
_MOST_DIGITS: Final = len(str(MOST_SESSIONS))
_SIGMA: Final = 2.0
"""Spread of the default demand: with a lognormal of this sigma a tenth of the ASes hold three quarters of the users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """All atoms, in columns."""

    node: Ints
    region: Shorts
    """Index into the graph's regions; the number of regions where it is not known."""
    sessions: Longs
    measured: Shorts
    """The PoP where these sessions were seen, or `NOT_MEASURED`."""
    outside: int = 0
    """Sessions of ASes that the graph does not have. They are part of no load."""

    @property
    def total(self) -> int:
        """All sessions inside the graph."""
        return int(self.sessions.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a session costs."""

    bit_s_per_session: int = 200_000
    """Average over the busy hour, both ways."""
    handshake_interval_s: int = 3600
    """How often a settled session re-authenticates or comes back."""
    reconnect_window_s: int = 60
    """How long clients take to notice that their PoP changed: all moved sessions connect again within it."""


def fitted(graph: FlatGraph, total: int, seed: int) -> Demand:
    """Spread `total` sessions over all ASes by a seeded lognormal, the default where nothing is known."""
    random = np.random.Generator(np.random.PCG64(seed))
    weights = random.lognormal(0.0, _SIGMA, len(graph))
    exact = weights * (total / weights.sum())
    sessions = np.floor(exact).astype(np.int64)
    # The largest remainders take what rounding left over, so that the sum is exact.
    rest = np.argsort(sessions - exact, kind="stable")[: total - int(sessions.sum())]
    sessions[rest] += 1
    return _atoms(graph, np.arange(len(graph)), graph.region, sessions)


def _atoms(graph: FlatGraph, node: Longs | Ints, region: Shorts, sessions: Longs, outside: int = 0) -> Demand:
    unknown = np.int16(len(graph.regions))
    return Demand(
        node=node.astype(np.int32),
        region=np.where(region == NO_REGION, unknown, region).astype(np.int16),
        sessions=sessions,
        measured=np.full(len(node), NOT_MEASURED, dtype=np.int16),
        outside=outside,
    )


def load(path: Path, graph: FlatGraph) -> Demand:
    """Read `asn,sessions[,region]` with a header line; an AS may have several rows.

    Raises:
        TopologyError: with every bad line, or because no user is inside the graph.
    """
    rows, problems = _rows(path, required=("asn", "sessions"), optional=("region",))
    named = _named_regions(path, rows, problems, graph)
    table = _numbers(path, rows, problems, ("asn", "sessions"))
    nodes = graph.nodes(table[:, 0])
    region = _regions(graph, nodes, named)
    known = nodes >= 0
    outside = _outside(path, known, table[:, 1])
    return _atoms(graph, nodes[known], region[known], table[known, 1], outside)


def load_measured(path: Path, graph: FlatGraph, fleet: Fleet) -> Demand:
    """Read `asn,pop,sessions[,region]` with a header line: sessions as they were seen at the PoPs.

    Raises:
        TopologyError: with every bad line, or because nothing was seen inside the graph.
    """
    rows, problems = _rows(path, required=("asn", "pop", "sessions"), optional=("region",))
    pops = {pop.name: index for index, pop in enumerate(fleet.pops)}
    for line, row in rows:
        if row["pop"] not in pops:
            problems.append(Problem(file=str(path), line=line, text=f"no PoP is named {row['pop']!r}"))
    named = _named_regions(path, rows, problems, graph)
    table = _numbers(path, rows, problems, ("asn", "sessions"))
    nodes = graph.nodes(table[:, 0])
    known = nodes >= 0
    region = _regions(graph, nodes, named)
    atoms = _atoms(graph, nodes[known], region[known], table[known, 1], _outside(path, known, table[:, 1]))
    seen = np.array([pops[row["pop"]] for _, row in rows], dtype=np.int16)[known]
    return Demand(node=atoms.node, region=atoms.region, sessions=atoms.sessions, measured=seen, outside=atoms.outside)


def combine(estimated: Demand, measured: Demand) -> Demand:
    """Return the measured atoms, and the estimated ones of ASes where nothing was measured."""
    rest = ~np.isin(estimated.node, measured.node)
    return Demand(
        node=np.concatenate([measured.node, estimated.node[rest]]),
        region=np.concatenate([measured.region, estimated.region[rest]]),
        sessions=np.concatenate([measured.sessions, estimated.sessions[rest]]),
        measured=np.concatenate([measured.measured, estimated.measured[rest]]),
        outside=estimated.outside + measured.outside,
    )


def _rows(
    path: Path, *, required: tuple[str, ...], optional: tuple[str, ...]
) -> tuple[list[tuple[int, dict[str, str]]], list[Problem]]:
    """Return the rows with their line numbers, and the problems with their shape."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, restkey="", restval="")
            rows = [(reader.line_num, row) for row in reader]
            header = tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TopologyError([Problem(file=str(path), line=0, text=f"cannot be read: {error}")]) from error
    if not set(required) <= set(header) <= {*required, *optional}:
        text = f"the header is not {','.join(required)}[,{','.join(optional)}]"
        raise TopologyError([Problem(file=str(path), line=1, text=text)])
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if twice:
        raise TopologyError([Problem(file=str(path), line=1, text=f"the header names {', '.join(twice)} twice")])
    extra = [line for line, row in rows if "" in row]
    return rows, [Problem(file=str(path), line=line, text="has more fields than the header") for line in extra]


def _named_regions(
    path: Path, rows: Sequence[tuple[int, Mapping[str, str]]], problems: list[Problem], graph: FlatGraph
) -> list[int]:
    """Return the region that each row names, or `NO_REGION` where it names none."""
    numbers = {name: index for index, name in enumerate(graph.regions)}
    named = []
    for line, row in rows:
        name = row.get("region") or ""
        if name and name not in numbers:
            text = f"region {name!r} is none of the AS graph's: {', '.join(graph.regions)}"
            problems.append(Problem(file=str(path), line=line, text=text))
        named.append(numbers.get(name, NO_REGION))
    return named


def _regions(graph: FlatGraph, nodes: Longs | Ints, named: Sequence[int]) -> Shorts:
    """Return the region of every row: the one that it names, or else that of its AS."""
    own = [graph.region[node] if node >= 0 else NO_REGION for node in nodes]
    pairs = zip(named, own, strict=True)
    return np.array([mine if said == NO_REGION else said for said, mine in pairs], dtype=np.int16)


def _outside(path: Path, known: npt.NDArray[np.bool_], sessions: Longs) -> int:
    """Return the sessions outside the graph. Without any inside every answer would be about nobody, and safe."""
    everything: int = sum(sessions.tolist())
    outside: int = sum(sessions[~known].tolist())
    text = ""
    if not len(sessions):
        text = "has no rows below its header"
    elif outside == everything:
        text = (
            f"no session of it is of an AS of the AS graph ({outside} in {len(sessions)} rows): is it the right graph?"
        )
    elif everything > MOST_SESSIONS:
        text = f"{everything} sessions in all; the model counts up to {MOST_SESSIONS}"
    if text:
        raise TopologyError([Problem(file=str(path), line=0, text=text)])
    return outside


def _numbers(
    path: Path, rows: Sequence[tuple[int, Mapping[str, str]]], problems: list[Problem], columns: tuple[str, ...]
) -> Longs:
    """Return columns of whole numbers, or raise all problems found so far and here."""
    bounds = {"asn": (1, LARGEST_ASN), "sessions": (0, MOST_SESSIONS)}
    table = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for index, (line, row) in enumerate(rows):
        for column, name in enumerate(columns):
            least, most = bounds[name]
            text = row[name]
            if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and least <= int(text) <= most:
                table[index, column] = int(text)
            else:
                said = f"{name}: {reprlib.repr(text)} is not a whole number of {least}..{most}"
                problems.append(Problem(file=str(path), line=line, text=said))
    if problems:
        raise TopologyError(sorted(problems, key=lambda problem: problem.line))
    return table
