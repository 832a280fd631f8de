"""Draining a backend: the interlock, and how far it is."""

from __future__ import annotations

import pytest

from popctl.core.backend_drain import Shortfall, noted, progress, refusals
from popctl.model.instant import NEVER

WEIGHTS = {"vpn": {0: 64, 1: 64, 2: 64, 3: 64}, "other": {3: 64}}
ALL = frozenset({0, 1, 2, 3})


def test_several_may_drain_while_enough_is_left() -> None:
    assert refusals({"vpn": WEIGHTS["vpn"]}, ALL, frozenset({0, 1}), least_share=0.5) == ()


def test_what_would_leave_too_little_is_refused_with_the_figures() -> None:
    found = refusals(WEIGHTS, ALL - {2}, frozenset({0, 1}), least_share=0.5)
    assert found == (Shortfall(service="vpn", left=64, needed=128),)


def test_a_service_that_the_drain_does_not_concern_is_no_reason_to_refuse() -> None:
    assert refusals(WEIGHTS, ALL - {3}, frozenset({0}), least_share=0.5) == ()


def test_an_empty_backend_is_empty_now() -> None:
    assert progress((), [(0.0, 10)], 5.0).empty_at == 5.0


def test_a_backend_with_one_busy_sa_is_not_empty() -> None:
    found = progress((), ((0.0, 4),), 60.0, busy=1)
    assert (found.sas, found.oldest_s) == (1, 0.0)
    assert found.empty_at > 60.0


def test_nothing_has_left_so_nothing_can_be_estimated() -> None:
    found = progress((60.0, 30.0), [(0.0, 2)], 100.0)
    assert (found.sas, found.oldest_s, found.median_s, found.empty_at) == (2, 60.0, 45.0, NEVER)


def test_half_gone_in_a_minute_is_empty_after_as_many_minutes_as_halvings() -> None:
    assert progress((1.0,) * 16, [(0.0, 32), (30.0, 20)], 60.0).empty_at == pytest.approx(60.0 + 5 * 60.0)


def test_a_count_that_goes_up_and_down_leaves_no_trail() -> None:
    history: tuple[tuple[float, int], ...] = ()
    for turn in range(1000):
        history = noted(history, 10 + turn % 2, 2.0 * turn)
    assert history == ((0.0, 10), (2.0, 11))
    assert progress((1.0,) * 5, history, 10.0).empty_at == progress((1.0,) * 5, [(0.0, 10)], 10.0).empty_at
