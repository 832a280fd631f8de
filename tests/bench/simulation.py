"""The closed loop: a day of 1000 PoPs against the clock, and the flash crowd on many seeds against every controller.

The scenario's region and popctl's ladders were chosen on the seeds 1 to 10; the flash crowd is judged on others.
"""

from __future__ import annotations

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.__main__ import Figure
from topology import scenario_file
from topology.simulation.build import BASELINE, CONTROLLERS, OURS, play, stage_of
from topology.simulation.record import Run
from topology.simulation.verdicts import Finding, Invariant, judge

_SCENARIOS = Path(__file__).parents[1] / "data" / "topology" / "scenarios"
_COMMAND = "python -m tests.bench simulation"
_SEEDS = 20
"""From the scenario's on; none of them was looked at while anything was chosen."""
_WINS = 10
_FLIPS = 50
_MEBI = 2**20


def _figure(
    name: str, value: float, unit: str, bound: float | None = None, *, least: bool = False, note: str = ""
) -> Figure:
    ok = bound is None or (value >= bound if least else value <= bound)
    found = Figure(name=f"simulation: {name}", value=value, unit=unit, bound=bound, ok=ok, command=_COMMAND)
    if note:
        found["note"] = note
    return found


def measure() -> list[Figure]:
    """Play both scenarios."""
    return [*_day(), *_flash_crowd()]


def _day() -> list[Figure]:
    scenario = scenario_file.load(_SCENARIOS / "day.toml")
    # The engine compiles once per machine; that is no part of the day.
    play(stage_of(replace(scenario, duration_s=60.0, sites=replace(scenario.sites, pops=10), events=())), OURS)
    start, start_cpu = time.perf_counter(), time.process_time()
    stage = stage_of(scenario)
    baseline = play(stage, BASELINE)
    run = play(stage, OURS, judged=True)
    took, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MEBI
    findings = judge(run, baseline)
    return [
        # One thread: on a machine with nothing else to do both are the same.
        _figure(
            "24 h x 1000 PoPs with 60-s ticks, baseline beside it, CPU", cpu, "s", 90.0, note=f"{took:.0f} s in all"
        ),
        _figure("its peak memory", peak, "MiB", 1024.0),
        _figure("its invariants that do not hold", _broken(findings), "", 0.0, note=_told(findings)),
        _figure("its lost demand, popctl", 100 * run.lost_share, "%", 100 * baseline.lost_share),
    ]


def _broken(findings: tuple[Finding, ...]) -> float:
    return float(sum(one.holds is False for one in findings))


def _told(findings: tuple[Finding, ...]) -> str:
    return "; ".join(f"{one.invariant}: {one.text}" for one in findings if one.holds is False)


def _flash_crowd() -> list[Figure]:
    scenario = scenario_file.load(_SCENARIOS / "flash-crowd.toml")
    rows: dict[str, list[Run]] = {name: [] for name in CONTROLLERS}
    broken, late = 0.0, 0
    for seed in range(scenario.seed, scenario.seed + _SEEDS):
        stage = stage_of(replace(scenario, seed=seed))
        for name in CONTROLLERS:
            rows[name].append(play(stage, name, judged=name == OURS))
        findings = judge(rows[OURS][-1], rows[BASELINE][-1])
        broken += _broken(findings)
        late += _late(rows[OURS][-1])
    return [*_losses(rows), *_conduct(rows[OURS], broken, late)]


def _late(run: Run) -> int:
    """Count steps in the last half hour of the crowd, and in the last quarter of an hour of the run."""
    end = run.scenario.crowds[0].until_s
    spans = ((end - 1800.0, end), (run.scenario.duration_s - 900.0, run.scenario.duration_s))
    return sum(begin <= act.at_s < until for act in run.acts for begin, until in spans)


def _losses(rows: dict[str, list[Run]]) -> list[Figure]:
    figures = []
    for name in CONTROLLERS:
        lost = [100 * run.lost_share for run in rows[name]]
        note: Any = " ".join(f"{one:.3f}" for one in lost)
        figures.append(_figure(f"flash crowd, lost demand, {name}", sum(lost) / len(lost), "%", note=note))
        if name == OURS:
            continue
        pairs = [(ours.lost_share, theirs.lost_share) for ours, theirs in zip(rows[OURS], rows[name], strict=True)]
        wins, losses = sum(ours < theirs for ours, theirs in pairs), sum(ours > theirs for ours, theirs in pairs)
        of = f"of {_SEEDS} seeds, popctl loses"
        figures.append(_figure(f"{of} less than {name} on", wins, "seeds", _WINS, least=True))
        figures.append(_figure(f"{of} more than {name} on", losses, "seeds", 0.0))
    return figures


def _conduct(ours: list[Run], broken: float, late: int) -> list[Figure]:
    return [
        _figure("flash crowd, flips of popctl, worst seed", max(len(run.acts) for run in ours), "", _FLIPS),
        _figure("flash crowd, steps of popctl in steady state, all seeds", late, "", 0.0),
        _figure(f"flash crowd, invariants ({len(Invariant)} per seed) that do not hold", broken, "", 0.0),
    ]
