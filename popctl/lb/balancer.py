"""The hand that moves the PoP's balancer: the shape of it, and what can go wrong at this boundary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from popctl.model.balancer import BalancerActual, Problem, Tables

OnActual: TypeAlias = Callable[[BalancerActual], None]
"""Called in the event loop with the whole new `BalancerActual` after every change of it."""


class BalancerError(Exception):
    """Base of everything that goes wrong at this boundary."""


class RefusedTablesError(BalancerError):
    """The wanted tables cannot be put in force here. Nothing in the kernel was changed."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class KernelError(BalancerError):
    """The kernel, or the program that speaks to it, refused a change. It changed nothing: changes are atomic."""

    def __init__(self, operation: str, answer: str) -> None:
        super().__init__(f"{operation}: {answer.strip()}")
        self.operation = operation
        self.answer = answer


class Balancer(Protocol):
    """Takes whole wanted states, is idempotent, and reports only what it read back."""

    async def inherited(self) -> frozenset[int]:
        """Return whom the kernel gives new SAs to, before anything was set; nobody where it has no balancer.

        Raises:
            BalancerError: it cannot be told.
        """

    async def close(self) -> None:
        """Free what is held in this process; the kernel keeps steering."""

    async def set(self, tables: Tables) -> None:
        """Make `tables` the wanted state. Returns when it is recorded, not when it is in force: `BalancerActual` says.

        Before the first call the hand changes nothing.

        Raises:
            RefusedTablesError: it cannot be; the earlier state stays in force.
        """

    async def run(self, on_actual: OnActual) -> None:
        """Put the wanted state in force and keep it so until cancelled. Cancelling leaves the kernel as it is."""
