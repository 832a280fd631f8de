"""The playbook that is made is the one that agents read, and its rows are the model's own answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.model.playbook import DEFAULT_LADDER, Level, Playbook, StepKey
from popctl.model.pop import Announce
from popctl.wire import playbook as wire
from tests.unit.topology import worlds
from tests.unit.topology.worlds import fleet, graph
from topology.announce import LocalPref
from topology.attach import attach
from topology.demand import NOT_MEASURED, Demand, Profile
from topology.engine import engine_named
from topology.flat import FlatGraph, compile_links
from topology.fleet import Fleet
from topology.links import NO_REGION, AsLinks
from topology.model import Model
from topology.playbook import BAND, Ladders, ladders_of, playbook_of, rows_of
from topology.simulation.ladder import told
from topology.whatif import Study

# 10 in the east and 20 in the west peer with each other; 11 and 21 are their clients, 30 is a client of both.
LINKS = graph(
    [(10, 11), (20, 21), (10, 30), (20, 30)],
    [(10, 20)],
    region_of={10: "east", 11: "east", 20: "west", 21: "west", 30: "east"},
)
FLEET = replace(fleet((0, 10), (1, 20), regions=("east", "west")), name="two")
DEPREFER, SHUT_DOWN, WITHDRAW = (StepKey("pop0", level, level + 1) for level in range(3))


def study(links: AsLinks, sites: Fleet, sessions: dict[int, int], measured: dict[int, int] | None = None) -> Study:
    model = Model(attach(compile_links(links), sites), engine_named("numpy"))
    return Study(model, demand_of(model.attachment.graph, sessions, measured or {}), Profile())


def demand_of(flat: FlatGraph, sessions: dict[int, int], measured: dict[int, int]) -> Demand:
    nodes = [flat.node(asn) for asn in sessions]
    return Demand(
        node=np.array(nodes, dtype=np.int32),
        region=np.where(flat.region[nodes] == NO_REGION, len(flat.regions), flat.region[nodes]).astype(np.int16),
        sessions=np.array(list(sessions.values()), dtype=np.int64),
        measured=np.array([measured.get(asn, NOT_MEASURED) for asn in sessions], dtype=np.int16),
    )


def made(one: Study, kind: Ladders = Ladders.DEFAULT, levels: tuple[int, ...] = ()) -> Playbook:
    ladders = ladders_of(one, kind)
    rows = rows_of(one, ladders, levels or (0,) * len(ladders))
    return playbook_of(one, ladders, dict(rows), 1_760_000_000.0)


def test_a_step_says_who_goes_where_as_a_share_of_what_the_source_carries() -> None:
    book = made(study(LINKS, FLEET, {11: 100, 21: 200, 30: 300}))
    (depreferred,), (shut_down,) = book.steps[DEPREFER], book.steps[SHUT_DOWN]
    assert depreferred.flows == (("pop0", "pop1", 0.75),)  # 30 takes the shorter path; 11 has no other
    assert shut_down.flows == (("pop0", "pop1", 1.0),)  # 10 itself prefers its peer now
    assert book.steps[WITHDRAW][0].flows == ()
    (back,) = book.steps[StepKey("pop0", 1, 0)]
    assert back.flows == (("pop1", "pop0", 0.6),)


def test_the_error_band_is_wider_where_a_tie_may_decide_otherwise() -> None:
    tied = made(study(LINKS, FLEET, {11: 100, 21: 200, 30: 300})).steps[DEPREFER][0]
    assert tied.error == pytest.approx(BAND.tied)
    sure = made(study(LINKS, FLEET, {11: 100, 21: 200})).steps[SHUT_DOWN][0]
    assert sure.error == pytest.approx(BAND.certain)


def test_rows_assume_the_levels_that_they_were_made_for() -> None:
    book = made(study(LINKS, FLEET, {11: 100, 21: 200, 30: 300}), levels=(0, 1))
    assert book.steps[DEPREFER][0].flows == ()  # 30 is back at pop0's and depreferring both makes them equal
    assert book.steps[SHUT_DOWN][0].when == {"pop1": 1}


def test_a_measurement_that_a_level_made_void_stays_so_on_the_next() -> None:
    """11 was seen at pop1, which the model cannot explain: the first step takes it to pop0, the second to nowhere."""
    links = graph([(10, 11), (20, 21), (40, 41)], [(10, 20), (40, 20), (10, 40)])
    sites = replace(fleet((0, 10), (1, 20), (0, 40), regions=("east", "west")), name="two")
    one = study(links, sites, {11: 100, 21: 100}, measured={11: 1})
    first, second = {10: Announce.DEPREFERRED}, {10: Announce.DEPREFERRED, 40: Announce.DEPREFERRED}
    rungs = [Level(name=str(number), upstreams=told) for number, told in enumerate(({}, first, second))]
    rows = rows_of(one, (tuple(rungs), DEFAULT_LADDER), (0, 0))
    assert rows[StepKey("pop0", 0, 1)][0].flows == (("pop1", "pop0", 0.5),)
    assert rows[StepKey("pop0", 1, 0)][0].flows == (("pop0", "pop1", 1.0),)
    assert rows[StepKey("pop0", 1, 2)][0].flows == rows[StepKey("pop0", 2, 1)][0].flows == ()


@settings(max_examples=100, deadline=None)
@given(world=worlds.worlds(worlds.plain, count=0), data=st.data())
def test_a_step_back_moves_whom_the_step_moved_whatever_was_measured(world: worlds.World, data: st.DataObject) -> None:
    pops = len(world.fleet.pops)
    sessions = {int(asn): data.draw(st.integers(1, 50)) for asn in world.links.asns}
    measured = {asn: data.draw(st.integers(NOT_MEASURED, pops - 1)) for asn in sessions}
    rows = rows_of(study(world.links, world.fleet, sessions, measured), (DEFAULT_LADDER,) * pops, (0,) * pops)
    assert len(dict(rows)) == 6 * pops
    moves = rows.ground.moves
    for key, there in moves.items():
        here = moves[StepKey(key.pop, key.after, key.before)]
        assert there.source.tolist() == here.target.tolist()
        assert there.target.tolist() == here.source.tolist()
        assert there.sessions.tolist() == here.sessions.tolist()


def test_graceful_shutdown_asks_for_the_lowest_preference_and_withdrawn_says_nothing() -> None:
    normal, depreferred, shut_down, withdrawn = (told(level, FLEET.sessions[:1], 3)[0] for level in DEFAULT_LADDER)
    assert normal == FLEET.sessions[0].announcement
    assert depreferred == replace(normal, prepend=3)
    assert shut_down == replace(normal, prepend=3, local_pref=LocalPref.BACKUP)
    assert withdrawn is None


@settings(max_examples=100, deadline=None)
@given(world=worlds.worlds(worlds.plain, count=0), kind=st.sampled_from(Ladders), data=st.data())
def test_what_is_written_for_any_fleet_is_read_back_as_the_same_value(
    world: worlds.World, kind: Ladders, data: st.DataObject
) -> None:
    sessions = {int(asn): data.draw(st.integers(1, 50)) for asn in world.links.asns}
    one = study(world.links, replace(world.fleet, name="drawn"), sessions)
    levels = tuple(data.draw(st.integers(0, 1)) for _ in world.fleet.pops)
    book = made(one, kind, levels)
    assert wire.decode(wire.encode(book)) == book


@settings(max_examples=100, deadline=None)
@given(world=worlds.worlds(worlds.plain, count=0), data=st.data())
def test_the_rows_up_to_withdrawn_move_what_a_withdraw_moves(world: worlds.World, data: st.DataObject) -> None:
    """Three steps in a row end where the what-if answer ends, because shares are of what is there before each."""
    sessions = {int(asn): data.draw(st.integers(1, 50)) for asn in world.links.asns}
    one = study(world.links, world.fleet, sessions)
    names = [pop.name for pop in world.fleet.pops]
    carried: dict[str | None, float] = {
        name: float(load.sessions) for name, load in zip(names, one.load, strict=True)
    } | {None: 0.0}
    book = made(one)
    for level in range(3):
        (row,) = book.steps[StepKey(names[0], level, level + 1)]
        before = dict(carried)
        for flow in row.flows:
            amount = flow.share * before[flow.source]
            carried[flow.source] -= amount
            carried[flow.target] += amount
    for change in one.withdraw([0]).pops:
        assert carried[change.pop] == pytest.approx(change.after.sessions, abs=1e-6)
