"""What the demo says of itself can be believed: it fails when an expectation fails, and sees what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import demo
from lab.drill import Drill, Expectation, Finding, Step
from lab.netns import NetnsDriver

MakeLab = Callable[[str], NetnsDriver]


def step(*expect: Expectation, do: Callable[[], None] = lambda: None) -> Step:
    return Step("a step", do, expect)


def held(within_s: float = 5.0) -> Expectation:
    return Expectation("holds", lambda: True, within_s)


def never(within_s: float = 0.0) -> Expectation:
    return Expectation("never holds", lambda: False, within_s)


def test_an_expectation_that_comes_true_in_time_is_found_with_its_time() -> None:
    answers = iter([False, False, True])
    drill = Drill()
    drill.run(step(Expectation("third look", lambda: next(answers), 5.0)))
    (finding,) = drill.findings
    assert finding.ok
    assert finding.took_s is not None
    assert 0.0 < finding.took_s < 5.0


def test_what_is_done_comes_before_what_is_expected() -> None:
    seen: list[str] = []
    Drill().run(step(Expectation("second", lambda: not seen.append("looked"), 5.0), do=lambda: seen.append("done")))
    assert seen == ["done", "looked"]


def test_one_expectation_that_fails_is_noted_and_the_others_are_still_looked_at() -> None:
    told: list[Finding] = []
    drill = Drill(tell=told.append)
    drill.run(step(never(), held()))
    assert {(finding.text, finding.ok) for finding in told} == {("never holds", False), ("holds", True)}
    drill.run(step(held()))
    assert not drill.passed
    assert demo.exit_code(drill, []) == 1


def test_an_expectation_that_comes_true_too_late_has_failed() -> None:
    drill = Drill()
    drill.run(step(held(within_s=-1.0)))
    assert not drill.passed


def test_a_demo_in_which_all_held_and_nothing_is_left_succeeds() -> None:
    drill = Drill()
    drill.run(step(held()))
    assert demo.exit_code(drill, []) == 0
    assert demo.exit_code(drill, ["namespace demo-r1"]) == 1


def test_a_demo_that_never_looked_at_anything_has_not_succeeded() -> None:
    assert demo.exit_code(Drill(), []) == 1


@pytest.mark.lab
def test_what_a_lab_leaves_behind_is_named(make_lab: MakeLab) -> None:
    driver = make_lab("pair")
    assert demo.leftovers(driver.plan) == []
    driver.deploy()
    left = demo.leftovers(driver.plan)
    assert f"state of {driver.plan.name}" in left
    assert {f"namespace {driver.plan.long_name(node)}" for node in ("left", "right")} <= set(left)
    driver.destroy()
    assert demo.leftovers(driver.plan) == []
