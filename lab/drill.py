"""Drills: do something to the lab, say what must follow and within which time, and keep what really happened."""

from __future__ import annotations

import time
from collections.abc import Callable
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

    def run(self, step: Step) -> None:
        """Do it, then poll until every expectation has come true or its time is over."""
        begun = time.monotonic()
        step.do()
        waiting = list(step.expect)
        while waiting:
            for expectation in list(waiting):
                held = expectation.holds()
                now_s = time.monotonic() - begun
                if held or now_s > expectation.within_s:
                    waiting.remove(expectation)
                    self._note(step, expectation, now_s if held and now_s <= expectation.within_s else None)
            self.watch()
            time.sleep(POLL_S)

    def _note(self, step: Step, expectation: Expectation, took_s: float | None) -> None:
        finding = Finding(step.title, expectation.text, expectation.within_s, took_s)
        self.findings.append(finding)
        self.tell(finding)

    @property
    def passed(self) -> bool:
        """Every expectation of every step held."""
        return bool(self.findings) and all(finding.ok for finding in self.findings)
