"""The closed loop on small Internets: golden digests, faults one by one, and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from popctl.cli.main import run as popctl
from popctl.model.playbook import StepKey
from popctl.wire import playbook as wire
from topology import scenario_file
from topology.attach import attach
from topology.bounds import MOST_BIT_S, MOST_HANDSHAKES_S, MOST_SESSIONS
from topology.controllers import DoNothing, GuardedStrikes, Seen, ThreeStrikes
from topology.controllers_popctl import Popctl
from topology.demand import Profile
from topology.errors import TopologyError
from topology.fleet import Capacity
from topology.generate import REGIONS
from topology.model import Model
from topology.scenario import Crowd, Event, EventKind, Internet, Network, Scenario, Sites, Telemetry
from topology.simulation import report
from topology.simulation.build import CONTROLLERS, Stage, play, stage_of
from topology.simulation.record import Run
from topology.simulation.run import Simulation
from topology.simulation.streams import Streams
from topology.simulation.verdicts import Invariant, judge
from topology.simulation.world import World

SHIPPED = Path(__file__).parents[2] / "data" / "topology" / "scenarios"
GOLDEN = json.loads((SHIPPED / "golden.json").read_text(encoding="utf-8"))
QUIET = Scenario(
    name="quiet",
    seed=5,
    duration_s=1800.0,
    tick_s=60.0,
    internet=Internet(ases=400),
    sites=Sites(pops=8, upstreams=2, users=20_000),
    network=Network(damping_share=0.0),
    telemetry=Telemetry(noise=0.0),
)


def played(scenario: Scenario, controller: str = "popctl") -> Run:
    return play(stage_of(scenario, engine="numpy"), controller, judged=True)


def crowd(rise: float) -> Crowd:
    return Crowd(region="europe", from_s=300.0, until_s=1500.0, rise=rise)


def shipped(name: str) -> Scenario:
    """Return a shipped scenario; of those that take long, one that has the same in small."""
    scenario = scenario_file.load(SHIPPED / f"{name}.toml")
    match name:
        case "flash-crowd":
            smaller = replace(scenario.internet, ases=2000), replace(scenario.sites, pops=30)
        case "day":
            scenario = replace(scenario, tick_s=300.0)
            smaller = replace(scenario.internet, ases=2000), replace(scenario.sites, pops=40)
        case _:
            return scenario
    return replace(scenario, internet=smaller[0], sites=smaller[1])


def test_every_shipped_scenario_has_golden_digests() -> None:
    assert {path.stem for path in SHIPPED.glob("*.toml")} == set(GOLDEN)


@pytest.mark.parametrize("engine", ["numpy", "auto"])
@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_shipped_scenario_has_its_golden_digests_whatever_the_engine(name: str, engine: str) -> None:
    stage = stage_of(shipped(name), engine=engine)
    assert {one: play(stage, one).digest for one in CONTROLLERS} == GOLDEN[name]


def test_neither_the_hash_seed_nor_the_process_changes_anything_that_is_told() -> None:
    """Sets and strings are ordered differently with every hash seed; a simulation must not see it."""
    scenario = str(SHIPPED / "small-faults.toml")
    command = [sys.executable, "-m", "popctl.cli.main", "simulate", scenario, "--engine", "numpy", "--json"]
    told = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=False, timeout=100
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    runs = json.loads(told.pop())["seeds"][0]["runs"]
    assert {run["controller"]: run["digest"] for run in runs} == {
        name: GOLDEN["small-faults"][name] for name in ("none", "popctl")
    }


def test_an_upstream_that_no_pop_has_is_a_problem_before_anything_runs() -> None:
    event = Event(kind=EventKind.UPSTREAM_FAILURE, at_s=0.0, until_s=60.0, upstream=4_199_999_999)
    with pytest.raises(TopologyError, match=r"event\[0\].upstream: no PoP has a session with AS 4199999999"):
        stage_of(replace(QUIET, events=(event,)))


def test_a_fault_that_befalls_nobody_is_a_problem_before_anything_runs() -> None:
    few = replace(QUIET, sites=Sites(pops=2, upstreams=1, users=20_000))
    other = stage_of(few, engine="numpy").model.attachment.fleet.sessions[1].upstream
    span = {"at_s": 0.0, "until_s": 60.0}
    faults = (
        Event(kind=EventKind.PARTITION, region="africa", **span),
        Event(kind=EventKind.UPSTREAM_FAILURE, pops=("pop001",), upstream=other, **span),
        Event(kind=EventKind.UPSTREAM_FAILURE, pops=("pop002",), upstream=other, **span),
    )
    with pytest.raises(TopologyError) as caught:
        stage_of(replace(few, events=faults))
    assert str(caught.value).splitlines() == [
        "quiet: event[0].region: no PoP is in 'africa'",
        f"quiet: event[1].upstream: none of its PoPs has a session with AS {other}",
    ]


def test_what_only_the_graph_knows_is_reported_with_the_line_of_the_scenario(tmp_path: Path) -> None:
    (tmp_path / "i.txt").write_text("# region|here|1 2\n1|2|-1\n", encoding="utf-8")
    (tmp_path / "f.json").write_text(
        '{"asn": 9, "pops": [{"name": "a", "region": "here",\n'
        '"capacity": {"sessions": 1, "bit_s": 1, "handshakes_s": 1}, "sessions": [{"upstream": 1}]}]}',
        encoding="utf-8",
    )
    file = tmp_path / "s.toml"
    file.write_text(
        'name = "s"\nduration = "20m"\ntick = "60s"\n[internet]\nfile = "i.txt"\n[fleet]\nfile = "f.json"\n'
        '[[crowd]]\nregion = "there"\nfrom = "5m"\nuntil = "9m"\nrise = 1.0\n'
        '[[event]]\nkind = "upstream-failure"\nat = "1m"\nupstream = 7\n',
        encoding="utf-8",
    )
    with pytest.raises(TopologyError) as caught:
        stage_of(scenario_file.load(file))
    assert str(caught.value).splitlines() == [
        f"{file}:9: crowd[0].region: 'there' is none of the AS graph's: here",
        f"{file}:16: event[0].upstream: no PoP has a session with AS 7",
    ]


def test_no_fleet_is_made_on_a_graph_that_names_no_regions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CAIDA's own files have none."""
    (tmp_path / "i.txt").write_text("# source\n1|2|-1\n1|3|-1\n", encoding="utf-8")
    file = tmp_path / "s.toml"
    file.write_text(
        'name = "s"\nduration = "20m"\ntick = "60s"\n[internet]\nfile = "i.txt"\n[fleet]\npops = 5\n', encoding="utf-8"
    )
    assert popctl(["simulate", str(file)]) == 1
    assert capsys.readouterr().err.lstrip() == (  # a progress bar may have begun a line
        f"{file}:5: internet.file: names no regions, so no PoP can be placed: add lines `# region|NAME|ASN ASN ...` to "
        "it, or give a [fleet] file\n"
    )


