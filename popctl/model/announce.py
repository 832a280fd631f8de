"""The announce ladder."""

from __future__ import annotations

from enum import StrEnum


class Announce(StrEnum):
    """The announce ladder, mildest first. A service stands on exactly one of these."""

    NORMAL = "normal"
    DEPREFERRED = "depreferred"
    GRACEFUL_SHUTDOWN = "graceful-shutdown"
    WITHDRAWN = "withdrawn"
