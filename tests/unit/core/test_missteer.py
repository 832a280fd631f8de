"""Mis-steers by the backends' own counters, and the silent form that has no counter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.core.missteer import MAX_CLIENTS, follow, grown
from popctl.model.missteer import ClientAt, History, Split

CLIENT = "203.0.113.2"
BOTH = frozenset({0, 1})


def at(backend: int, *, data: bool = True, port: int = 40000) -> ClientAt:
    return ClientAt(backend=backend, address=CLIENT, port=port, esp_in=data)


def look(
    history: History, now: float, *seen: ClientAt, working: frozenset[int] = BOTH
) -> tuple[History, tuple[Split, ...]]:
    return follow(history, seen, now, working=working, forget_s=600)


@pytest.mark.parametrize(("past", "current", "told"), [(None, 9, 0), (5, 7, 2), (9, 1, 1), (4, 4, 0)])
def test_growth_counts_a_restart_starts_at_zero_and_the_first_look_counts_nothing(
    past: int | None, current: int, told: int
) -> None:
    assert grown(past, current) == told


def test_sas_away_from_the_clients_data_are_the_silent_mis_steer_told_once() -> None:
    history, found = look(History(), 0, at(0))
    assert found == ()
    history, found = look(history, 30, at(0), at(1, data=False))
    assert found == (Split(address=CLIENT, port=40000, before=0, now=1),)
    assert look(history, 60, at(0), at(1, data=False))[1] == ()


def test_it_is_seen_also_when_the_old_sas_are_gone_already() -> None:
    history, _ = look(History(), 0, at(0))
    assert look(history, 30, at(1, data=False))[1] == (Split(address=CLIENT, port=40000, before=0, now=1),)
    assert look(history, 30, at(1))[1] == (Split(address=CLIENT, port=40000, before=0, now=1),)


def test_a_client_may_leave_a_backend_that_does_not_work() -> None:
    history, _ = look(History(), 0, at(0))
    history, found = look(history, 30, at(1), working=frozenset({1}))
    assert found == ()
    assert look(history, 60, at(1))[1] == ()


def test_a_client_that_was_silent_may_come_back_anywhere() -> None:
    history, _ = look(History(), 0, at(0))
    assert look(history, 601, at(1))[1] == ()


def test_other_ports_of_one_address_are_other_clients() -> None:
    history, _ = look(History(), 0, at(0))
    assert look(history, 30, at(0), at(1, port=40001))[1] == ()


def test_a_client_without_data_has_no_history() -> None:
    history, _ = look(History(), 0, at(0, data=False))
    assert look(history, 30, at(1))[1] == ()


def test_a_crowd_is_watched_in_part_and_remembered_in_bounds() -> None:
    crowd = [ClientAt(backend=0, address=f"c{n}", port=1, esp_in=True) for n in range(MAX_CLIENTS + 5)]
    history, found = look(History(), 0, *crowd)
    assert (len(history.clients), found) == (MAX_CLIENTS, ())


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=6), max_size=6))
def test_clients_that_stay_are_never_told(looks: list[list[tuple[int, bool]]]) -> None:
    history = History()
    for turn, seen in enumerate(looks):
        clients = [at(port % 2, data=data, port=port) for port, data in seen]
        history, found = look(history, turn * 30.0, *clients)
        assert found == ()