def test_the_largest_figures_of_all_are_counted_exactly() -> None:
    """Capacities, users and crowds at their bounds, amid a fault that makes many wait: nothing leaves 64 bits."""
    ample = Capacity(sessions=MOST_SESSIONS, bit_s=MOST_BIT_S, handshakes_s=MOST_HANDSHAKES_S)
    crowds = tuple(Crowd(region=name, from_s=300.0, until_s=1800.0, rise=100.0) for name in REGIONS)
    fault = Event(kind=EventKind.POP_FAILURE, at_s=600.0, until_s=1500.0, largest=1)
    users = replace(QUIET.sites, users=MOST_SESSIONS)
    still = crowded(stage_of(replace(QUIET, sites=users), engine="numpy"), ample)
    assert [tick.lost for tick in play(still, "none").ticks] == [0] * QUIET.ticks
    loud = replace(QUIET, sites=users, tick_s=300.0, duration_s=2400.0, crowds=crowds, events=(fault,))
    for handshakes_s in (1, MOST_HANDSHAKES_S):
        run = play(crowded(stage_of(loud, engine="numpy"), replace(ample, handshakes_s=handshakes_s)), "none")
        assert all(tick.conserved for tick in run.ticks)
        assert all(0 <= tick.waiting <= tick.lost <= tick.demand for tick in run.ticks)
        assert max(tick.demand for tick in run.ticks) == MOST_SESSIONS * 101
        assert any(tick.moved for tick in run.ticks)


