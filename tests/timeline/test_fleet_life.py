"""PoPs of a fleet: who may leave when all are in trouble at once, when the store is away, and by force."""

from __future__ import annotations

from pathlib import Path

import pytest

from popctl.agent.journal import Journal
from popctl.agent.replay import replay
from popctl.model.fleet import FloorPolicy
from popctl.model.meter import DaemonDied
from popctl.model.observation import IntentKind
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from tests.timeline.fleet_story import HUNG, REFUSED, FleetStory
from tests.timeline.story import Story

NORMAL, DEPREFERRED, WITHDRAWN = Announce.NORMAL, Announce.DEPREFERRED, Announce.WITHDRAWN


def serving(*names: str, policy: FloorPolicy | None = None, until: float = 30.0) -> FleetStory:
    """A fleet whose PoPs all announce by second 20."""
    fleet = FleetStory(names, policy or FloorPolicy())
    fleet.healthy(begin=0.0, end=until)
    fleet.run_to(20.0)
    assert all(one.now() == (NORMAL, Reason.HEALTHY, False) for one in fleet.pops.values())
    fleet.watched = True
    return fleet


@pytest.mark.parametrize("how", [REFUSED, HUNG])
def test_of_two_pops_that_lose_everything_in_the_same_second_one_keeps_announcing(how: str) -> None:
    fleet = serving("ams", "fra")
    for name in fleet.names:
        fleet.fails_at(name, how, begin=30.0, end=90.0)
    fleet.run_to(90.0)
    assert fleet.least_announcing >= 1
    held = [one for one in fleet.pops.values() if one.announces]
    assert held
    assert all(one.now()[0] is DEPREFERRED and one.now()[2] for one in held), "held, at the lowest preference, alarmed"


def test_a_pop_that_fails_alone_leaves_by_permit_within_a_quarter_of_a_second() -> None:
    fleet = serving("ams", "fra", until=60.0)
    fleet.fails_at("fra", REFUSED, begin=60.0, end=70.0)
    fleet.healthy_at("ams", begin=30.0, end=70.0)
    fleet.run_to(60.25)
    assert fleet.pops["fra"].now() == (WITHDRAWN, Reason.TOO_FEW_BACKENDS, False)
    assert not fleet.pops["fra"].announces
    rungs = [rung for _, rung in fleet.pops["fra"].story.transitions]
    assert rungs == ["withdrawn", "normal", "withdrawn"], "no router heard of anything in between"
    assert fleet.pops["ams"].now()[0] is NORMAL


def test_without_the_store_and_with_all_probes_timing_out_the_fleet_freezes() -> None:
    fleet = serving("ams", "fra", "lon")
    fleet.store_up = False
    for name in fleet.names:
        fleet.fails_at(name, HUNG, begin=30.0, end=120.0)
    fleet.run_to(120.0)
    assert fleet.least_announcing == 3
    for one in fleet.pops.values():
        assert one.now() == (DEPREFERRED, Reason.FLEET_UNREACHABLE, True)


def test_a_pop_that_is_certain_leaves_without_the_store_if_it_took_a_permit_ahead_of_need() -> None:
    fleet = serving("ams", "fra", "lon", until=28.0)
    ready = [name for name, one in fleet.pops.items() if one.ledger.permits()]
    assert len(ready) == 1, "a share of those that the floor can spare"
    fleet.run_to(28.0)
    fleet.store_up = False
    for name in fleet.names:
        fleet.fails_at(name, REFUSED, begin=29.0, end=40.0)
    fleet.run_to(35.0)
    assert fleet.least_announcing == 2
    for name, one in fleet.pops.items():
        assert one.now()[0] is (WITHDRAWN if name in ready else DEPREFERRED)


def test_the_death_of_all_daemons_as_the_kernel_tells_it_is_certain() -> None:
    fleet = serving("ams", "fra", "lon", until=29.0)
    (ready,) = [name for name, one in fleet.pops.items() if one.ledger.permits()]
    fleet.run_to(28.0)
    fleet.store_up = False
    for number in (1, 2):
        fleet.pops[ready].story.happens(28.5, DaemonDied(backend=number, daemon="charon", at=28.5))
    fleet.run_to(28.7)
    assert fleet.pops[ready].now()[0] is WITHDRAWN


def frozen() -> FleetStory:
    """Three of four PoPs turned bad while the store was away. Long after its return a common cause holds them."""
    fleet = serving("ams", "fra", "lon", "par", until=30.0)
    fleet.run_to(28.0)
    fleet.store_up = False
    fleet.healthy_at("par", begin=30.0, end=200.0)
    for name in ("ams", "fra", "lon"):
        fleet.fails_at(name, HUNG, begin=30.0, end=110.0)
    fleet.run_to(40.0)
    fleet.store_up = True
    fleet.run_to(110.0)
    assert fleet.pops["ams"].now() == (DEPREFERRED, Reason.COMMON_CAUSE, True)
    return fleet


def test_a_restart_does_not_end_a_freeze() -> None:
    fleet = frozen()
    carried = fleet.pops["ams"].story.world.view().actual.routes
    fleet.agent_restarts("ams")
    for name in ("ams", "fra", "lon"):
        fleet.fails_at(name, HUNG, begin=110.5, end=200.0)
    fleet.run_to(150.0)
    assert fleet.pops["ams"].now() == (DEPREFERRED, Reason.COMMON_CAUSE, True)
    assert [routes for _, routes in fleet.pops["ams"].story.orders] == [carried]


