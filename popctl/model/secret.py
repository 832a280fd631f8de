"""A value that must not be seen."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that never shows itself in a log, a repr or a traceback."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the plain value, for the one place that must send it."""
        return self._value
