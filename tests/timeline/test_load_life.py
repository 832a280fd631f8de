"""Stories of load: ramps with and without room elsewhere, stale meters, flap damping, restarts, permits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from popctl.agent.events import LoadRestored, PlaybookChanged
from popctl.agent.journal import Journal
from popctl.agent.replay import replay
from popctl.model.announce import Announce
from popctl.model.capacity import LoadMemory, LoadPolicy, Policies
from popctl.model.fleet import FloorPolicy, PermitState
from popctl.model.load import LoadSample, Resource
from popctl.model.playbook import DEFAULT_LADDER, Level, PlaybookInForce
from popctl.model.reason import Reason
from tests.pops import SECOND_ROUTER, VIP6, neighbor
from tests.timeline.load_story import POLICIES, LoadFleet, Users, measure, meters, steered, two_backends
from tests.timeline.story import Story

NEAR_A = Users(60.0, {"a": 0.0, "b": 60.0})
MOVABLE = Users(40.0, {"a": 0.0, "b": 10.0})
NEAR_B = Users(10.0, {"a": 90.0, "b": 0.0})
FLOOR_1 = replace(POLICIES, load=replace(POLICIES.load, floor=1))


def _fleet(
    *, room: float = 200.0, playbooks: bool = True, policies: Policies = POLICIES, end: float = 300.0
) -> LoadFleet:
    """PoP a carries 100 of 100; depreferred, 40 of them go to b, which carries 10."""
    fleet = LoadFleet(
        ("a", "b"),
        capacities={"a": 100.0, "b": room},
        users=[NEAR_A, MOVABLE, NEAR_B],
        playbooks=playbooks,
        policies=policies,
    )
    fleet.healthy(begin=0.0, end=end)
    return fleet


def _moves(fleet: LoadFleet) -> list[tuple[str, int, Reason | None]]:
    return [(name, level, reason) for _, name, level, reason in fleet.steps]


def _said(fleet: LoadFleet, name: str = "a") -> tuple[Announce, Reason]:
    announce, reason, _ = fleet.pops[name].now()
    return announce, reason


def test_a_ramp_with_room_next_door_sheds_one_level_and_routers_are_told_once() -> None:
    fleet = _fleet().run_to(20.0)
    assert _said(fleet) == (Announce.DEPREFERRED, Reason.SHED_LOAD)
    fleet.run_to(60.0)
    assert _moves(fleet) == [("a", 1, Reason.SHED_LOAD)]
    assert fleet.landing() == {"a": 60.0, "b": 50.0}
    assert _said(fleet) == (Announce.DEPREFERRED, Reason.NOT_COOL_ENOUGH), "100 would come back to 100"
    assert len(fleet.pops["a"].story.orders) == 3, "nothing, the announce, and its change"


def test_a_ramp_without_room_next_door_moves_nothing_and_says_so() -> None:
    fleet = _fleet(room=55.0).run_to(60.0)
    assert not fleet.steps
    assert _said(fleet) == (Announce.NORMAL, Reason.NO_ROOM)


def test_when_the_ramp_goes_down_load_comes_back_one_step_later_than_it_went() -> None:
    fleet = _fleet().run_to(30.0)
    (shed_at, *_) = fleet.steps[0]
    fleet.users = [replace(NEAR_A, sessions=30.0), replace(MOVABLE, sessions=20.0), NEAR_B]
    fleet.run_to(90.0)
    assert _moves(fleet) == [("a", 1, Reason.SHED_LOAD), ("a", 0, Reason.RECOVERED)]
    assert fleet.steps[1][0] - shed_at >= 3 * POLICIES.load.dwell_s
    assert _said(fleet) == (Announce.NORMAL, Reason.HEALTHY)


def test_without_a_playbook_nothing_is_done_and_the_reason_says_why() -> None:
    fleet = _fleet(playbooks=False).run_to(60.0)
    assert not fleet.steps
    assert _said(fleet) == (Announce.NORMAL, Reason.NO_PLAYBOOK)


def test_a_playbook_that_is_too_old_counts_as_none() -> None:
    policies = replace(POLICIES, gate=replace(POLICIES.gate, playbook_max_age_s=5.0))
    fleet = _fleet(policies=policies).run_to(60.0)
    assert not fleet.steps
    assert _said(fleet) == (Announce.NORMAL, Reason.PLAYBOOK_TOO_OLD)


def test_a_playbook_of_another_fleet_counts_as_none() -> None:
    fleet = _fleet()
    book = replace(fleet.playbook("a"), fleet="another")
    fleet.pops["a"].story.happens(0.5, PlaybookChanged(PlaybookInForce(playbook=book)))
    fleet.run_to(60.0)
    assert not fleet.steps
    assert _said(fleet) == (Announce.NORMAL, Reason.PLAYBOOK_FOREIGN)


def test_without_the_store_a_pop_stays_where_it_is_however_hot() -> None:
    fleet = _fleet().run_to(8.0)
    fleet.store_up = False
    fleet.run_to(60.0)
    assert not fleet.steps
    assert _said(fleet) == (Announce.NORMAL, Reason.FLEET_VIEW_STALE)


def test_meters_that_fall_silent_start_nothing_and_bring_nothing_back() -> None:
    fleet = _fleet().run_to(30.0)
    assert _moves(fleet) == [("a", 1, Reason.SHED_LOAD)]
    fleet.deaf = frozenset("a")
    fleet.users = [replace(NEAR_A, sessions=0.0), replace(MOVABLE, sessions=0.0), NEAR_B]
    fleet.run_to(90.0)
    assert len(fleet.steps) == 1
    assert _said(fleet) == (Announce.DEPREFERRED, Reason.STALE)


def test_a_receiver_whose_meters_are_silent_is_given_nothing() -> None:
    fleet = _fleet()
    fleet.deaf = frozenset("b")
    fleet.run_to(60.0)
    assert not fleet.steps
    assert _said(fleet)[1] in (Reason.RECEIVER_UNKNOWN, Reason.FLEET_VIEW_STALE)


def test_a_restart_in_the_middle_of_a_shed_orders_the_very_same_routes() -> None:
    fleet = _fleet().run_to(30.0)
    story = fleet.pops["a"].story
    routes, memory = story.world.view().actual.routes, story.world.load_memory
    fleet.restart("a", memory)
    fleet.run_to(40.0)
    assert fleet.rung("a") is Announce.DEPREFERRED
    assert [order for _, order in fleet.pops["a"].story.orders] in ([], [routes])


def test_the_other_pops_are_told_load_capacity_and_level() -> None:
    fleet = _fleet().run_to(30.0)
    member = fleet.pops["b"].story.world.view().fleet.members["a"]
    told = member.record.report.load
    assert told is not None
    assert (told.level, told.announcing) == (1, True)
    assert dict(told.capacity) == {"sessions": 100.0}
    assert 60.0 <= told.used["sessions"] < 65.0  # type: ignore[index] - a StrEnum's value


def test_a_pop_that_health_holds_stands_for_the_others_on_the_level_of_its_rung_and_has_no_room() -> None:
    fleet = _fleet(end=13.0)
    fleet.healthy_at("a", begin=13.0, end=60.0)
    fleet.fails_at("b", "hung", begin=13.0, end=60.0)
    fleet.run_to(12.0)
    fleet.pops["a"].story.orders_withdraw(12.5)
    fleet.run_to(40.0)
    assert fleet.pops["b"].now()[2], "the only one left is held"
    told = fleet.pops["a"].story.world.view().fleet.members["b"].record.report.load
    assert told is not None
    assert (told.level, dict(told.capacity)) == (1, dict.fromkeys(told.capacity, 0.0))
    assert dict(told.used) == dict.fromkeys(Resource, 0.0), "nothing, and that is known"


@pytest.mark.parametrize(
    ("room", "said"),
    [
        (200.0, (Announce.WITHDRAWN, Reason.OPERATOR_WITHDRAW)),
        (100.0, (Announce.DEPREFERRED, Reason.CAPACITY_FLOOR)),
    ],
)
def test_a_floor_of_capacity_is_judged_by_what_the_pops_tell_of_themselves(
    room: float, said: tuple[Announce, Reason]
) -> None:
    fleet = LoadFleet(
        ("a", "b"),
        policy=FloorPolicy(minimum_capacity_ratio=1.2),
        capacities={"a": 100.0, "b": room},
        users=[replace(NEAR_A, sessions=100.0), NEAR_B],
        playbooks=False,
    )
    fleet.healthy(begin=0.0, end=60.0)
    fleet.run_to(20.0)
    fleet.pops["a"].story.orders_withdraw(20.5)
    fleet.run_to(25.0)
    assert _said(fleet) == said


def test_a_pop_without_a_living_backend_carries_nothing_that_is_unknown_and_so_others_may_still_leave() -> None:
    fleet = LoadFleet(
        ("a", "b", "c"),
        policy=FloorPolicy(minimum_capacity_ratio=1.2),
        capacities={"a": 100.0, "b": 100.0, "c": 300.0},
        users=[Users(60.0, {"a": 0.0, "b": 60.0, "c": 90.0}), Users(10.0, {"a": 90.0, "b": 0.0, "c": 90.0})],
        playbooks=False,
    )
    for name in ("b", "c"):
        fleet.healthy_at(name, begin=0.0, end=60.0)
    fleet.healthy_at("a", begin=0.0, end=20.0)
    fleet.fails_at("a", "refused", begin=20.0, end=60.0)
    fleet.run_to(30.0)
    assert _said(fleet) == (Announce.WITHDRAWN, Reason.TOO_FEW_BACKENDS)
    fleet.pops["b"].story.orders_withdraw(30.5)
    fleet.run_to(35.0)
    assert _said(fleet, "b") == (Announce.WITHDRAWN, Reason.OPERATOR_WITHDRAW)


def test_orders_and_health_are_never_made_milder_by_load() -> None:
    fleet = _fleet().run_to(30.0)
    story = fleet.pops["a"].story
    story.orders_withdraw(30.5, drain_s=10.0)
    fleet.run_to(35.0)
    assert _said(fleet) == (Announce.GRACEFUL_SHUTDOWN, Reason.OPERATOR_DRAIN)
    fleet.run_to(60.0)
    assert _said(fleet) == (Announce.WITHDRAWN, Reason.OPERATOR_WITHDRAW)
    assert len(fleet.steps) == 1


def _withdrawing(*, end: float = 300.0) -> LoadFleet:
    """PoP a is far too full, and only a withdraw helps; b and c can take all of it."""
    users = [
        Users(150.0, {"a": 0.0, "b": 100.0, "c": 300.0}),
        Users(150.0, {"a": 0.0, "b": 300.0, "c": 100.0}),
        Users(40.0, {"a": 300.0, "b": 0.0, "c": 300.0}),
        Users(40.0, {"a": 300.0, "b": 300.0, "c": 0.0}),
    ]
    fleet = LoadFleet(
        ("a", "b", "c"),
        capacities={"a": 200.0, "b": 400.0, "c": 400.0},
        users=users,
        ladder=(DEFAULT_LADDER[0], DEFAULT_LADDER[3]),
    )
    fleet.healthy(begin=0.0, end=end)
    return fleet


def test_a_withdraw_for_load_takes_a_permit_first_and_keeps_the_others_from_leaving() -> None:
    fleet = _withdrawing().run_to(18.0)
    assert _said(fleet) == (Announce.WITHDRAWN, Reason.SHED_LOAD)
    fleet.run_to(60.0)
    assert _moves(fleet) == [("a", 1, Reason.SHED_LOAD)]
    permit = fleet.pops["a"].story.world.view().fleet.permits["vpn"]
    assert permit.state is PermitState.HELD


def test_a_withdraw_for_load_that_the_floor_refuses_is_not_made() -> None:
    fleet = _withdrawing()
    fleet.policy = replace(fleet.policy, minimum_announcing=3)
    fleet.__post_init__()
    fleet.healthy(begin=0.0, end=300.0)
    fleet.run_to(60.0)
    assert not fleet.steps
    assert _said(fleet) == (Announce.NORMAL, Reason.NO_PERMIT)
    assert not fleet.pops["a"].now()[2], "nothing is wrong with its health: no alarm"


def test_a_pop_that_load_has_withdrawn_is_back_at_once_when_the_others_do_not_serve_the_floor() -> None:
    fleet = _withdrawing(end=30.0).run_to(25.0)
    assert fleet.rung("a") is Announce.WITHDRAWN
    fleet.healthy_at("a", begin=30.0, end=60.0)
    for name in ("b", "c"):
        # The host is gone: no word, no routes, no record.
        fleet.vanish(name)
    fleet.run_to(40.0)
    assert fleet.rung("a") is Announce.NORMAL
    assert fleet.steps[-1][1:3] == ("a", 0)


def test_a_pop_that_load_has_withdrawn_is_back_when_nobody_can_say_who_serves() -> None:
    fleet = _withdrawing().run_to(25.0)
    fleet.store_up = False
    fleet.run_to(25.0 + fleet.policy.view_age_bound_s - 2.0)
    assert fleet.rung("a") is Announce.WITHDRAWN
    fleet.run_to(25.0 + fleet.policy.view_age_bound_s + 2.0)
    assert fleet.steps[-1][1:3] == ("a", 0)
    assert fleet.rung("a") is Announce.NORMAL


# One PoP alone: what is done without a gate.


def _alone(policies: Policies = FLOOR_1, *, sessions: float = 97.0, end: float = 120.0) -> Story:
    story = Story(steered(two_backends(), policies=policies))
    for number in (1, 2):
        story.passes(number, begin=0.0, end=end)
    meters(story, sessions, begin=0.0, end=end)
    return story


def test_up_to_the_floor_a_step_is_taken_without_a_gate_and_never_beyond_it() -> None:
    story = _alone()
    story.expect(60.0, Announce.DEPREFERRED, Reason.NO_PLAYBOOK)
    assert story.world.view().load_state.level == 1
    assert [rung for _, rung in story.transitions] == ["withdrawn", "normal", "depreferred"]


def test_hot_is_not_enough_for_a_step_without_a_gate() -> None:
    story = _alone(sessions=90.0)
    story.expect(60.0, Announce.NORMAL, Reason.NO_PLAYBOOK)


def test_load_is_unknown_and_not_zero_while_one_meter_is_silent() -> None:
    story = _alone()
    story.run_to(30.0)
    bare = Story(story.pop)
    for number in (1, 2):
        bare.passes(number, begin=0.0, end=60.0)
    bare.expect(50.0, Announce.NORMAL, Reason.HEALTHY)
    assert bare.decision is not None
    found = bare.decision.desired.load
    assert found is not None
    assert (found.tightness.at_least, found.tightness.missing) == (0.0, Reason.NOT_YET_KNOWN)


def test_a_backend_that_drains_takes_its_room_along() -> None:
    story = _alone(sessions=70.0)
    story.orders_drain(20.0, "b2")
    story.run_to(25.0)
    assert story.decision is not None
    found = story.decision.desired.load
    assert found is not None
    assert found.tightness.at_least == pytest.approx(0.7), "35 of 50 at the one that is left"


def test_what_all_backends_share_can_be_the_tightest() -> None:
    story = _alone(sessions=70.0)
    story.world.pop = replace(story.pop, capacity={Resource.SESSIONS: 80.0, Resource.BITS: 1e9})
    story.orders_drain(20.0, "b2")
    story.run_to(19.0)
    assert story.decision is not None
    found = story.decision.desired.load
    assert found is not None
    assert found.tightness.at_least == pytest.approx(70 / 80)
    assert found.tightness.missing is Reason.NOT_YET_KNOWN, "what the uplink carries is not told"
    story.run_to(25.0)
    found = story.decision.desired.load
    assert found is not None
    assert found.tightness.at_least == pytest.approx(70 / 80), "who is drained still uses the uplink"


def test_a_backend_that_was_drained_and_switched_off_leaves_the_load_of_the_pop_known() -> None:
    fleet = _fleet(end=20.0)
    story = fleet.pops["b"].story
    story.orders_drain(15.0, "b2")
    fleet.healthy_at("a", begin=20.0, end=60.0)
    story.passes(1, begin=20.0, end=60.0)
    story.refuses(2, begin=20.0, end=60.0)
    fleet.run_to(20.0)
    fleet.deaf = frozenset("b")
    for second in range(20, 40):
        story.happens(float(second), LoadSample(backend=1, at=float(second), used={Resource.SESSIONS: 50.0}))
    fleet.run_to(39.0)
    told = fleet.pops["a"].story.world.view().fleet.members["b"].record.report.load
    assert told is not None
    assert (dict(told.used), dict(told.capacity)) == ({Resource.SESSIONS: 50.0}, {Resource.SESSIONS: 100.0})


def test_flap_damping_holds_back_a_change_and_says_when_it_will_be_made() -> None:
    limit = replace(FLOOR_1, damping=replace(FLOOR_1.damping, attributes=500.0, limit=900.0, half_life_s=120.0))
    wild = replace(limit, load=LoadPolicy(floor=1, hot_for_s=1.0, dwell_s=1.0, restore_dwells=1.0, backoff_s=1.0))
    story = Story(steered(two_backends(), policies=wild))
    for number in (1, 2):
        story.passes(number, begin=0.0, end=120.0)
    meters(story, 97.0, begin=0.0, end=20.0)
    meters(story, 5.0, begin=20.0, end=120.0)
    service = story.service(30.0)
    assert (service.announce, service.reason) == (Announce.DEPREFERRED, Reason.FLAP_DAMPING)
    assert service.until is not None
    story.expect(service.until + 1.0, Announce.NORMAL, Reason.HEALTHY)


def test_two_upstreams_are_moved_one_after_the_other() -> None:
    first = Level(name="first", upstreams={65000: Announce.DEPREFERRED})
    ladder = (DEFAULT_LADDER[0], first, DEFAULT_LADDER[1])
    bare = replace(two_backends(), neighbors=(neighbor(), neighbor(SECOND_ROUTER, asn=65001)))
    story = Story(steered(bare, policies=FLOOR_1, ladder=ladder))
    for number in (1, 2):
        story.passes(number, begin=0.0, end=60.0)
    meters(story, 97.0, begin=0.0, end=60.0)
    story.expect(40.0, Announce.DEPREFERRED, Reason.NO_PLAYBOOK)
    assert story.decision is not None
    meds = {key.neighbor: route.med for key, route in story.decision.desired.routes.items() if key.prefix == VIP6}
    assert meds == {neighbor().address: 100, SECOND_ROUTER: 10}


def test_an_unsure_moment_changes_nothing_that_load_has_done() -> None:
    story = Story(steered(two_backends(), policies=FLOOR_1))
    for number in (1, 2):
        story.passes(number, begin=0.0, end=30.0)
        story.passes(number, begin=45.0, end=90.0)
    meters(story, 97.0, begin=0.0, end=90.0)
    story.expect(25.0, Announce.DEPREFERRED, Reason.NO_PLAYBOOK)
    story.expect(40.0, Announce.DEPREFERRED, Reason.HELD_UNKNOWN)
    story.expect(60.0, Announce.DEPREFERRED, Reason.NO_PLAYBOOK)


def test_what_an_agent_forgot_is_not_made_worse_by_a_shorter_ladder() -> None:
    story = _alone(sessions=10.0)
    measure(story, 10.0, 0.0)
    story.run_to(20.0)
    state = replace(story.world.load_memory.state, level=3)
    shorter = steered(two_backends(), policies=FLOOR_1, ladder=DEFAULT_LADDER[:2])
    again = Story(shorter)
    again.happens(0.0, LoadRestored(LoadMemory(state=state)))
    for number in (1, 2):
        again.passes(number, begin=0.0, end=30.0)
    again.run_to(20.0)
    assert again.world.view().load_state.level == 1


def test_a_journal_of_a_pop_that_load_steers_is_decided_again_the_same(tmp_path: Path) -> None:
    fleet = _fleet()
    story = fleet.pops["a"].story
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, world=story.world, config_text="", source="", wall_clock=lambda: 0.0, max_bytes=100_000)
    journal.open(0.0)
    story.sinks.append(journal)
    fleet.run_to(40.0)
    journal.close()
    assert _moves(fleet) == [("a", 1, Reason.SHED_LOAD)]
    files = sorted(tmp_path.iterdir())
    assert len(files) > 1, "a file in the middle begins with all that was known by then"
    for file in files:
        with file.open() as lines:
            turns = list(replay(lines, lambda _: story.pop))
        assert all(turn.identical for turn in turns)
    first = json.loads(path.read_text().splitlines()[0])
    assert first["start"]["view"]["playbook"]["playbook"]["format"] == "popctl-playbook"
