"""The picture of a simulation shows every run: what was lost, who was full, what was done, and when."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from matplotlib import rc_context
from matplotlib.axes import Axes

from popctl.cli.main import run as popctl
from tests.unit.topology.ticks import WELL
from topology.scenario import Internet, Scenario, Sites
from topology.simulation.build import CONTROLLERS
from topology.simulation.plot import figure_of
from topology.simulation.record import Run

SCENARIO = Scenario(name="a day", seed=7, duration_s=180.0, tick_s=60.0, internet=Internet(), sites=Sites())


def run(controller: str, *ticks: tuple[int, int, int]) -> Run:
    """Return a run that lost, overloaded and did so much in its ticks."""
    found = Run(controller=controller, scenario=SCENARIO)
    found.ticks = [
        replace(WELL, demand=200, at_s=60.0 * number, lost=lost, overloaded=overloaded, acts=acts)
        for number, (lost, overloaded, acts) in enumerate(ticks)
    ]
    return found


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Return what is drawn, by label."""
    return {one.get_label(): (list(one.get_xdata()), list(one.get_ydata())) for one in axes.get_lines()}


def test_every_run_has_its_line_in_every_part() -> None:
    minutes = [0.0, 1.0, 2.0]
    figure = figure_of([run("none", (2, 1, 0), (4, 2, 0), (0, 0, 0)), run("ours", (2, 1, 1), (0, 0, 2), (0, 0, 0))])
    lost, overloaded, flips = figure.axes
    assert lines(lost) == {"none": (minutes, [1.0, 2.0, 0.0]), "ours": (minutes, [1.0, 0.0, 0.0])}
    assert lines(overloaded) == {"none": (minutes, [1, 2, 0]), "ours": (minutes, [1, 0, 0])}
    assert lines(flips) == {"none": (minutes, [0, 0, 0]), "ours": (minutes, [1, 3, 3])}


def test_the_picture_says_what_it_shows() -> None:
    figure = figure_of([run("none", (0, 0, 0)), run("ours", (0, 0, 0))])
    assert [axes.get_ylabel() for axes in figure.axes] == ["lost, % of demand", "PoPs above capacity", "flips so far"]
    assert figure.axes[0].get_title() == "a day, seed 7"
    assert figure.axes[-1].get_xlabel() == "minutes"
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["none", "ours"]


def test_the_command_draws_every_controller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, picture = tmp_path / "s.toml", tmp_path / "s.svg"
    file.write_text(
        'name = "s"\nduration = "5m"\ntick = "60s"\n[internet]\nases = 300\n[fleet]\npops = 4\nusers = 9000\n',
        encoding="utf-8",
    )
    with rc_context({"svg.fonttype": "none"}):
        assert popctl(["simulate", str(file), "--compare", "--engine", "numpy", "--plot", str(picture)]) == 0
    capsys.readouterr()
    words = set(re.findall(r">([^<>]+)</text>", picture.read_text(encoding="utf-8")))
    assert {"s, seed 1", *CONTROLLERS} <= words