def test_a_restart_of_a_frozen_fleet_tells_nobody_that_it_is_good() -> None:
    fleet = frozen()
    for name in ("ams", "fra", "lon"):
        fleet.agent_restarts(name)
        fleet.fails_at(name, HUNG, begin=110.5, end=200.0)
    while fleet.now < 120.0:
        fleet.run_to(fleet.now + 0.1)
        for name in ("ams", "fra", "lon"):
            assert not fleet.store.records[name].value.report.services["vpn"].good, f"{name} at {fleet.now}"
    assert fleet.least_announcing == 4


def test_a_pop_that_recovered_while_its_agent_was_away_is_good_as_soon_as_that_is_known() -> None:
    fleet = frozen()
    fleet.agent_restarts("ams")
    fleet.healthy_at("ams", begin=110.5, end=200.0)
    fleet.run_to(120.0)
    assert fleet.pops["ams"].now() == (NORMAL, Reason.HEALTHY, False)
    assert fleet.store.records["ams"].value.report.services["vpn"].good


def test_a_held_pop_that_recovers_is_announced_normally_again() -> None:
    fleet = serving("ams", "fra")
    for name in fleet.names:
        fleet.fails_at(name, HUNG, begin=30.0, end=60.0)
        fleet.healthy_at(name, begin=60.0, end=100.0)
    fleet.run_to(99.0)
    assert all(one.now() == (NORMAL, Reason.HEALTHY, False) for one in fleet.pops.values())


def test_an_order_that_would_empty_the_fleet_is_held_and_force_carries_it_out() -> None:
    fleet = serving("ams", "fra", until=100.0)
    fleet.pops["ams"].story.orders_withdraw(30.0)
    fleet.pops["fra"].story.orders_withdraw(40.0)
    fleet.run_to(45.0)
    assert fleet.pops["ams"].now() == (WITHDRAWN, Reason.OPERATOR_WITHDRAW, False)
    assert fleet.pops["fra"].now() == (DEPREFERRED, Reason.FLEET_FLOOR, True)
    fleet.pops["fra"].story.orders_withdraw(50.0, forced=True)
    fleet.run_to(52.0)
    assert fleet.pops["fra"].now() == (WITHDRAWN, Reason.OPERATOR_WITHDRAW, False)
    assert not fleet.pops["fra"].announces


def test_a_drain_asks_for_its_permit_at_its_beginning_and_stays_drained_while_held() -> None:
    fleet = serving("ams", "fra", until=100.0)
    fleet.pops["ams"].story.orders_withdraw(30.0)
    fleet.pops["fra"].story.orders_withdraw(40.0, drain_s=10.0)
    fleet.run_to(45.0)
    assert fleet.pops["fra"].now() == (Announce.GRACEFUL_SHUTDOWN, Reason.OPERATOR_DRAIN, False)
    assert fleet.pops["fra"].ledger.permits()["vpn"].reason is Reason.FLEET_FLOOR
    fleet.run_to(55.0)
    assert fleet.pops["fra"].now() == (Announce.GRACEFUL_SHUTDOWN, Reason.FLEET_FLOOR, True)
    fleet.pops["ams"].story.takes_back(60.0, IntentKind.WITHDRAW, "vpn")
    fleet.run_to(80.0)
    assert fleet.pops["ams"].now()[0] is NORMAL
    assert fleet.pops["fra"].now() == (WITHDRAWN, Reason.OPERATOR_WITHDRAW, False), "as soon as somebody is back"


def test_a_stop_that_the_floor_forbids_is_held() -> None:
    fleet = serving("ams", "fra", until=100.0)
    for one in fleet.pops.values():
        one.story.stops(40.0)
    fleet.run_to(60.0)
    assert fleet.least_announcing == 1


def test_an_agent_without_a_first_look_at_its_routes_tells_the_fleet_nothing() -> None:
    fleet = FleetStory(("ams",))
    fleet.pops["ams"].story = Story(fleet.pops["ams"].story.pop, connects_at=float("inf"))
    fleet.run_to(5.0)
    assert not fleet.store.records


def test_a_journal_of_a_pop_in_a_fleet_is_decided_again_the_same(tmp_path: Path) -> None:
    fleet = FleetStory(("ams", "fra"))
    story = fleet.pops["fra"].story
    journal = Journal(
        tmp_path / "journal",
        world=story.world,
        config_text="pop: {}",
        source="test",
        wall_clock=lambda: 1.7e9,
        max_bytes=20_000,
    )
    journal.open(0.0)
    story.sinks.append(journal)
    fleet.healthy(begin=0.0, end=30.0)
    for name in fleet.names:
        fleet.fails_at(name, HUNG, begin=30.0, end=40.0)
    fleet.run_to(40.0)
    journal.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 1
    for path in files:
        with path.open(encoding="utf-8") as lines:
            turns = list(replay(lines, lambda _: story.pop))
        assert turns or path.name == "journal", "only the newest may just have been begun"
        assert all(turn.identical for turn in turns)
