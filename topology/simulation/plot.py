"""A picture of runs: what was lost, who was full, what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from topology.picture import save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from topology.simulation.record import Run

_MINUTE_S = 60.0


def draw(runs: Sequence[Run], path: Path) -> None:
    """Write an SVG or PNG, by the name of the file."""
    save(figure_of(runs), path)


def figure_of(runs: Sequence[Run]) -> Figure:
    """Return the picture: three parts over the same minutes, each with one line per run."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes: Any = figure.subplots(3, 1, sharex=True)
    for run in runs:
        minutes = [tick.at_s / _MINUTE_S for tick in run.ticks]
        axes[0].plot(minutes, [100 * tick.lost / max(tick.demand, 1) for tick in run.ticks], label=run.controller)
        axes[1].plot(minutes, [tick.overloaded for tick in run.ticks], label=run.controller)
        axes[2].step(minutes, _running([tick.acts for tick in run.ticks]), where="post", label=run.controller)
    for axis, label in zip(axes, ("lost, % of demand", "PoPs above capacity", "flips so far"), strict=True):
        axis.set_ylabel(label)
        axis.grid(visible=True, alpha=0.3)
    axes[2].set_yscale("symlog")
    axes[2].set_xlabel("minutes")
    axes[0].set_title(f"{runs[0].scenario.name}, seed {runs[0].scenario.seed}")
    axes[0].legend(loc="upper right")
    return figure


def _running(values: Sequence[int]) -> list[int]:
    found, total = [], 0
    for value in values:
        total += value
        found.append(total)
    return found
