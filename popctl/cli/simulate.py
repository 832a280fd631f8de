"""`popctl simulate`: a scenario of demand and faults, played against the fleet's own decision code.

Exit code 0 says that every invariant held, 3 that one did not, 1 that an input is bad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter, validators
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from popctl.cli.exits import Exit
from popctl.cli.options import AsJson, write_json
from popctl.cli.plan_output import expect_picture, writing
from popctl.cli.plan_world import attempt
from popctl.cli.render import console
from topology import scenario_file
from topology.picture import SUFFIXES
from topology.scenario import Scenario
from topology.simulation import plot as drawing
from topology.simulation import report
from topology.simulation.build import BASELINE, CONTROLLERS, OURS, Stage, play, stage_of
from topology.simulation.record import Run
from topology.simulation.verdicts import Finding, judge

simulate_app = App(
    name="popctl simulate", help="Play a scenario of demand and faults against the fleet's control loop."
)

Seeds = Annotated[int, Parameter(name="--seeds", validator=validators.Number(gte=1, lte=1000))]


@simulate_app.default
def simulate(
    scenario: Path,
    /,
    *,
    compare: Annotated[bool, Parameter(name="--compare", negative="")] = False,
    repeat: Annotated[bool, Parameter(name="--repeat", negative="")] = False,
    seeds: Seeds = 1,
    plot: Annotated[Path | None, Parameter(name="--plot")] = None,
    engine: Annotated[str, Parameter(name="--engine")] = "auto",
    json: AsJson = False,
) -> int:
    """Play a scenario and judge the invariants, with a frozen baseline beside it.

    Parameters
    ----------
    scenario
        TOML; `topology.scenario_file` describes it.
    compare
        Run the comparison controllers, too.
    repeat
        Run popctl's controller twice and compare the digests.
    seeds
        How many seeds, from the scenario's on. Only the first is told tick by tick and drawn.
    plot
        Write an SVG or PNG.
    engine
        numpy, numba, or auto for the faster one that is installed.
    json
        One JSON object on standard output, with the timeline.
    """

    def work() -> int:
        if plot is not None:
            expect_picture(plot, SUFFIXES)
        first = scenario_file.load(scenario)
        names = CONTROLLERS if compare else (BASELINE, OURS)
        played = [_play(replace(first, seed=first.seed + more), names, engine, repeat=repeat) for more in range(seeds)]
        if plot is not None:
            with writing(plot):
                drawing.draw(played[0][0], plot)
        if json:
            write_json(_document(first, played))
        else:
            _show(played, console())
        held = all(one.holds is not False for _, findings in played for one in findings)
        return Exit.OK if held else Exit.UNSAFE

    return attempt(work, as_json=json)


_Played = tuple[list[Run], tuple[Finding, ...]]


def _play(scenario: Scenario, names: Sequence[str], engine: str, *, repeat: bool) -> _Played:
    """Play one seed; show a progress bar on a terminal."""
    rounds = [*names, *([OURS] if repeat else [])]
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"seed {scenario.seed}", total=len(rounds) * scenario.ticks)
        stage = stage_of(scenario, engine=engine)
        runs = [_run(stage, name, lambda: bar.advance(task)) for name in rounds]
    ours = runs[names.index(OURS)]
    again = runs[-1] if repeat else None
    return runs[: len(names)], judge(ours, runs[names.index(BASELINE)], again)


def _run(stage: Stage, name: str, watch: Callable[[], None]) -> Run:
    return play(stage, name, watch, judged=name == OURS)


def _document(scenario: Scenario, played: Sequence[_Played]) -> dict[str, Any]:
    runs, _ = played[0]
    return {
        "scenario": scenario.name,
        "seeds": [
            {"runs": [report.summary(run) for run in found], "verdict": report.verdict(findings)}
            for found, findings in played
        ],
        "timelines": [report.timeline(run) for run in runs],
    }


def _show(played: Sequence[_Played], out: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in (
        "seed",
        "controller",
        "flips",
        "max of a PoP",
        "lost %",
        "worst tick %",
        "capacity/demand",
        "digest",
    ):
        table.add_column(heading, justify="left" if heading in {"controller", "digest"} else "right")
    for runs, _ in played:
        for run in runs:
            row = report.summary(run)
            table.add_row(
                str(row["seed"]),
                row["controller"],
                str(row["flips"]),
                str(row["most_flips_of_a_pop"]),
                f"{row['lost_percent']:.3f}",
                f"{row['lost_percent_worst_tick']:.2f}",
                f"{row['least_announced_capacity_by_demand']:.2f}",
                row["digest"],
            )
    out.print(table)
    outside = played[0][0][0].outside
    if outside:
        out.print(f"{outside} sessions of ASes that the AS graph does not have are left out")
    for runs, findings in played:
        out.print(f"\nseed {runs[0].scenario.seed}: invariants of {OURS}")
        for one in findings:
            mark = {True: "holds", False: "BROKEN", None: "-"}[one.holds]
            out.print(f"  {one.invariant:<16} {mark:<7} {one.text}")
