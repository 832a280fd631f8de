"""The one error that leaves `topology`: everything that is wrong with an input, at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where."""

    file: str
    line: int
    """Counted from 1; 0 when the problem is the file as a whole."""
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class TopologyError(Exception):
    """An input cannot be used. Nothing was built from it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        """Every problem found, in the order of the file."""
        super().__init__("\n".join(str(problem) for problem in self.problems))