def test_who_waits_leaves_in_proportion_however_many_there_are() -> None:
    """A million users and a million times as many are the same world on another scale."""
    found = []
    for scale in (1, 2**20):
        scenario = replace(QUIET, sites=replace(QUIET.sites, users=2**20 * scale), crowds=(crowd(50.0),))
        upstream = stage_of(scenario, engine="numpy").model.attachment.fleet.sessions[0].upstream
        fault = Event(kind=EventKind.UPSTREAM_FAILURE, at_s=600.0, until_s=1200.0, upstream=upstream)
        stage = stage_of(replace(scenario, events=(fault,)), engine="numpy")
        ample = Capacity(sessions=MOST_SESSIONS, bit_s=MOST_BIT_S, handshakes_s=5000 * scale)
        ticks = play(crowded(stage, ample), "none").ticks
        assert any(tick.moved for tick in ticks[10:20])
        found.append([tick.waiting / tick.demand for tick in ticks])
    assert found[0] == pytest.approx(found[1], abs=0.001)


def crowded(stage: Stage, capacity: Capacity) -> Stage:
    """Give every PoP this capacity."""
    fleet, graph = stage.model.attachment.fleet, stage.model.attachment.graph
    same = replace(fleet, pops=tuple(replace(pop, capacity=capacity) for pop in fleet.pops))
    return replace(stage, model=Model(attach(graph, same), stage.model.engine))


AMPLE = Capacity(sessions=MOST_SESSIONS, bit_s=MOST_BIT_S, handshakes_s=MOST_HANDSHAKES_S)


