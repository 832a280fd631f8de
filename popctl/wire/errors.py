"""The one error of this boundary, and what is turned into it."""

from __future__ import annotations

from typing import Final

UNREADABLE: Final = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    StopIteration,
)
"""What Python raises when a parsed document is not of the shape that its reader takes for granted.

Not only what a missing key or a wrong type raises: `1e999` is infinity for Python, which no `int` can hold, and an
integer of 400 digits is one that no `float` can hold (both `OverflowError`).
"""


class WireError(Exception):
    """Bytes or text from outside cannot be read as what they claim to be.

    Nothing else leaves a codec, whatever the input; any other exception is a bug of ours.
    """

    def __init__(self, problem: str, *, found: bytes | str = b"", offset: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.found = found[:64]
        """The beginning of what was found, for a log."""
        self.offset = offset
        """Where in the input the problem starts, in bytes or characters."""

    def __str__(self) -> str:
        return f"{self.problem} at {self.offset}: {self.found!r}"
