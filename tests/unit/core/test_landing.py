"""Where the load of a PoP would land if an operator withdrew it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from popctl.core.gate import Case
from popctl.core.landing import Landing, landing
from popctl.model.capacity import GatePolicy
from popctl.model.load import FleetLoad, PopLoad, Resource
from popctl.model.playbook import DEFAULT_LADDER, Flow, Playbook, Step, StepKey
from popctl.model.reason import Reason

POLICY = GatePolicy()


def _pop(sessions: float, capacity: float = 100.0, level: int = 0) -> PopLoad:
    used = {Resource.SESSIONS: sessions}
    return PopLoad(level=level, announcing=True, used=used, peak=used, capacity={Resource.SESSIONS: capacity}, at=0.0)


def _case(*, last: tuple[Flow, ...] = (Flow("a", "c", 0.8), Flow("a", None, 0.2))) -> Case:
    """A ladder of three steps: half goes to b, half of the rest to c, and the last of it to c and nowhere."""
    rows = ((Flow("a", "b", 0.5),), (Flow("a", "c", 0.5),), last)
    steps = {}
    for before, flows in enumerate(rows):
        key = StepKey("a", before, before + 1)
        steps[key] = (Step(key=key, flows=flows),)
    book = Playbook(fleet="test", created_unix_s=0.0, ladders=dict.fromkeys("abc", DEFAULT_LADDER), steps=steps)
    fleet = FleetLoad(fleet="test", pops={"a": _pop(80.0), "b": _pop(20.0), "c": _pop(50.0)}, at=0.0)
    return Case(pop="a", ladder=DEFAULT_LADDER, playbook=book, playbook_age_s=0.0, fleet=fleet)


def _landing(case: Case, level: int = 0) -> Landing:
    found = landing(case, level, POLICY, 0.0)
    assert isinstance(found, Landing)
    return found


def test_all_steps_down_to_the_withdraw_are_added_up() -> None:
    found = _landing(_case())
    after = {one.pop: (one.sessions_before, one.sessions_after) for one in found.receivers}
    assert after == {"b": (20.0, 60.0), "c": (50.0, pytest.approx(86.0))}
    assert found.unreached == pytest.approx(4.0)


def test_a_receiver_that_would_pass_its_watermark_is_marked() -> None:
    assert {one.pop: one.over for one in _landing(_case()).receivers} == {"b": False, "c": True}


def test_a_pop_that_has_shed_already_has_less_to_give() -> None:
    case = _case()
    assert case.fleet is not None
    shed = replace(case, fleet=replace(case.fleet, pops={**case.fleet.pops, "a": _pop(40.0, level=1)}))
    assert {one.pop for one in _landing(shed, 1).receivers} == {"c"}


def test_without_a_playbook_a_row_or_a_known_receiver_the_reason_is_told() -> None:
    case = _case()
    assert case.playbook is not None
    assert case.fleet is not None
    assert landing(replace(case, playbook=None), 0, POLICY, 0.0) is Reason.NO_PLAYBOOK
    fewer = replace(case.playbook, steps={key: rows for key, rows in case.playbook.steps.items() if not key.before})
    assert landing(replace(case, playbook=fewer), 0, POLICY, 0.0) is Reason.NO_PLAYBOOK_STEP
    mute = replace(_pop(1.0), used={})
    unknown = replace(case, fleet=replace(case.fleet, pops={**case.fleet.pops, "b": mute}))
    assert landing(unknown, 0, POLICY, 0.0) is Reason.RECEIVER_UNKNOWN
