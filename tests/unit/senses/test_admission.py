"""Places in flight, counted without I/O."""

from __future__ import annotations

from popctl.model.instant import NEVER
from popctl.model.probe import ProbeKey
from popctl.senses.admission import Admission, Pool

GATEWAY = Pool("ike 10.0.0.1", 2)
OTHER = Pool("ike 10.0.0.2", 2)
ALL = Pool("all", 3)


def key(number: int) -> ProbeKey:
    return ProbeKey(number, "ike")


def admitted(admission: Admission) -> list[int]:
    numbers = []
    while (ticket := admission.admitted()) is not None:
        numbers.append(ticket.key.backend)
    return numbers


def test_a_full_gateway_lets_others_pass() -> None:
    admission = Admission()
    for number in range(3):
        admission.enter(key(number), (GATEWAY, ALL), 0.0)
    admission.enter(key(3), (OTHER, ALL), 0.0)
    assert admitted(admission) == [0, 1, 3]
    assert (admission.in_flight, admission.waiting) == (3, 1)


def test_who_leaves_makes_room_for_the_first_in_line() -> None:
    admission = Admission()
    tickets = [admission.enter(key(number), (GATEWAY, ALL), 0.0) for number in range(4)]
    assert admitted(admission) == [0, 1]
    admission.leave(tickets[0])
    assert admitted(admission) == [2]
    admission.leave(tickets[1])
    assert admitted(admission) == [3]


def test_leaving_twice_frees_one_place() -> None:
    admission = Admission()
    tickets = [admission.enter(key(number), (GATEWAY,), 0.0) for number in range(4)]
    assert admitted(admission) == [0, 1]
    admission.leave(tickets[0])
    admission.leave(tickets[0])
    assert admitted(admission) == [2]
    assert (admission.in_flight, admission.waiting) == (2, 1)


def test_who_waited_too_long_is_out_and_never_begins() -> None:
    admission = Admission(wait_s=0.2)
    tickets = [admission.enter(key(number), (GATEWAY, ALL), 0.0) for number in range(3)]
    assert admitted(admission) == [0, 1]
    assert admission.next_expiry() == 0.2
    assert admission.expired(0.1) == []
    assert admission.expired(0.2) == [tickets[2]]
    admission.leave(tickets[0])
    assert admitted(admission) == []
    assert (admission.in_flight, admission.waiting, admission.next_expiry()) == (1, 0, NEVER)


def test_a_place_held_while_waiting_for_another_is_given_back() -> None:
    admission = Admission()
    for number in range(3):
        admission.enter(key(number), (ALL,), 0.0)
    holder = admission.enter(key(3), (GATEWAY, ALL), 0.0)
    assert holder.held == 1
    admission.leave(holder)
    assert (holder.held, admission.waiting) == (0, 0)


def test_one_admitted_but_stopped_before_it_began_does_not_begin() -> None:
    admission = Admission()
    ticket = admission.enter(key(1), (GATEWAY, ALL), 0.0)
    admission.leave(ticket)
    assert admitted(admission) == []
    assert admission.in_flight == 0
