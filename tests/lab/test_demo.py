"""What the demo says of itself can be believed: it fails when an expectation fails, and sees what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO

import pytest
from rich.console import Console

from lab import demo
from lab.drill import Drill, Expectation, Finding, Step
from lab.errors import NodeError
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


def fails() -> None:
    raise NodeError("demo", "pop1", "popctl drain [b1]: no such command")


def told(drill: Drill) -> str:
    """Return what the demo shows at its end."""
    console = Console(file=StringIO(), width=200)
    demo.report(console, drill)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_step_that_cannot_be_done_has_failed_and_the_next_one_is_played() -> None:
    drill, begun = Drill(), list[str]()
    steps = [step(held(), do=fails), Step("another step", lambda: None, (held(),))]
    drill.play(steps, lambda each: begun.append(each.title))
    assert begun == ["a step", "another step"]
    assert [(finding.step, finding.ok) for finding in drill.findings] == [("a step", False), ("another step", True)]
    assert demo.exit_code(drill, []) == 1
    assert "NodeError: lab demo, node pop1: popctl drain [b1]: no such command" in told(drill)


def test_what_cannot_be_looked_at_yet_may_hold_later() -> None:
    looks = iter([ConnectionRefusedError("not up yet"), None])

    def look() -> bool:
        if error := next(looks):
            raise error
        return True

    drill = Drill()
    drill.run(step(Expectation("answers", look, 5.0)))
    assert drill.passed


def test_what_cannot_be_looked_at_in_time_has_failed_and_says_why() -> None:
    drill = Drill()
    drill.run(step(Expectation("is drained", lambda: bool(fails()), 0.0), held()))
    assert {finding.ok for finding in drill.findings} == {False, True}
    assert "is drained: NodeError: lab demo, node pop1" in told(drill)


def test_a_story_that_breaks_off_has_failed_with_all_that_was_found_until_then() -> None:
    def story() -> Iterator[Step]:
        yield step(held())
        fails()

    drill = Drill()
    drill.play(story(), lambda _: None)
    assert [finding.ok for finding in drill.findings] == [True, False]
    assert drill.findings[1].step == "after: a step"
    assert "the story goes on: NodeError" in told(drill)


def test_a_demo_that_takes_longer_than_its_bound_has_failed() -> None:
    drill = Drill()
    drill.run(step(held()))
    drill.keep("all in all", "the demo is over", within_s=demo.BOUND_S, took_s=demo.BOUND_S - 1)
    assert drill.passed
    drill.keep("all in all", "the demo is over", within_s=demo.BOUND_S, took_s=demo.BOUND_S + 1)
    assert demo.exit_code(drill, []) == 1
    assert f"the demo is over: after {demo.BOUND_S + 1:.1f} s" in told(drill)


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
