"""The books of one PoP: what is written when, and what is believed of what comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from popctl.fleet.ledger import BRIEF_S, Ledger
from popctl.fleet.line import Change, Entry, Snapshot, Write
from popctl.fleet.target import MAX_PINS, Pace
from popctl.model.fleet import FleetView, FleetWish, FloorPolicy, PermitState, Record, Stance
from popctl.model.instant import NEVER
from popctl.model.reason import Reason
from tests.fleet_agents import GOOD, SERVICE, bad, report

POLICY = FloorPolicy(minimum_announcing=1)
PACE = Pace(quiet_s=2.0, refresh_s=10.0)
VPN = frozenset((SERVICE,))


def entry(pop: str, revision: int, stance: Stance = Stance.DUTY, **changed: object) -> Entry:
    record = Record(report=report(pop, replace(GOOD, **changed)), stances={SERVICE: stance})
    return Entry(record=record, created=revision, modified=revision)


def in_region(found: Entry, region: str) -> Entry:
    assert found.record is not None
    return replace(found, record=replace(found.record, report=replace(found.record.report, region=region)))


def snapshot(revision: int, *others: str, fence: int = 0) -> Snapshot:
    return Snapshot(revision=revision, fence=fence, entries={name: entry(name, 2) for name in others})


class Books:
    """PoP `a`, connected at 0 s, with `others` on duty and its own record written at revision 10."""

    def __init__(self, *others: str) -> None:
        self.ledger = Ledger("a", "a-1", POLICY, PACE)
        self.ledger.connected(snapshot(9, *others), asked_at=0.0, now=0.0)
        self.ledger.wish(FleetWish(report=report("a")), 0.0)
        self.write(0.0, 10)

    def write(self, now: float, revision: int) -> Write:
        found = self.ledger.next_write(now)
        assert found is not None
        self.ledger.written(revision, now)
        return found

    def fails(self, now: float) -> None:
        self.ledger.wish(FleetWish(report=report("a", bad(now)), permits=VPN), now)

    def permit(self, now: float = 0.0) -> PermitState | None:
        permit = self.ledger.view(now).permits.get(SERVICE)
        return None if permit is None else permit.state


def test_nothing_is_written_before_the_store_was_read() -> None:
    ledger = Ledger("a", "a-1", POLICY, PACE)
    ledger.wish(FleetWish(report=report("a")), 0.0)
    assert ledger.next_write(0.0) is None
    assert ledger.wake_at() == NEVER


def test_one_write_is_under_way_at_a_time() -> None:
    books = Books("b")
    books.fails(1.0)
    assert books.ledger.next_write(1.0) is not None
    assert books.ledger.next_write(1.0) is None


def test_a_number_waits_for_the_quiet_time_and_a_rung_does_not() -> None:
    books = Books("b")
    books.ledger.wish(FleetWish(report=report("a", replace(GOOD, healthy=1))), 0.5)
    assert books.ledger.next_write(1.9) is None
    assert books.ledger.wake_at() == pytest.approx(2.0)
    books.ledger.wish(FleetWish(report=report("a", replace(GOOD, announced=()))), 1.9)
    found = books.ledger.next_write(1.9)
    assert found is not None
    assert found.record.stance(SERVICE) is Stance.OUT
    assert found.renew_fence
    assert found.fence is None, "a fact is told without asking"


def test_a_quiet_pop_refreshes_its_record() -> None:
    books = Books("b")
    assert books.ledger.next_write(9.9) is None
    assert books.ledger.next_write(10.0) is not None


def test_a_grant_compares_fence_and_those_it_counts_on() -> None:
    books = Books("b", "c")
    books.ledger.changed([Change(revision=11, pop="c"), Change(revision=12, pop=None)], 0.5)
    books.fails(1.0)
    assert books.permit() is PermitState.ASKED
    found = books.write(1.0, 13)
    assert found.record.stance(SERVICE) is Stance.PERMIT
    assert (found.replaces, found.fence, found.renew_fence, found.pins) == (10, 12, True, (("b", 2),))
    assert books.permit() is PermitState.HELD


def test_a_grant_pins_no_more_records_than_a_transaction_may_compare() -> None:
    books = Books(*(f"p{number:03}" for number in range(500)))
    books.fails(1.0)
    assert len(books.write(1.0, 11).pins) == MAX_PINS


def test_a_grant_in_a_large_fleet_pins_those_of_its_own_region_first() -> None:
    """Its region has a floor of its own, and may come last by name."""
    far = {f"p{number:03}": entry(f"p{number:03}", 2) for number in range(500)}
    near = {name: in_region(entry(name, 3), "home") for name in ("y", "z")}
    ledger = Ledger("a", "a-1", FloorPolicy(minimum_per_region={"home": 2}), PACE)
    ledger.connected(Snapshot(revision=9, fence=0, entries={**far, **near}), asked_at=0.0, now=0.0)
    own = replace(report("a", bad(0.0)), region="home")
    ledger.wish(FleetWish(report=own, permits=VPN), 0.0)
    write = ledger.next_write(0.0)
    assert write is not None
    assert len(write.pins) == MAX_PINS
    assert dict(write.pins).items() >= {"y": 3, "z": 3, "p000": 2}.items()


def test_without_room_the_pop_asks_and_stays_on_duty() -> None:
    books = Books()
    books.fails(1.0)
    found = books.write(1.0, 11)
    assert found.record.stance(SERVICE) is Stance.DUTY
    assert found.record.asking == VPN
    assert books.ledger.view(1.0).permits[SERVICE].reason is Reason.FLEET_FLOOR
    books.ledger.changed([Change(revision=12, pop="b", entry=entry("b", 12))], 2.0)
    assert books.permit() is PermitState.ASKED
    assert books.write(2.0, 13).record.stance(SERVICE) is Stance.PERMIT


def test_a_permit_ahead_of_need_asks_nobody_to_make_room() -> None:
    books = Books()
    books.ledger.wish(FleetWish(report=report("a"), permits=VPN, standing=VPN), 1.0)
    found = books.ledger.next_write(11.0)
    assert found is not None
    assert found.record.asking == frozenset()


def test_a_permit_that_is_given_back_is_gone_at_once_and_not_found_again_in_an_old_record() -> None:
    books = Books("b")
    books.fails(1.0)
    books.write(1.0, 11)
    books.ledger.wish(FleetWish(report=report("a")), 2.0)
    assert books.permit() is None
    assert books.ledger.next_write(2.0) is not None
    books.ledger.disconnected("time-out", 2.5)
    books.fails(3.0)
    assert books.permit() is PermitState.ASKED
    own = Record(report=report("a", bad()), stances={SERVICE: Stance.PERMIT})
    before = snapshot(11, "b", fence=11)
    entries = {**before.entries, "a": Entry(record=own, created=10, modified=11)}
    books.ledger.connected(replace(before, entries=entries), asked_at=4.0, now=4.0)
    assert books.permit() is PermitState.ASKED, "the return to duty may still arrive"


def test_a_permit_outlives_the_connection_and_the_lease() -> None:
    books = Books("b")
    books.fails(1.0)
    books.write(1.0, 11)
    books.ledger.disconnected("gone", 1.0)
    assert books.permit() is PermitState.HELD
    books.ledger.connected(snapshot(20, "b"), asked_at=30.0, now=30.0)
    assert books.permit() is PermitState.HELD
    found = books.ledger.next_write(30.0)
    assert found is not None
    assert (found.replaces, found.record.stance(SERVICE)) == (0, Stance.PERMIT)


def test_a_fence_that_was_not_compared_is_not_known() -> None:
    """Somebody may have left just before; that has to come by the watch."""
    books = Books("b", "c")
    books.ledger.wish(FleetWish(report=report("a", replace(GOOD, announced=()))), 1.0)
    books.write(1.0, 15)
    books.fails(2.0)
    found = books.ledger.next_write(2.0)
    assert found is not None
    assert found.fence == 0


def test_a_refusal_brings_what_is_there() -> None:
    books = Books("b")
    books.fails(1.0)
    assert books.ledger.next_write(1.0) is not None
    left = {"b": entry("b", 12, Stance.PERMIT), "a": entry("a", 10)}
    books.ledger.refused(Snapshot(revision=12, fence=12, entries=left), now=1.1)
    assert books.permit() is PermitState.REFUSED


def test_a_refusal_that_is_older_than_the_watch_brings_nothing_back() -> None:
    books = Books("b")
    books.fails(1.0)
    assert books.ledger.next_write(1.0) is not None
    books.ledger.changed([Change(revision=14, pop="b")], 1.1)
    books.ledger.refused(Snapshot(revision=13, fence=0, entries={"b": entry("b", 2)}), now=1.2)
    assert "b" not in books.ledger.view(1.2).members


def test_events_that_are_older_than_a_refusal_bring_nobody_back() -> None:
    """The refusal has read the whole store; the watch may be behind it."""
    books = Books("b")
    books.fails(1.0)
    assert books.ledger.next_write(1.0) is not None
    books.ledger.refused(Snapshot(revision=14, fence=13, entries={}), now=1.1)
    late = [
        Change(revision=11, pop="b", entry=entry("b", 11)),
        Change(revision=12, pop="a", entry=entry("a", 12, Stance.PERMIT)),
        Change(revision=13, pop="b"),
    ]
    for change in late:
        books.ledger.changed([change], 1.2)
        view = books.ledger.view(1.2)
        assert (dict(view.members), books.permit()) == ({}, PermitState.REFUSED)
    books.ledger.changed([Change(revision=15, pop="b", entry=entry("b", 15))], 1.3)
    assert "b" in books.ledger.view(1.3).members


def test_the_echo_of_a_write_proves_that_the_view_is_current() -> None:
    books = Books("b")
    books.ledger.wish(FleetWish(report=report("a", replace(GOOD, healthy=1))), 5.0)
    books.write(5.0, 11)
    assert books.ledger.view(5.0).current_at == 0.0
    assert books.ledger.unechoed_since == 0.0, "the first write has not come back either"
    books.ledger.changed([Change(revision=11, pop="a", entry=entry("a", 11, healthy=1))], 5.1)
    assert books.ledger.view(5.1).current_at == 5.0
    assert books.ledger.unechoed_since == NEVER


def test_an_echo_before_its_answer_counts_too() -> None:
    books = Books("b")
    books.ledger.wish(FleetWish(report=report("a", replace(GOOD, healthy=1))), 5.0)
    assert books.ledger.next_write(5.0) is not None
    books.ledger.changed([Change(revision=11, pop="a", entry=entry("a", 11, healthy=1))], 5.1)
    books.ledger.written(11, 5.2)
    assert books.ledger.view(5.2).current_at == 5.0
    assert books.ledger.next_write(7.0) is None, "what was sent is what is known, not what came back"


@pytest.mark.parametrize(("away_s", "settles"), [(BRIEF_S, False), (BRIEF_S + 0.1, True)])
def test_after_an_outage_that_was_not_brief_the_others_get_time_to_speak(away_s: float, *, settles: bool) -> None:
    books = Books("b")
    began = books.ledger.view(60.0).settled_at
    books.ledger.disconnected("gone", 60.0)
    books.ledger.disconnected("still gone", 60.0 + away_s)
    back = 60.0 + away_s
    books.ledger.connected(snapshot(12, "b"), asked_at=back, now=back + 0.5)
    assert books.ledger.view(back).settled_at == (back + 0.5 + POLICY.settle_s if settles else began)


def test_a_later_agent_of_the_same_name_silences_this_one_until_it_is_gone() -> None:
    books = Books("b")
    books.fails(1.0)
    books.write(1.0, 11)
    other = Record(report=report("a", incarnation="a-2"), stances={SERVICE: Stance.DUTY})
    books.ledger.changed([Change(revision=12, pop="a", entry=Entry(record=other, created=10, modified=12))], 2.0)
    view = books.ledger.view(2.0)
    assert not view.connected
    assert "another agent" in view.problem
    assert books.permit(2.0) is not PermitState.HELD
    assert books.ledger.next_write(60.0) is None
    books.ledger.changed([Change(revision=13, pop="a")], 61.0)
    assert books.ledger.view(61.0).connected
    assert books.ledger.next_write(61.0) is not None


def test_an_unreadable_record_is_not_counted_on() -> None:
    books = Books("b")
    strange = Entry(record=None, created=2, modified=12)
    books.ledger.changed([Change(revision=12, pop="b", entry=strange)], 1.0)
    view = books.ledger.view(1.0)
    assert "b" not in view.members
    assert "b" in view.lost


def test_who_was_lost_is_remembered_for_an_hour() -> None:
    books = Books("b")
    books.ledger.changed([Change(revision=12, pop="b")], 1.0)
    assert books.ledger.view(3600.0).lost == {"b": 1.0}
    assert books.ledger.view(3602.0).lost == {}


def test_a_result_without_a_write_is_a_bug() -> None:
    ledger = Ledger("a", "a-1", POLICY)
    with pytest.raises(RuntimeError):
        ledger.written(1, 0.0)
    with pytest.raises(RuntimeError):
        ledger.refused(snapshot(1), now=0.0)


def test_the_view_of_nothing_is_not_current() -> None:
    assert Ledger("a", "a-1", POLICY).view(0.0) == FleetView(members={})
