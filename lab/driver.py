"""What every way of raising a lab can do, and the values that it answers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lab.plan import Plan


class NodeState(StrEnum):
    """Whether a node runs. The words are those of container engines."""

    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One node as it is now."""

    node: str
    long_name: str
    kind: str
    image: str
    state: NodeState
    pid: int | None
    """The node's first process as the host numbers it."""
    healthy: bool | None
    """The answer of the health check; None without one, or when the node does not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command in a node ended."""

    returncode: int
    stdout: str
    stderr: str


class Driver(Protocol):
    """Raises a plan. Every method raises `LabError` and nothing else on purpose."""

    @property
    def plan(self) -> Plan:
        """What this driver raises."""

    def deploy(self) -> None:
        """Raise the lab and return when every node with a health check is healthy. On failure nothing is left."""

    def destroy(self) -> None:
        """Take down everything of the lab, also what a crash left behind. Nothing to do is not an error."""

    def inspect(self) -> tuple[NodeStatus, ...]:
        """Tell how the nodes are."""

    def exec(self, node: str, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 30.0) -> ExecResult:
        """Run a program in a node and wait for it. Its exit status is an answer, not an error."""

    def exec_argv(self, node: str, argv: Sequence[str]) -> list[str]:
        """Return the command of the host that runs `argv` in a node, for a caller that needs the terminal."""

    def stop(self, node: str) -> None:
        """Kill a node. Its cables stay plugged in, without carrier; its file system is lost."""

    def start(self, node: str) -> None:
        """Start a stopped node afresh: file system, addresses, daemons."""
