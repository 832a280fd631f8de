"""What the system lint has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad."""

    ERROR = "error"
    """Traffic is lost, or will be."""
    WARNING = "warning"
    UNKNOWN = "unknown"
    """Could not be seen from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to mend."""

    name: str
    severity: Severity
    text: str
    why: str
    command: str
    safe: bool = False
    """`--fix` may run the command: it changes nothing but this setting, and takes effect at once."""
