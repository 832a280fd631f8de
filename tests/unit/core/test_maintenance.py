"""Planned work: stages in order, never back, never waiting longer than ordered, over when it expires."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.core import maintenance
from popctl.model.maintenance import Maintenance, Progress, Sessions, Stage
from popctl.model.pop import Announce
from popctl.model.reason import Reason

CONVERGENCE_S = 120.0
ORDER = Maintenance(began=0.0, drain_until=900.0, expires=7200.0)


def _run(*moments: tuple[float, float | None], order: Maintenance = ORDER) -> list[str]:
    progress, found = Progress(), []
    for now, count in moments:
        progress = maintenance.advance(order, progress, Sessions(count=count), CONVERGENCE_S, now)
        found.append(str(progress.stage))
    return found


def test_a_drain_waits_for_routers_then_for_sessions_then_withdraws_and_ends() -> None:
    moments = ((0.0, 50), (119.0, 0), (120.0, 50), (300.0, 1), (301.0, 0), (7199.0, 0), (7200.0, 0))
    assert _run(*moments) == ["draining", "draining", "waiting", "waiting", "withdrawn", "withdrawn", "over"]


def test_sessions_that_never_leave_are_waited_for_as_long_as_ordered() -> None:
    assert _run((120.0, 50), (899.0, 50), (900.0, 50)) == ["waiting", "waiting", "withdrawn"]


def test_sessions_that_are_not_known_are_not_none() -> None:
    assert _run((120.0, None), (899.0, None)) == ["waiting", "waiting"]


def test_what_was_withdrawn_stays_so_when_sessions_are_counted_again() -> None:
    assert _run((130.0, 0), (131.0, 5), (132.0, None)) == ["withdrawn"] * 3


def test_without_a_drain_the_withdraw_comes_at_once() -> None:
    assert _run((0.0, 50), order=replace(ORDER, drain_until=0.0)) == ["withdrawn"]


@pytest.mark.parametrize(
    ("stage", "announce", "reason", "until"),
    [
        (Stage.DRAINING, Announce.GRACEFUL_SHUTDOWN, Reason.OPERATOR_DRAIN, 120.0),
        (Stage.WAITING, Announce.GRACEFUL_SHUTDOWN, Reason.SESSIONS_LEAVING, 900.0),
        (Stage.WITHDRAWN, Announce.WITHDRAWN, Reason.OPERATOR_WITHDRAW, 7200.0),
    ],
)
def test_each_stage_wants_its_rung(stage: Stage, announce: Announce, reason: Reason, until: float) -> None:
    found = maintenance.standing(ORDER, Progress(stage=stage), CONVERGENCE_S)
    assert found is not None
    assert (found.announce, found.reason, found.until) == (announce, reason, until)


def test_what_is_over_wants_nothing() -> None:
    assert maintenance.standing(ORDER, Progress(stage=Stage.OVER), CONVERGENCE_S) is None


@given(
    moments=st.lists(st.tuples(st.floats(0.0, 1000.0), st.none() | st.integers(0, 3)), max_size=20),
    drain_s=st.floats(0.0, 2000.0),
    life_s=st.floats(1.0, 8000.0),
)
def test_a_stage_is_never_gone_back_from_and_looking_twice_changes_nothing(
    moments: list[tuple[float, int | None]], drain_s: float, life_s: float
) -> None:
    order = replace(ORDER, drain_until=drain_s, expires=life_s)
    stages = list(Stage)
    progress, now = Progress(), 0.0
    for gap_s, count in moments:
        now += gap_s
        moved = maintenance.advance(order, progress, Sessions(count=count), CONVERGENCE_S, now)
        assert maintenance.advance(order, moved, Sessions(count=count), CONVERGENCE_S, now) == moved
        assert stages.index(moved.stage) >= stages.index(progress.stage)
        if now >= min(drain_s, life_s):
            assert moved.stage in (Stage.WITHDRAWN, Stage.OVER)
        progress = moved
