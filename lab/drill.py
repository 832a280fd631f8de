"""Drills: do something to the lab, say what must follow and within which time, and keep what really happened.

This is the one place where what goes wrong in a step becomes a finding: a drill always ends with all its findings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Expectation:
    """Something that must become so within `within_s` after the step began."""

    text: str
    holds: Callable[[], bool]
    within_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done, and what must follow."""

    title: str
    do: Callable[[], None]
    expect: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one expectation."""

    step: str
    text: str
    within_s: float
    took_s: float | None
    """None when it did not come true in time."""

    @property
    def ok(self) -> bool:
        """It came true in time."""
        return self.took_s is not None


@dataclass(slots=True)
class Drill:
    """Runs steps one after another; a failed expectation is noted and the drill goes on."""

    watch: Callable[[], None] = lambda: None
    """Called between polls: draws the picture."""
    tell: Callable[[Finding], None] = lambda _: None
    findings: list[Finding] = field(default_factory=list)

    def play(self, steps: Iterable[Step], begin: Callable[[Step], None]) -> None:
        """Run `steps` one after another, `begin` before each. A story that cannot go on is a failed finding."""
        title = "the story"
        try:
            for step in steps:
                title = f"after: {step.title}"
                begin(step)
                self.run(step)
        except Exception as error:  # noqa: BLE001 - see the head of this file; the finding names the error
            self._note(Finding(title, _told("the story goes on", error), 0.0, None))

    def run(self, step: Step) -> None:
        """Do it, then poll until every expectation has come true or its time is over.

        A step that cannot be done is one failed finding: nothing can follow from it. An error while looking is "not
        yet".
        """
        begun = time.monotonic()
        try:
            step.do()
        except Exception as error:  # noqa: BLE001 - see the head of this file; the finding names the error
            self._note(Finding(step.title, _told("it can be done", error), 0.0, None))
            return
        waiting = list(step.expect)
        while waiting:
            for expectation in list(waiting):
                held, text = _look(expectation)
                now_s = time.monotonic() - begun
                if held or now_s > expectation.within_s:
                    waiting.remove(expectation)
                    took_s = now_s if held and now_s <= expectation.within_s else None
                    self._note(Finding(step.title, text, expectation.within_s, took_s))
            self.watch()
            time.sleep(POLL_S)

    def keep(self, step: str, text: str, *, within_s: float, took_s: float) -> None:
        """Note something that was measured elsewhere."""
        late = took_s > within_s
        self._note(Finding(step, f"{text}: after {took_s:.1f} s" if late else text, within_s, None if late else took_s))

    def _note(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.tell(finding)

    @property
    def passed(self) -> bool:
        """Every expectation of every step held."""
        return bool(self.findings) and all(finding.ok for finding in self.findings)


def _look(expectation: Expectation) -> tuple[bool, str]:
    """Return whether it holds, and how that is told."""
    try:
        return expectation.holds(), expectation.text
    except Exception as error:  # noqa: BLE001 - see the head of this file; the finding names the error
        return False, _told(expectation.text, error)


def _told(text: str, error: Exception) -> str:
    return f"{text}: {type(error).__name__}: {error}"
