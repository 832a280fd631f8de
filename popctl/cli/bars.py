"""Progress bars, on standard error and on a terminal only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

_Item = TypeVar("_Item")


def watched(items: Iterable[_Item], expected: int, what: str = "asking") -> Iterator[_Item]:
    """Pass items on, and show how many of those that are expected have come."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=expected, description=what)
