"""What can go wrong in the lab: one base class, fields instead of prose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class LabError(Exception):
    """Base of everything that the lab raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a topology file: where it is, what was found there, what to write instead."""

    key: str
    """Path of the key, such as `topology.nodes.pop1.binds[0]`."""
    found: object
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: found {self.found!r}; {self.remedy}"


class TopologyError(LabError):
    """The topology file cannot be used. Carries every problem, not the first one."""

    def __init__(self, path: str, problems: Sequence[Problem]) -> None:
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{path}:\n{lines}")
        self.path = path
        self.problems = tuple(problems)


class DriverUnavailableError(LabError):
    """This way of raising a lab does not work on this host, and why."""

    def __init__(self, driver: str, reasons: Sequence[str]) -> None:
        super().__init__(f"{driver} cannot work here: {'; '.join(reasons)}")
        self.driver = driver
        self.reasons = tuple(reasons)


class AlreadyUpError(LabError):
    """A lab of this name exists, whole or in pieces."""

    def __init__(self, lab: str) -> None:
        super().__init__(f"lab {lab} is up already; take it down first, or give this one another name")
        self.lab = lab


class NotUpError(LabError):
    """There is no lab of this name."""

    def __init__(self, lab: str) -> None:
        super().__init__(f"lab {lab} is not up")
        self.lab = lab


class BusyError(LabError):
    """Another process is changing this lab right now."""

    def __init__(self, lab: str) -> None:
        super().__init__(f"lab {lab} is being changed by another process")
        self.lab = lab


class NodeError(LabError):
    """A node, link or interface that does not exist, or is not in a state for what was asked."""

    def __init__(self, lab: str, node: str, message: str) -> None:
        super().__init__(f"lab {lab}, node {node}: {message}")
        self.lab = lab
        self.node = node


class StepFailedError(LabError):
    """A step of raising the lab failed. Carries all failures of that moment."""

    def __init__(self, lab: str, failures: Sequence[str]) -> None:
        lines = "\n".join(f"  {failure}" for failure in failures)
        super().__init__(f"lab {lab} did not come up:\n{lines}")
        self.lab = lab
        self.failures = tuple(failures)


class ExecTimeoutError(LabError):
    """A command in a node took longer than it was given, and was ended."""

    def __init__(self, node: str, argv: Sequence[str], timeout_s: float) -> None:
        super().__init__(f"{node}: {' '.join(argv)} took longer than {timeout_s} s")
        self.node = node
        self.argv = tuple(argv)
        self.timeout_s = timeout_s
