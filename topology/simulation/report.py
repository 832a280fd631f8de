"""What came of a run, ready for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topology.simulation.record import Run
    from topology.simulation.verdicts import Finding


def summary(run: Run) -> dict[str, Any]:
    """Return one row of the comparison."""
    by_pop: dict[str, int] = {}
    for one in run.acts:
        by_pop[one.pop] = by_pop.get(one.pop, 0) + 1
    ratios = [tick.announced_capacity / max(tick.demand, 1) for tick in run.ticks]
    return {
        "controller": run.controller,
        "seed": run.scenario.seed,
        "flips": len(run.acts),
        "most_flips_of_a_pop": max(by_pop.values(), default=0),
        "lost_percent": 100 * run.lost_share,
        "lost_percent_worst_tick": 100 * run.worst_share,
        "least_announced_capacity_by_demand": min(ratios, default=0.0),
        "suppressed_by_damping": run.suppressions,
        "blocked": run.blocked,
        "outside": run.outside,
        "digest": run.digest,
    }


def timeline(run: Run) -> dict[str, Any]:
    """Return everything that happened: fault by fault, tick by tick, step by step, and PoP by PoP."""
    return {
        "scenario": run.scenario.name,
        "tick_s": run.scenario.tick_s,
        **summary(run),
        "ticks": [asdict(tick) for tick in run.ticks],
        "acts": [asdict(one) for one in run.acts],
        "faults": [asdict(one) for one in run.faults],
        "health": [asdict(one) for one in run.health],
        "load": dict(zip(run.pops, map(list, zip(*run.utilisation, strict=True)), strict=True)),
    }


def verdict(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the findings."""
    return [{"invariant": str(one.invariant), "holds": one.holds, "text": one.text} for one in findings]
