"""Scenario files: good ones become values, bad ones a list of everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from topology import scenario_file
from topology.errors import TopologyError
from topology.scenario import Crowd, Diurnal, EventKind

SHIPPED = Path(__file__).parents[2] / "data" / "topology" / "scenarios"
HEAD = 'name = "x"\nduration = "1h"\ntick = "60s"\n[fleet]\npops = 3\n'
EVENT = '[[event]]\nkind = "partition"\nat = "1m"\n'


def load(folder: Path, text: str) -> scenario_file.Scenario:
    file = folder / "s.toml"
    file.write_text(text, encoding="utf-8")
    return scenario_file.load(file)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(TopologyError) as found:
        load(folder, text)
    return [str(one).removeprefix(f"{folder}/") for one in found.value.problems]


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.toml")), ids=lambda file: file.stem)
def test_every_shipped_scenario_can_be_read(file: Path) -> None:
    assert scenario_file.load(file).name == file.stem


def test_a_scenario_has_what_its_file_says_and_defaults_for_the_rest(tmp_path: Path) -> None:
    text = HEAD + (
        "[diurnal]\namplitude = 0.25\n"
        '[[crowd]]\nregion = "europe"\nfrom = "5m"\nuntil = "30m"\nrise = 1.2\n'
        '[[event]]\nkind = "pop-failure"\nat = "90s"\npops = ["pop002"]\n'
    )
    found = load(tmp_path, text)
    assert (found.seed, found.ticks, found.sites.upstreams) == (1, 60, 3)
    assert found.diurnal == Diurnal(amplitude=0.25)
    assert found.crowds == (Crowd(region="europe", from_s=300.0, until_s=1800.0, rise=1.2),)
    (event,) = found.events
    assert (event.kind, event.at_s, event.until_s) == (EventKind.POP_FAILURE, 90.0, 3600.0)


def test_all_problems_are_listed_with_line_and_key_path(tmp_path: Path) -> None:
    text = HEAD + (
        '[[event]]\nkind = "pop-failure"\nat = "-5m"\npops = ["pop009"]\n'
        '[[event]]\nkind = "meteor"\nat = "2h"\nlargest = 9\n'
        '[[crowd]]\nregion = "atlantis"\nfrom = "20m"\nuntil = "10m"\nrise = "much"\n'
        "[telemetry]\nnoise = 3\nspeed = 1\n"
    )
    assert problems(tmp_path, text) == [
        "s.toml:8: event[0].at: is in the past: the scenario begins at 0s",
        "s.toml:9: event[0].pops: no PoP is named 'pop009'",
        f"s.toml:11: event[1].kind: 'meteor' is none of {', '.join(EventKind)}",
        "s.toml:12: event[1].at: is after the end of the scenario",
        "s.toml:13: event[1].largest: 9 is not a whole number of 1..3",
        "s.toml:15: crowd[0].region: 'atlantis' is none of africa, asia-pacific, europe, latin-america, north-america",
        "s.toml:17: crowd[0].until: is not after 'from'",
        "s.toml:18: crowd[0].rise: 'much' is not a number of -1..100",
        "s.toml:20: telemetry.noise: 3 is not a number of 0..0.5",
        "s.toml:21: telemetry.speed: is not known here",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["s.toml: name is missing", "s.toml: duration is missing", "s.toml: tick is missing", "s.toml: fleet"]),
        ("name = \n", ["s.toml:1: is no TOML"]),
        (HEAD.replace("60s", "2h"), ["s.toml:3: tick: gives not between 1"]),
        (HEAD.replace('"1h"', "3600"), ["s.toml:2: duration: 3600 is no duration"]),
        (HEAD.replace("pops = 3", "pops = 0"), ["s.toml:5: fleet.pops: 0 is not a whole number"]),
        (HEAD + 'file = "none.json"\n', ["s.toml:5: fleet.pops: says nothing", "s.toml:6: fleet.file:"]),
        (HEAD + "[network]\ndamping_reuse = 3000\n", ["s.toml:7: network.damping_reuse: is not below"]),
        (HEAD + '[network]\nannounce = ["9s", "5s"]\n', ["s.toml:7: network.announce: is not two durations"]),
        (HEAD + '[[event]]\nkind = "partition"\nat = "1m"\n', ["s.toml:6: event[0]: befalls nobody"]),
        (
            HEAD + '[[event]]\nkind = "pop-failure"\nat = "1m"\nupstream = 7\n',
            ["s.toml:6: event[0]: an upstream goes with"],
        ),
        (
            HEAD.replace("pops = 3", f"pops = 3\nusers = {2**40}")
            + '[[crowd]]\nregion = "europe"\nfrom = "1m"\nuntil = "9m"\nrise = 100\n' * 2,
            ["s.toml:16: crowd[1].rise: brings up to 1.12e+16 users, more than"],
        ),
        (HEAD + EVENT + "pops = []\n", ["s.toml:9: event[0].pops: befalls nobody"]),
        (
            HEAD + EVENT + 'pops = ["pop001"]\nlargest = 1\n',
            ["s.toml:6: event[0]: says twice whom it befalls: pops, largest"],
        ),
        (
            HEAD + EVENT + 'largest = 1\nregion = "europe"\n',
            ["s.toml:6: event[0]: says twice whom it befalls: largest, region"],
        ),
        (HEAD + "[event]\nat = 1\n", ["s.toml:6: event: is not an array of tables"]),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = problems(tmp_path, text)
    assert [one.startswith(start) for one, start in zip(found, expected, strict=True)] == [True] * len(expected), found


def test_a_fleet_with_a_capacity_of_zero_is_refused_with_the_line_of_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text(
        '{"asn": 1, "pops": [{"name": "a", "region": "europe",\n'
        '"capacity": {"sessions": 0, "bit_s": 1, "handshakes_s": 1}, "sessions": [{"upstream": 2}]}]}',
        encoding="utf-8",
    )
    text = 'name = "x"\nduration = "1h"\ntick = "60s"\n[fleet]\nfile = "fleet.json"\n'
    found = problems(tmp_path, text)
    assert found == [f"fleet.json:2: pops[0].capacity.sessions: 0 is not a whole number of 1..{2**40}"]


def own(folder: Path, *lines: str) -> str:
    """Write a fleet of two PoPs, with room for 3,000 sessions in all, and return the head of a scenario about it."""
    capacity = '"capacity": {"sessions": 1500, "bit_s": 1000000000, "handshakes_s": 50}'
    pops = (f'{{"name": "{name}", "region": "here", {capacity}, "sessions": [{{"upstream": 2}}]}}' for name in "ab")
    (folder / "fleet.json").write_text(f'{{"asn": 1, "pops": [{", ".join(pops)}]}}', encoding="utf-8")
    for name in ("demand", "measured"):
        (folder / f"{name}.csv").touch()
    return "\n".join(['name = "x"\nduration = "1h"\ntick = "60s"\n[fleet]\nfile = "fleet.json"', *lines, ""])


def test_a_fleet_of_ones_own_brings_its_demand_and_what_was_measured(tmp_path: Path) -> None:
    sites = load(tmp_path, own(tmp_path, 'demand = "demand.csv"', 'measured = "measured.csv"')).sites
    assert (sites.demand, sites.measured) == (tmp_path / "demand.csv", tmp_path / "measured.csv")


def test_without_a_figure_a_fleet_of_ones_own_has_half_as_much_again_capacity_as_it_needs(tmp_path: Path) -> None:
    assert load(tmp_path, own(tmp_path)).sites.users == 2000
    assert load(tmp_path, own(tmp_path, "users = 7")).sites.users == 7
    assert load(tmp_path, own(tmp_path).replace('file = "fleet.json"', "pops = 2")).sites.users == 1_000_000


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['demand = "none.csv"'], "s.toml:6: fleet.demand: {folder}/none.csv is no file"),
        (['demand = "demand.csv"', "users = 7"], "s.toml:7: fleet.users: says nothing beside a demand"),
        (["measured = 7"], "s.toml:6: fleet.measured: 7 is not a name"),
    ],
)
def test_what_is_wrong_with_the_demand_of_a_fleet_is_named(tmp_path: Path, lines: list[str], expected: str) -> None:
    assert problems(tmp_path, own(tmp_path, *lines))[0] == expected.format(folder=tmp_path)


@pytest.mark.parametrize("key", ["demand", "measured"])
def test_a_made_fleet_takes_no_demand(tmp_path: Path, key: str) -> None:
    text = own(tmp_path, f'{key} = "{key}.csv"').replace('file = "fleet.json"', "pops = 2")
    assert problems(tmp_path, text) == [
        f"s.toml:6: fleet.{key}: goes with the file of a fleet; one that is made is made for its own users"
    ]


def test_a_fleet_with_more_room_than_can_be_counted_needs_a_figure(tmp_path: Path) -> None:
    text = own(tmp_path)
    fleet = tmp_path / "fleet.json"
    fleet.write_text(fleet.read_text(encoding="utf-8").replace("1500", str(2**40)), encoding="utf-8")
    assert problems(tmp_path, text) == [
        f"s.toml:5: fleet.file: has room for {2**41} sessions, and the model counts up to {2**40}: give users"
    ]
    assert load(tmp_path, text + "users = 9\n").sites.users == 9


def test_a_file_that_is_not_there_is_a_problem_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read"):
        scenario_file.load(tmp_path / "none.toml")
