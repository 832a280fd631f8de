"""What every refusal of an HTTP server of ours looks like. Part of `popctl.wire.agent_api`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """One thing wrong with a request: where, what was found, what to do about it."""

    key: str
    found: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}: {self.problem}; remedy: {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Every answer that is not a success (RFC 9457, `application/problem+json`)."""

    status: int
    code: str
    """Which problem, for programs: `unknown-target`, `interlock`, `state-corrupt`, ..."""
    title: str
    detail: str = ""
    problems: tuple[FieldProblem, ...] = ()
    known: tuple[str, ...] = ()
    """What could have been asked for instead."""
