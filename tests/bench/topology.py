"""The model at the size of the Internet: compile, propagate, update, N-1, and BGPy on the same graph if installed.

Needs popctl[topology]; figures of the compiled engine need popctl[fast], those against BGPy need bgpy-pkg.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.unit.topology import bgpy_side
from topology import cache, caida
from topology.attach import Attachment, attach
from topology.demand import DEFAULT_SEED, Profile, fitted
from topology.engine import Engine, engine_named, has_numba
from topology.example import example_fleet
from topology.flat import FlatGraph, compile_links
from topology.fleet import withdraw
from topology.generate import generate
from topology.keys import NONE
from topology.model import Model, entries, path_length
from topology.seeds import seeds_of
from topology.whatif import Study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from topology.links import AsLinks

COMMAND = "python -m tests.bench topology"
ASES, LINKS = 78_771, 723_000
"""Of CAIDA's serial-2 of December 2025, which has 566,171 peerings among them."""
_PEERINGS = 574_000
"""What to ask for, so that there are as many links: the synthetic Internet has less transit, and pairs drawn twice."""
_EVERY = {"numpy": 20, "numba": 1}
"""Of 1000 PoPs so many are left out but one: a percentile of the compiled engine is of them all."""
_BOUNDS_MS = {"numpy": (15.0, 50.0), "numba": (1.5, 1.5)}
_SPEED_UP = {"numpy": 300.0, "numba": 2500.0}


def figure(name: str, value: float, unit: str, bound: float | None = None, *, least: bool = False) -> dict[str, Any]:
    """Return one line of bench.json; `least` makes the bound a lower one."""
    ok = bound is None or (value >= bound if least else value <= bound)
    return {"name": name, "value": value, "unit": unit, "bound": bound, "ok": ok, "command": COMMAND}


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure() -> list[dict[str, Any]]:
    """Measure everything that is installed here."""
    figures: list[dict[str, Any]] = []
    took_s: dict[str, float] = {}
    start = time.perf_counter()
    links = generate(ASES, 1, peerings_per_as=_PEERINGS / ASES)
    figures.append(figure("topology: generate 79k ASes / 723k links", time.perf_counter() - start, "s"))
    count = len(links.transit) + len(links.peering)
    figures.append(figure("topology: its links", count, "", LINKS, least=True))
    graph = _compile(links, figures)
    engines = [engine_named("numpy"), *([engine_named("numba")] if has_numba() else [])]
    small = _attached(graph, 20)
    large = _attached(graph, 1000)
    for engine in engines:
        took_s[engine.name] = _propagate(engine, small, figures)
        _update(engine, large, figures)
    _compare(engines, large, figures)
    if has_numba():
        _one_down(large, figures)
    if importlib.util.find_spec("bgpy") is not None:
        _against_bgpy(links, small, took_s, figures)
    return figures


def _attached(graph: FlatGraph, pops: int) -> Attachment:
    fleet = example_fleet(graph, pops=pops, upstreams=3, sessions=10**7, seed=1, engine=engine_named())
    return attach(graph, fleet)


def _compile(links: AsLinks, figures: list[dict[str, Any]]) -> FlatGraph:
    with tempfile.TemporaryDirectory() as folder:
        source, stored = Path(folder) / "as-rel.txt", Path(folder) / "cache"
        caida.write(source, links, comment="synthetic")
        cold = seconds(lambda: cache.compiled(source, caida.load, stored))
        figures.append(figure("topology: read and compile 79k ASes / 723k links, cold", cold, "s", 5.0))
        warm = statistics.median(seconds(lambda: cache.compiled(source, caida.load, stored)) for _ in range(5))
        figures.append(figure("topology: the same from the cache", warm, "s", 0.3))
    return compile_links(links)


