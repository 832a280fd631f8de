"""Mis-steers by the backends' own counters, and the silent form that has no counter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.core.missteer import MAX_CLIENTS, follow, grown
from popctl.model.missteer import ClientAt, History, Split

CLIENT = "203.0.113.2"
BOTH = frozenset({0, 1})
SPLIT = (Split(address=CLIENT, port=40000, before=0, now=1),)


def client(*, answered: bool, received: bool = True, port: int = 40000) -> ClientAt:
    return ClientAt(address=CLIENT, port=port, received=received, answered=answered)


ANSWERED, IGNORED = client(answered=True), client(answered=False)


def look(
    history: History, now: float, backend: int, *seen: ClientAt, working: frozenset[int] = BOTH
) -> tuple[History, tuple[Split, ...]]:
    return follow(history, backend, seen, now, working=working, forget_s=600)


@pytest.fixture
def at_home() -> History:
    """Provide a client that backend 0 answers."""
    return look(History(), 0, 0, ANSWERED)[0]


@pytest.mark.parametrize(("past", "current", "told"), [(None, 9, 0), (5, 7, 2), (9, 1, 1), (4, 4, 0)])
def test_growth_counts_a_restart_starts_at_zero_and_the_first_look_counts_nothing(
    past: int | None, current: int, told: int
) -> None:
    assert grown(past, current) == told


def test_a_client_that_is_never_answered_where_it_sends_is_told_at_the_second_look_and_once(at_home: History) -> None:
    history, found = look(at_home, 30, 1, IGNORED)
    assert found == ()
    history, found = look(history, 31, 0, ANSWERED)
    history, found = look(history, 60, 1, IGNORED)
    assert found == SPLIT
    assert look(history, 90, 1, IGNORED)[1] == ()


def test_it_is_seen_also_when_the_old_sas_are_gone_already(at_home: History) -> None:
    history, _ = look(look(at_home, 30, 0)[0], 30, 1, IGNORED)
    assert look(history, 60, 1, IGNORED)[1] == SPLIT


def test_a_client_that_connects_anew_elsewhere_is_answered_there(at_home: History) -> None:
    history, _ = look(at_home, 30, 1, IGNORED)
    history, found = look(history, 60, 1, ANSWERED)
    assert found == ()
    assert look(history, 90, 0, IGNORED)[1] == ()


def test_a_client_that_sends_nothing_need_not_be_answered(at_home: History) -> None:
    quiet = client(answered=False, received=False)
    history, _ = look(at_home, 30, 1, quiet)
    assert look(history, 60, 1, quiet)[1] == ()


def test_a_client_may_leave_a_backend_that_does_not_work(at_home: History) -> None:
    history, _ = look(at_home, 30, 1, IGNORED, working=frozenset({1}))
    assert look(history, 60, 1, IGNORED, working=frozenset({1}))[1] == ()


def test_a_client_that_was_silent_may_come_back_anywhere(at_home: History) -> None:
    history, _ = look(at_home, 601, 1, IGNORED)
    assert look(history, 630, 1, IGNORED)[1] == ()


def test_other_ports_of_one_address_are_other_clients(at_home: History) -> None:
    other = client(answered=False, port=40001)
    history, _ = look(at_home, 30, 1, other)
    assert look(history, 60, 1, other)[1] == ()


def test_a_crowd_is_watched_in_part_and_remembered_in_bounds() -> None:
    crowd = [ClientAt(address=f"c{n}", port=1, received=True, answered=True) for n in range(MAX_CLIENTS + 5)]
    history, found = look(History(), 0, 0, *crowd)
    assert (len(history.clients), found) == (MAX_CLIENTS, ())


@given(st.lists(st.tuples(st.integers(0, 1), st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=6))))
def test_clients_that_stay_are_never_told(looks: list[tuple[int, list[tuple[int, bool]]]]) -> None:
    history = History()
    for turn, (backend, seen) in enumerate(looks):
        clients = [client(answered=answered, port=port) for port, answered in seen if port % 2 == backend]
        history, found = look(history, turn * 30.0, backend, *clients)
        assert found == ()
