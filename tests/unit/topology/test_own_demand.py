"""A scenario about a fleet of one's own, with demand of its own and with what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from popctl.cli.main import run as popctl
from topology import caida, scenario_file
from topology.attach import attach
from topology.demand import Profile, load_measured
from topology.engine import engine_named
from topology.errors import TopologyError
from topology.flat import compile_links
from topology.model import Model
from topology.simulation.build import Stage, play, stage_of
from topology.simulation.ladder import plain_ladder
from topology.simulation.ladder_plan import LadderPlanner
from topology.simulation.record import Run
from topology.simulation.routing import Routing

INTERNET = """\
# region|west|11 30
# region|east|21
1|10|-1
1|20|-1
10|11|-1
20|21|-1
10|30|-1
20|30|-1
"""
"""PoP a is at 10, PoP b at 20; 30 is a client of both, and nearer to a."""
SCENARIO = """\
name = "own"
duration = "40m"
tick = "60s"
[internet]
file = "i.txt"
[network]
damping_share = 0.0
[telemetry]
noise = 0.0
[fleet]
file = "f.json"
demand = "d.csv"
"""
GONE = '[[event]]\nkind = "pop-failure"\nat = "5m"\nuntil = "15m"\npops = ["b"]\n'


def stage(folder: Path, *, demand: str, measured: str = "", more: str = "") -> Stage:
    capacity = {"sessions": 1000, "bit_s": 10**9, "handshakes_s": 50}
    pops = [
        {"name": name, "region": region, "capacity": capacity, "sessions": [{"upstream": asn}]}
        for name, region, asn in (("a", "west", 10), ("b", "east", 20))
    ]
    fleet = {"name": "own", "asn": 99, "regions": {"west": [0, 0], "east": [0, 90]}, "pops": pops}
    (folder / "i.txt").write_text(INTERNET, encoding="utf-8")
    (folder / "f.json").write_text(json.dumps(fleet), encoding="utf-8")
    (folder / "d.csv").write_text(demand, encoding="utf-8")
    text = SCENARIO
    if measured:
        (folder / "m.csv").write_text(measured, encoding="utf-8")
        text += 'measured = "m.csv"\n'
    (folder / "s.toml").write_text(text + more, encoding="utf-8")
    return stage_of(scenario_file.load(folder / "s.toml"), engine="numpy")


def carried(run: Run, tick: int) -> list[int]:
    """Return the sessions of both PoPs, each of which has room for 1,000."""
    return [round(1000 * one) for one in run.utilisation[tick]]


def test_the_demand_is_that_of_the_file(tmp_path: Path) -> None:
    run = play(stage(tmp_path, demand="asn,sessions\n11,100\n21,200\n30,400\n77,5\n"), "none")
    assert {tick.demand for tick in run.ticks} == {700}
    assert carried(run, 0) == [500, 200]
    assert run.outside == 5


def test_what_a_session_costs_is_what_the_fleet_says(tmp_path: Path) -> None:
    """400 sessions of 5 Mbit/s each are twice what the links of a PoP carry."""
    made = stage(tmp_path, demand="asn,sessions\n11,400\n")
    document = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    document["profile"] = {"bit_s_per_session": 5_000_000}
    assert play(made, "none").lost_share == 0
    (tmp_path / "f.json").write_text(json.dumps(document), encoding="utf-8")
    costly = stage_of(scenario_file.load(tmp_path / "s.toml"), engine="numpy")
    assert play(costly, "none").lost_share == pytest.approx(0.5)


def test_who_was_seen_at_a_pop_is_there_until_it_goes_and_again_when_it_is_back(tmp_path: Path) -> None:
    found = stage(
        tmp_path,
        demand="asn,sessions\n11,100\n21,200\n30,400\n",
        measured="asn,pop,sessions\n30,b,300\n",
        more=GONE,
    )
    run = play(found, "none", judged=True)
    assert carried(run, 0) == [100, 500]
    assert carried(run, 12) == [600, 0]
    assert carried(run, 39) == [100, 500]
    assert run.exact
    assert all(tick.conserved for tick in run.ticks)


def test_a_measurement_that_the_model_cannot_explain_holds_as_long_as_routes_are_as_they_were(tmp_path: Path) -> None:
    """11 has no way to b that the model knows; when its routes have changed and changed back, it was measured still."""
    gone = GONE.replace('"b"', '"a"')
    found = stage(tmp_path, demand="asn,sessions\n21,200\n11,1\n", measured="asn,pop,sessions\n11,b,300\n", more=gone)
    run = play(found, "none")
    assert (carried(run, 0), carried(run, 39)) == ([0, 500], [0, 500])
    assert run.exact


def test_popctl_plans_with_what_was_measured(tmp_path: Path) -> None:
    found = stage(
        tmp_path,
        demand="asn,sessions\n11,100\n21,700\n30,400\n",
        measured="asn,pop,sessions\n30,b,500\n",
        more='[[crowd]]\nregion = "east"\nfrom = "2m"\nuntil = "39m"\nrise = 0.1\n',
    )
    run = play(found, "popctl", judged=True)
    assert run.acts
    assert run.acts[0].pop == "b"
    assert carried(run, 0) == [100, 1200]
    assert carried(run, 38) == [600, 770]
    assert run.exact


@pytest.mark.parametrize(
    ("demand", "measured", "expected"),
    [
        ("asn,sessions\n11,many\n", "", "d.csv:2: sessions: 'many' is not a whole number of"),
        ("asn,sessions\n11,1\n", "asn,pop,sessions\n11,z,1\n", "m.csv:2: no PoP is named 'z'"),
    ],
)
def test_a_bad_row_is_named_by_its_file_and_line(tmp_path: Path, demand: str, measured: str, expected: str) -> None:
    with pytest.raises(TopologyError) as caught:
        stage(tmp_path, demand=demand, measured=measured)
    assert str(caught.value).startswith(f"{tmp_path}/{expected}")


def test_a_crowd_that_brings_more_than_can_be_counted_is_named_when_the_demand_is_known(tmp_path: Path) -> None:
    crowd = '[[crowd]]\nregion = "east"\nfrom = "2m"\nuntil = "9m"\nrise = 100\n'
    with pytest.raises(TopologyError) as caught:
        stage(tmp_path, demand=f"asn,sessions\n21,{2**40}\n", more=crowd * 2)
    assert str(caught.value) == (
        f"{tmp_path}/s.toml:22: crowd[1].rise: brings up to 1.12e+16 users, more than the 1.13e+15 that are counted"
    )


def test_the_command_says_how_many_sessions_are_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage(tmp_path, demand="asn,sessions\n11,100\n77,5\n")
    assert popctl(["simulate", str(tmp_path / "s.toml"), "--engine", "numpy"]) == 0
    assert "5 sessions of ASes that the AS graph does not have are left out" in capsys.readouterr().out
    assert popctl(["simulate", str(tmp_path / "s.toml"), "--engine", "numpy", "--json"]) == 0
    assert [run["outside"] for run in json.loads(capsys.readouterr().out)["seeds"][0]["runs"]] == [5, 5]


def test_a_ladder_is_not_planned_for_those_whom_a_step_would_not_move(tmp_path: Path) -> None:
    """11 is at b, which the model cannot explain; to tell b's upstreams less changes nothing for it."""
    links = INTERNET + "1|40|-1\n"
    found = stage(tmp_path, demand="asn,sessions\n11,1\n", measured="asn,pop,sessions\n11,b,900\n")
    fleet = found.model.attachment.fleet
    more = replace(fleet.sessions[1], name="b-as40", upstream=40)
    ample = replace(fleet.pops[0], capacity=replace(fleet.pops[0].capacity, sessions=9000))
    (tmp_path / "i.txt").write_text(links, encoding="utf-8")
    sites = replace(fleet, pops=(ample, fleet.pops[1]), sessions=(*fleet.sessions, more))
    attachment = attach(compile_links(caida.load(tmp_path / "i.txt")), sites)
    demand = load_measured(tmp_path / "m.csv", attachment.graph, sites)
    model = Model(attachment, engine_named("numpy"))
    planner = LadderPlanner(Routing(model, demand, sites.plan()), Profile(), prepend=3, error=0.05)
    assert planner.ladder(1) == plain_ladder([20, 40])