def _propagate(engine: Engine, attachment: Attachment, figures: list[dict[str, Any]]) -> float:
    graph, seeds = attachment.graph, seeds_of(attachment, attachment.fleet.plan())
    best, bound = engine.propagate(graph, seeds)
    # The best of many: what the machine does besides says nothing about the model.
    took = min(seconds(lambda: engine.propagate(graph, seeds)) for _ in range(25))
    name = f"topology: one propagation, 20 sites x 3 sessions, {engine.name}"
    figures.append(figure(name, 1e3 * took, "ms", _BOUNDS_MS[engine.name][0]))
    engine.spread(graph, seeds, best, bound)
    spread = statistics.median(seconds(lambda: engine.spread(graph, seeds, best, bound)) for _ in range(5))
    figures.append(figure(f"topology: tied sets of it, {engine.name}", 1e3 * spread, "ms"))
    return took


def _update(engine: Engine, attachment: Attachment, figures: list[dict[str, Any]]) -> None:
    model, fleet = Model(attachment, engine), attachment.fleet
    base = model.solve(fleet.plan())
    plans = [withdraw(fleet, fleet.plan(), [pop]) for pop in range(1000)][:: _EVERY[engine.name]]
    model.update(base, plans[0])
    # The best of five per plan: what differs between plans is asked for, not what the machine does besides.
    whole = sorted(min(seconds(lambda plan=plan: model.update(base, plan)) for _ in range(5)) for plan in plans)
    name = f"topology: change of 1 of 1000 PoPs, routes and tied sets, {engine.name}"
    figures.append(figure(f"{name}, median", 1e3 * statistics.median(whole), "ms"))
    figures.append(figure(f"{name}, p99", 1e3 * whole[int(0.99 * len(whole))], "ms", _BOUNDS_MS[engine.name][1]))


def _compare(engines: Sequence[Engine], attachment: Attachment, figures: list[dict[str, Any]]) -> None:
    """Count the nodes where an engine, or an update in place of a full run, finds another route or tied set."""
    fleet, models = attachment.fleet, [Model(attachment, engine) for engine in engines]
    bases = [model.solve(fleet.plan()) for model in models]
    differing = 0
    for pop in range(0, 1000, 100):
        plan = withdraw(fleet, fleet.plan(), [pop])
        wanted, *rest = [model.solve(plan) for model in models]
        for one in [*rest, *(model.update(base, plan) for model, base in zip(models, bases, strict=True))]:
            differing += int(((one.best != wanted.best) | (one.spread != wanted.spread).any(axis=1)).sum())
    names = " and ".join(engine.name for engine in engines)
    figures.append(figure(f"topology: ASes that full run and update tell differently, {names}", differing, "", 0))


def _one_down(attachment: Attachment, figures: list[dict[str, Any]]) -> None:
    model = Model(attachment, engine_named("numba"))
    study = Study(model, fitted(attachment.graph, 10**7, DEFAULT_SEED), Profile())
    took = seconds(lambda: sum(1 for _ in study.one_down()))
    figures.append(figure("topology: N-1 of 1000 PoPs with loads and verdicts, numba", took, "s", 5.0))


def _against_bgpy(
    links: AsLinks, attachment: Attachment, took_s: dict[str, float], figures: list[dict[str, Any]]
) -> None:
    fleet, graph = attachment.fleet, attachment.graph
    upstreams = sorted({session.upstream for session in fleet.sessions})
    objects = bgpy_side.build(links)
    theirs, bgpy_s = min((bgpy_side.propagate(objects, upstreams) for _ in range(2)), key=lambda pair: pair[1])
    figures.append(figure("topology: the same propagation, bgpy-pkg", bgpy_s, "s"))
    best = Model(attachment, engine_named()).solve(fleet.plan()).best
    ends, lengths = entries(graph.by_order, best), path_length(best)
    ours = {
        int(graph.asn[node]): (int(graph.asn[ends[node]]), int(lengths[node])) for node in np.flatnonzero(best != NONE)
    }
    same = sum(theirs.get(asn) == route for asn, route in ours.items()) / max(len(ours), len(theirs))
    figures.append(
        figure("topology: ASes with the same site and length as bgpy-pkg", 100 * same, "%", 100.0, least=True)
    )
    for name, took in took_s.items():
        figures.append(
            figure(f"topology: faster than bgpy-pkg, {name}", bgpy_s / took, "x", _SPEED_UP[name], least=True)
        )
