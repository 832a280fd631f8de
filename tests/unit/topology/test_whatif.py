"""What-if answers on a small Internet that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.topology import worlds
from tests.unit.topology.worlds import REGIONS, fleet, graph
from topology.announce import Action, Announcement
from topology.attach import attach
from topology.catchment import AtRisk, at_risk, catchment, possible_pops, tied_sets
from topology.demand import NOT_MEASURED, Demand, Profile
from topology.engine import engine_named
from topology.flat import compile_links
from topology.fleet import FAR_KM, Fleet, Place, distance_km
from topology.links import AsLinks
from topology.model import Model
from topology.whatif import Answer, Danger, Finding, Study

# Two upstreams, 10 in the east and 20 in the west, peer with each other. 11 and 21 are their clients, 30 is a client of
# both: for it the two PoPs are tied.
LINKS = graph(
    [(10, 11), (20, 21), (10, 30), (20, 30)],
    [(10, 20)],
    region_of={10: "east", 11: "east", 20: "west", 21: "west", 30: "west"},
)
FLEET = fleet((0, 10), (1, 20), regions=("east", "west"))
PROFILE = Profile(bit_s_per_session=1000, handshake_interval_s=100, reconnect_window_s=10)


def study(
    sessions: dict[int, int], sites: Fleet = FLEET, measured: dict[int, int] | None = None, links: AsLinks = LINKS
) -> Study:
    model = Model(attach(compile_links(links), sites), engine_named("auto"))
    flat = model.attachment.graph
    nodes = [flat.node(asn) for asn in sessions]
    seen = [(measured or {}).get(asn, NOT_MEASURED) for asn in sessions]
    demand = Demand(
        node=np.array(nodes, dtype=np.int32),
        region=flat.region[nodes],
        sessions=np.array(list(sessions.values()), dtype=np.int64),
        measured=np.array(seen, dtype=np.int16),
    )
    return Study(model, demand, PROFILE)


def after(answer: Answer) -> list[int]:
    return [change.after.sessions for change in answer.pops]


def test_withdrawing_a_pop_moves_its_sessions_to_the_other_one() -> None:
    answer = study({11: 100, 21: 200, 30: 50}).withdraw([0])
    assert [change.before.sessions for change in answer.pops] == [100, 250]
    assert after(answer) == [0, 350]
    assert answer.moved == 100
    assert [change.moved_in for change in answer.pops] == [0, 100]
    assert [change.moved_out for change in answer.pops] == [100, 0]
    assert answer.safe


def test_the_farthest_detour_is_the_growth_of_the_way_to_the_pop() -> None:
    answer = study({11: 100, 21: 200}).withdraw([0])
    assert answer.farthest_detour_km == distance_km(REGIONS["east"], REGIONS["west"])


def test_a_tie_goes_to_the_nearest_pop_and_counts_as_uncertain() -> None:
    one = study({11: 100, 21: 200, 30: 50})
    assert [(load.sessions, load.certain) for load in one.load] == [(100, 100), (250, 200)]
    assert at_risk(one.model, one.demand, one.baseline, one.where, most=9) == (
        AtRisk(asn=30, sessions=50, chosen=1, possible=frozenset({0, 1})),
    )


def test_prepending_takes_a_pop_out_of_the_tie() -> None:
    answer = study({11: 100, 21: 200, 30: 50}).prepend(1, 1, upstream=20)
    assert after(answer) == [150, 200]
    assert answer.certain == 350


def test_prepending_towards_another_upstream_changes_nothing() -> None:
    assert after(study({30: 50}).prepend(1, 3, upstream=10)) == [0, 50]


def test_a_newly_overloaded_pop_makes_a_change_unsafe() -> None:
    answer = study({11: 600, 21: 600}).withdraw([0])
    assert answer.findings == (Finding(danger=Danger.NEWLY_OVERLOADED, pop="pop1"),)


def test_more_load_on_an_overloaded_pop_makes_a_change_unsafe() -> None:
    answer = study({11: 100, 21: 1200}).withdraw([0])
    assert answer.findings == (Finding(danger=Danger.MORE_OVERLOADED, pop="pop1"),)


def test_an_overload_that_only_shrinks_is_no_danger() -> None:
    answer = study({11: 100, 21: 1500, 30: 200}).prepend(1, 1)
    assert after(answer) == [300, 1500]
    assert answer.pops[1].utilisation_after > 1
    assert answer.safe


def test_sessions_that_come_back_faster_than_handshakes_make_a_change_unsafe() -> None:
    """980 sessions fit, but coming back within 10 s they ask for 98 handshakes a second beside 10 of settled ones."""
    answer = study({11: 980, 21: 10}).withdraw([0])
    assert answer.pops[1].handshakes_s == 98 + 10
    assert answer.findings == (Finding(danger=Danger.RECONNECT_STORM, pop="pop1"),)


def test_withdrawing_everything_is_unsafe() -> None:
    answer = study({11: 1, 21: 1}).withdraw([0, 1])
    assert answer.unreached_after == 2
    assert answer.findings == (Finding(danger=Danger.NOTHING_ANNOUNCED), Finding(danger=Danger.UNREACHED))


def test_sessions_that_lose_their_pop_are_a_danger_even_if_as_many_find_one() -> None:
    """200 passes nothing on to 201 while pop0's no-export wins there; without it pop1's route reaches 201, not 202."""
    links = graph([(200, 201), (300, 202)], [], region_of=dict.fromkeys((200, 201, 202, 300), "east"))
    hidden, longer = Announcement(no_export=True), Announcement(prepend=1)
    plain = fleet((0, 200), (0, 300), (1, 200))
    told = [
        replace(one, announcement=new)
        for one, new in zip(plain.sessions, (hidden, Announcement(), longer), strict=True)
    ]
    answer = study({201: 100, 202: 100}, replace(plain, sessions=tuple(told)), links=links).withdraw([0])
    assert (answer.unreached_before, answer.unreached_after, answer.lost) == (100, 100, 100)
    assert answer.findings == (Finding(danger=Danger.UNREACHED),)


def test_no_session_is_lost_or_made() -> None:
    one = study({11: 7, 21: 11, 30: 13})
    for answer in [*one.one_down(), *one.two_down(2)]:
        assert sum(after(answer)) + answer.unreached_after == 31


def test_one_and_two_down_ask_about_every_pop_and_pair() -> None:
    one = study({11: 7, 21: 11})
    assert [answer.question for answer in one.one_down()] == ["withdraw pop0", "withdraw pop1"]
    assert [answer.question for answer in one.two_down(5)] == ["withdraw pop0+pop1"]
    assert list(one.two_down(1)) == []


def test_a_measurement_wins_over_the_model() -> None:
    one = study({30: 50}, measured={30: 0})
    assert [load.certain for load in one.load] == [50, 0]


def test_a_measurement_holds_while_its_pop_stays_possible() -> None:
    assert after(study({30: 50}, measured={30: 0}).prepend(0, 1)) == [0, 50]
    assert after(study({30: 50}, measured={30: 0}).withdraw([1])) == [50, 0]
    assert after(study({30: 50}, measured={30: 0}).withdraw([0])) == [0, 50]


def test_a_measurement_that_the_model_cannot_explain_holds_until_something_changes() -> None:
    """11 is a client of 10 only, yet it was seen at the other PoP: the graph lacks something."""
    one = study({11: 50}, measured={11: 1})
    assert [load.sessions for load in one.load] == [0, 50]
    assert after(one.prepend(0, 1)) == [50, 0]


def test_possible_pops_and_tied_sets_agree_with_and_without_action_communities() -> None:
    plain = FLEET.plan()
    bound = (Announcement(actions=(Action(prepend=None, asn=11),)), plain[1])
    for plan in (plain, bound):
        model = Model(attach(compile_links(LINKS), FLEET), engine_named("auto"))
        solution = model.solve(plan)
        bits = tied_sets(model, solution)
        for node in range(len(model.attachment.graph)):
            possible = possible_pops(model, solution, node)
            assert {pop for pop in range(2) if int(bits[node, 0]) >> pop & 1} == possible


def test_an_as_that_is_not_told_has_no_pop() -> None:
    model = Model(attach(compile_links(LINKS), FLEET), engine_named("auto"))
    solution = model.solve((Announcement(actions=(Action(prepend=None, asn=11),)), None))
    assert possible_pops(model, solution, model.attachment.graph.node(11)) == frozenset()
    assert possible_pops(model, solution, model.attachment.graph.node(21)) == {0}


@pytest.mark.parametrize(
    ("region", "wanted"), [("east", 0), ("nowhere", FAR_KM)], ids=["same region", "unknown region"]
)
def test_distances_fall_back_where_places_are_not_known(region: str, wanted: int) -> None:
    assert FLEET.distance_km(region, 0) == wanted


def test_distances_are_great_circles() -> None:
    berlin, sydney = Place(latitude_deg=52.52, longitude_deg=13.40), Place(latitude_deg=-33.87, longitude_deg=151.21)
    assert distance_km(berlin, sydney) == pytest.approx(16_090, rel=0.005)


@settings(max_examples=150, deadline=None)
@given(world=worlds.worlds(worlds.elaborate, count=2), data=st.data())
def test_answers_by_difference_are_those_of_two_separate_sums(world: worlds.World, data: st.DataObject) -> None:
    model = Model(attach(compile_links(world.links), world.fleet), engine_named("auto"))
    count, pops = len(model.attachment.graph), len(world.fleet.pops)
    seen = st.integers(-1, pops - 1)
    demand = Demand(
        node=np.arange(count, dtype=np.int32),
        region=np.where(model.attachment.graph.region < 0, len(model.attachment.graph.regions), 0).astype(np.int16),
        sessions=np.array(data.draw(st.lists(st.integers(0, 99), min_size=count, max_size=count)), dtype=np.int64),
        measured=np.array(data.draw(st.lists(seen, min_size=count, max_size=count)), dtype=np.int16),
    )
    one = Study(model, demand, PROFILE, plan=world.plans[0])
    answer = one.ask("?", world.plans[1])
    plain = Demand(
        node=demand.node,
        region=demand.region,
        sessions=demand.sessions,
        measured=np.full(count, NOT_MEASURED, dtype=np.int16),
    )
    assert sum(after(answer)) + answer.unreached_after == demand.total
    assert sum(change.after.certain for change in answer.pops) == answer.certain
    answer = Study(model, plain, PROFILE, plan=world.plans[0]).ask("?", world.plans[1])
    fresh = Study(model, plain, PROFILE, plan=world.plans[1])
    assert [change.after for change in answer.pops] == list(fresh.load)
    assert answer.unreached_after == fresh.unreached
    assert [change.before.sessions + change.moved_in - change.moved_out for change in answer.pops] == [
        change.after.sessions - int(new)
        for change, new in zip(answer.pops, _newly_reached(one, fresh, plain), strict=True)
    ]


def _newly_reached(one: Study, fresh: Study, demand: Demand) -> list[int]:
    """Sessions per PoP that reached none before, so that they moved in from nowhere."""
    before = catchment(one.model, demand, one.baseline)
    found = [0] * len(one.fleet.pops)
    for atom in range(len(demand.node)):
        if before.pop[atom] < 0 <= fresh.where.pop[atom]:
            found[fresh.where.pop[atom]] += int(demand.sessions[atom])
    return found