def test_the_tightest_resource_says_who_is_overloaded_and_what_is_lost() -> None:
    """Room for 3,600 sessions is the same whether addresses, bits or handshakes end there."""
    room, profile = 3600, Profile()
    stage = stage_of(replace(QUIET, crowds=(crowd(3.0),)), engine="numpy")
    limits = (
        replace(AMPLE, sessions=room),
        replace(AMPLE, bit_s=room * profile.bit_s_per_session),
        replace(AMPLE, handshakes_s=room // profile.handshake_interval_s),
    )
    by_sessions, by_bits, by_handshakes = (play(crowded(stage, one), "none").ticks for one in limits)
    assert by_bits == by_sessions
    assert any(tick.overloaded for tick in by_sessions)
    assert [tick.overloaded for tick in by_handshakes] == [tick.overloaded for tick in by_sessions]
    # Besides, those who come wait for a handshake.
    assert all(one.lost >= other.lost for one, other in zip(by_handshakes, by_sessions, strict=True))
    assert play(crowded(stage, AMPLE), "none").lost_share == 0


@pytest.mark.parametrize("controller", [name for name in CONTROLLERS if name not in {"none", "popctl"}])
def test_the_controllers_to_compare_with_see_a_full_link_as_they_see_full_addresses(controller: str) -> None:
    room, profile = 3600, Profile()
    stage = stage_of(replace(QUIET, crowds=(crowd(3.0),)), engine="numpy")
    limits = replace(AMPLE, sessions=room), replace(AMPLE, bit_s=room * profile.bit_s_per_session)
    by_sessions, by_bits = (play(crowded(stage, one), controller) for one in limits)
    assert by_sessions.acts
    assert by_bits.acts == by_sessions.acts


def test_another_seed_is_another_world() -> None:
    assert played(QUIET).digest != played(replace(QUIET, seed=6)).digest


def test_without_events_nothing_is_done_and_nothing_is_lost() -> None:
    for controller in CONTROLLERS:
        run = played(QUIET, controller)
        assert not run.acts
        assert run.lost_share == 0


def test_a_dead_pop_loses_its_users_until_the_hold_timer_and_then_they_move() -> None:
    event = Event(kind=EventKind.POP_FAILURE, at_s=300.0, until_s=900.0, largest=1)
    ticks = played(replace(QUIET, events=(event,)), "none").ticks
    before, dead, moved = ticks[4], ticks[5], ticks[8]
    assert before.lost == 0 < dead.lost
    assert dead.announced_pops == before.announced_pops
    assert moved.announced_pops == before.announced_pops - 1
    assert moved.lost < dead.lost
    assert ticks[-1].announced_pops == before.announced_pops
    assert ticks[-1].lost == 0


def test_failures_that_overlap_end_with_the_last_of_them() -> None:
    first = Event(kind=EventKind.POP_FAILURE, at_s=300.0, until_s=900.0, pops=("pop001",))
    second = Event(kind=EventKind.POP_FAILURE, at_s=600.0, until_s=1200.0, pops=("pop001", "pop002"))
    announced = [tick.announced_pops for tick in played(replace(QUIET, events=(first, second)), "none").ticks]
    assert announced[16] == announced[19] == 6
    assert announced[-1] == 8


POP, UPSTREAM = EventKind.POP_FAILURE, EventKind.UPSTREAM_FAILURE


@pytest.mark.parametrize(
    ("faults", "wanted"),
    [
        ([(POP, 5, 25), (UPSTREAM, 2, 10)], [(2, 6, "one"), (7, 24, "all"), (25, 29, "")]),
        ([(UPSTREAM, 2, 25), (POP, 5, 10)], [(2, 6, "one"), (7, 9, "all"), (10, 24, "one"), (25, 29, "")]),
        ([(UPSTREAM, 2, 10), (UPSTREAM, 5, 20)], [(2, 19, "one"), (20, 29, "")]),
        ([(UPSTREAM, 2, 20), (UPSTREAM, 5, 10)], [(2, 19, "one"), (20, 29, "")]),
        ([(POP, 2, 10), (POP, 10, 20)], [(4, 19, "all"), (20, 29, "")]),
        ([(POP, 2, 10), (POP, 9, 20)], [(4, 19, "all"), (20, 29, "")]),
    ],
    ids=["upstream back", "pop back", "first ends", "second ends", "one after the other", "overlapping"],
)
def test_what_a_fault_holds_down_no_other_fault_brings_back(
    faults: list[tuple[EventKind, int, int]], wanted: list[tuple[int, int, str]]
) -> None:
    stage = stage_of(QUIET, engine="numpy")
    fleet = stage.model.attachment.fleet
    own = {index for index, one in enumerate(fleet.sessions) if one.pop == 0}
    upstream = fleet.sessions[min(own)].upstream
    down = {"": set(), "all": own, "one": {index for index in own if fleet.sessions[index].upstream == upstream}}
    events = tuple(
        Event(
            kind=kind,
            at_s=60.0 * start,
            until_s=60.0 * end,
            pops=(fleet.pops[0].name,),
            upstream=upstream if kind is UPSTREAM else None,
        )
        for kind, start, end in faults
    )
    world = World(replace(QUIET, events=events), stage.model, stage.demand, Profile())
    simulation = Simulation(world, DoNothing(fleet, 1))
    found = []
    for number in range(30):
        simulation.tick(number)
        found.append(set(world.unplugged))
    for first, last, what in wanted:
        assert found[first : last + 1] == [down[what]] * (last + 1 - first)


def test_moved_sessions_wait_for_handshakes_and_count_as_lost_meanwhile() -> None:
    event = Event(kind=EventKind.POP_FAILURE, at_s=300.0, until_s=1700.0, largest=2)
    ticks = played(replace(QUIET, events=(event,)), "none").ticks
    assert max(tick.moved for tick in ticks) > 0
    assert any(tick.waiting > 0 for tick in ticks[6:])


def test_a_pop_whose_backends_are_all_dead_withdraws_by_the_core_and_comes_back() -> None:
    event = Event(kind=EventKind.BACKEND_FAILURE, at_s=300.0, until_s=900.0, pops=("pop001",))
    run = played(replace(QUIET, events=(event,)))
    announced = [tick.announced_pops for tick in run.ticks]
    assert announced[4] == announced[-1] == 8
    assert min(announced) == 7
    assert [(one.pop, one.standing) for one in run.health] == [("pop001", "out"), ("pop001", "in")]


def test_probes_that_lie_everywhere_at_once_empty_nothing() -> None:
    event = Event(kind=EventKind.PROBE_FAILURE, at_s=300.0, until_s=900.0, largest=8)
    run = played(replace(QUIET, events=(event,)))
    assert min(tick.announced_pops for tick in run.ticks) == 8


def test_an_upstream_failure_takes_its_sessions_and_gives_them_back() -> None:
    stage = stage_of(QUIET, engine="numpy")
    upstream = stage.model.attachment.fleet.sessions[0].upstream
    event = Event(kind=EventKind.UPSTREAM_FAILURE, at_s=300.0, until_s=900.0, upstream=upstream)
    run = play(replace(stage, scenario=replace(QUIET, events=(event,))), "none")
    assert sum(tick.moved for tick in run.ticks) > 0
    assert run.utilisation[4] == run.utilisation[-1]


@pytest.mark.parametrize("kind", [EventKind.PARTITION, EventKind.TELEMETRY_LOSS])
def test_pops_that_know_nothing_fresh_do_nothing(kind: EventKind) -> None:
    event = Event(kind=kind, at_s=0.0, until_s=1800.0, largest=8)
    run = played(replace(QUIET, crowds=(crowd(3.0),), events=(event,)))
    assert run.lost_share > 0
    assert not run.acts


def test_an_upstream_that_damps_hides_a_pop_that_flaps() -> None:
    wild = replace(
        QUIET, crowds=(crowd(3.0),), network=Network(damping_share=1.0, announce_s=(1.0, 2.0), withdraw_s=(1.0, 2.0))
    )
    assert played(wild, "naive-withdraw").suppressions > 0
    assert played(wild, "popctl").suppressions == 0


def test_three_strikes_does_more_harm_than_doing_nothing_and_its_verdict_says_so() -> None:
    scenario = replace(QUIET, crowds=(crowd(1.5),))
    none, strikes = played(scenario, "none"), played(scenario, "three-strikes")
    assert strikes.lost_share > none.lost_share
    broken = {one.invariant for one in judge(strikes, none) if one.holds is False}
    assert Invariant.NO_HARM in broken


@pytest.mark.parametrize("controller", [ThreeStrikes, GuardedStrikes])
def test_three_strikes_strikes_three_times_after_every_hold_down(controller: type[ThreeStrikes]) -> None:
    fleet = stage_of(QUIET, engine="numpy").model.attachment.fleet
    one = controller(fleet, seed=1, tick_s=60.0)
    levels = []
    for look in range(60):
        still = np.zeros(len(fleet.pops))
        tightness = still.copy()
        tightness[0] = 1.5 if one.levels[0] == 0 else 0.0
        every = np.ones(len(fleet.pops), dtype=bool)
        one.turn(
            Seen(
                now_s=60.0 * look,
                sessions=still,
                bit_s=still,
                handshakes_s=still,
                metered=every,
                connected=every,
                alive=still + 1.0,
                tightness=tightness,
                room=every.astype(np.int64),
            )
        )
        levels.append(one.levels[0])
    up = [len(list(group)) for level, group in groupby(levels) if level == 0]
    assert len(up) >= 4
    # The look that announces has not struck yet; the third strike withdraws.
    assert up[0] == 2
    assert up[1:-1] == [3] * len(up[1:-1])


def test_a_row_of_the_simulated_playbook_says_what_the_step_then_does() -> None:
    stage = stage_of(replace(QUIET, crowds=(crowd(1.5),)), engine="numpy")
    world = World(stage.scenario, stage.model, stage.demand, Profile())
    controller = Popctl(world.fleet, world)
    simulation = Simulation(world, controller)
    simulation.run()
    key = StepKey("pop001", 0, 1)
    assert controller.rows is not None
    (row,) = controller.rows[key]
    names = [pop.name for pop in world.fleet.pops]
    before = world.routing.matrix.copy()
    sessions = [index for index, one in enumerate(world.fleet.sessions) if one.pop == 0]
    plan = list(world.told)
    for index, route in zip(sessions, controller.routes(0, 1), strict=True):
        plan[index] = route
    world.routing.settle(tuple(plan))
    carried = before @ world.factors
    change = world.routing.matrix @ world.factors - carried
    expected = np.zeros(len(names) + 1)
    for flow in row.flows:
        amount = flow.share * carried[names.index(flow.source)]
        expected[names.index(flow.source)] -= amount
        expected[-1 if flow.target is None else names.index(flow.target)] += amount
    assert np.allclose(change, expected, atol=1.0)


def test_the_playbook_and_ladders_of_the_simulation_are_what_an_agent_can_read() -> None:
    stage = stage_of(scenario_file.load(SHIPPED / "small-crowd.toml"), engine="numpy")
    world = World(stage.scenario, stage.model, stage.demand, Profile())
    controller = Popctl(world.fleet, world)
    Simulation(world, controller).run()
    book = controller.playbook
    assert book is not None
    read = wire.decode(wire.encode(book))
    assert (read.ladders, dict(read.steps)) == (book.ladders, dict(book.steps))


def test_streams_depend_on_seed_purpose_entity_and_turn_alone() -> None:
    both, lone = Streams(1, "noise", ["a", "b"]), Streams(1, "noise", ["b"])
    assert both.uniform(7)[1] == lone.uniform(7)[0] == both.one(1, 7)
    everything = {*both.uniform(7), *both.uniform(8), *Streams(2, "noise", ["a"]).uniform(7)}
    assert len({*everything, *Streams(1, "loss", ["a"]).uniform(7)}) == 6
    many = Streams(1, "noise", map(str, range(4000))).uniform(0)
    assert 0.45 < many.mean() < 0.55
    assert many.min() >= 0
    assert many.max() < 1


def test_the_command_compares_and_draws_and_tells_the_timeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "s.toml", tmp_path / "s.svg"
    file.write_text(
        'name = "s"\nduration = "20m"\ntick = "60s"\n[internet]\nases = 300\n[fleet]\npops = 6\nusers = 9000\n'
        '[[crowd]]\nregion = "europe"\nfrom = "5m"\nuntil = "15m"\nrise = 1.0\n',
        encoding="utf-8",
    )
    command = ["simulate", str(file), "--compare", "--repeat", "--seeds", "2", "--json", "--engine", "numpy"]
    code = popctl([*command, "--plot", str(picture)])
    found = json.loads(capsys.readouterr().out)
    assert code in {0, 3}
    assert [row["controller"] for row in found["seeds"][0]["runs"]] == list(CONTROLLERS)
    assert len(found["timelines"][0]["ticks"]) == 20
    assert found["seeds"][1]["verdict"][-1] == {
        "invariant": "determinism",
        "holds": True,
        "text": found["seeds"][1]["verdict"][-1]["text"],
    }
    assert picture.read_text(encoding="utf-8").lstrip().startswith("<?xml")
    first = picture.read_bytes()
    popctl([*command, "--plot", str(picture)])
    assert picture.read_bytes() == first


def test_the_timeline_tells_faults_health_and_what_every_pop_carries() -> None:
    events = (
        Event(kind=EventKind.BACKEND_FAILURE, at_s=300.0, until_s=900.0, pops=("pop001",)),
        Event(kind=EventKind.TELEMETRY_LOSS, at_s=600.0, until_s=1200.0, largest=2, share=0.5),
    )
    run = played(replace(QUIET, events=events))
    told = json.loads(json.dumps(report.timeline(run)))
    failed, deaf = told["faults"]
    assert failed == {
        "kind": "backend-failure",
        "at_s": 300.0,
        "until_s": 900.0,
        "pops": ["pop001"],
        "share": 1.0,
        "upstream": None,
    }
    assert (deaf["kind"], deaf["share"]) == ("telemetry-loss", 0.5)
    loads = {pop: row[0] for pop, row in told["load"].items()}
    assert set(deaf["pops"]) <= set(loads)
    assert len(deaf["pops"]) == 2
    out, back = told["health"]
    assert (out, back) == (
        {"at_s": 300.0, "pop": "pop001", "standing": "out"},
        {"at_s": back["at_s"], "pop": "pop001", "standing": "in"},
    )
    assert back["at_s"] >= 900.0
    assert {len(row) for row in told["load"].values()} == {QUIET.ticks}
    assert [max(row[tick] for row in told["load"].values()) for tick in range(QUIET.ticks)] == [
        tick["hottest"] for tick in told["ticks"]
    ]


def test_the_command_lists_what_is_wrong_with_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.toml"
    file.write_text('name = "s"\nduration = "20m"\ntick = "0s"\n[fleet]\n', encoding="utf-8")
    assert popctl(["simulate", str(file)]) == 1
    assert "s.toml:3: tick:" in capsys.readouterr().err
