"""Mis-steers by the backends' own counters, and the silent form that has no counter."""

from __future__ import annotations

from popctl.core.missteer import ClientAt, Refusals, mis_steers, split_clients


def refusals(ike: int, esp: int) -> Refusals:
    return Refusals(invalid_ike_spi=ike, no_esp_state=esp)


def test_growth_counts_a_restart_starts_at_zero_and_the_unseen_count_nothing() -> None:
    before = {0: refusals(5, 1), 1: refusals(9, 9)}
    now = {0: refusals(7, 2), 1: refusals(1, 9), 2: refusals(100, 0)}
    assert mis_steers(before, now) == {0: 3, 1: 1}
    assert mis_steers(now, now) == {0: 0, 1: 0, 2: 0}


def test_a_quick_mode_at_a_backend_that_never_answered_is_the_silent_mis_steer() -> None:
    here = ClientAt(backend=0, address="203.0.113.2", port=40000, answered=True)
    there = ClientAt(backend=1, address="203.0.113.2", port=40000, answered=False)
    assert split_clients([here, there]) == (("203.0.113.2", 40000, (0, 1)),)


def test_other_ports_of_one_address_are_other_clients() -> None:
    one = ClientAt(backend=0, address="203.0.113.2", port=40000, answered=True)
    two = ClientAt(backend=1, address="203.0.113.2", port=40001, answered=False)
    assert split_clients([one, two, one]) == ()
