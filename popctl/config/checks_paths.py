"""What must hold for the files of a PoP: none that it keeps is another one, or one that it only reads."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from popctl.config.checks_routing import duplicates, problem
from popctl.config.kept_files import Kept, everything
from popctl.config.shape import Placed
from popctl.model.pop import ViciEndpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from popctl.config.errors import KeyPath, Problem
    from popctl.config.shape import Parts


def separate_paths(parts: Parts) -> Iterator[Problem]:
    """Two files cannot have one path, nor one be a folder of the other."""
    if parts.paths is None:
        return
    kept = tuple(everything(parts.paths))
    yield from duplicates((("paths", one.key), one.path) for one in kept if not one.what)
    told: set[frozenset[str]] = set()
    for one, other in combinations(kept, 2):
        # What follows from a key follows it in pairs: once is enough.
        keys = frozenset((one.key, other.key))
        what = _clash(one, other)
        if what and keys not in told:
            told.add(keys)
            yield problem(("paths", one.key), one.path, what, "name another file")


def untouched_files(parts: Parts) -> Iterator[Problem]:
    """What is only read, and what others listen at, is not overwritten."""
    if parts.paths is None:
        return
    kept = {one.path: one for one in reversed(tuple(everything(parts.paths)))}
    for path, file in _read(parts):
        if file in kept:
            what = f"is {_told(kept[file])}: popctl itself writes there"
            yield problem(path, file, what, "name another file")


def _clash(one: Kept, other: Kept) -> str:
    """Say what is wrong with `one`, which comes first in the list; empty if nothing is."""
    if one.path == other.path:
        # Two that are named are told as what they are: written twice.
        return f"is {_told(other)}" if other.what else ""
    if one.path in other.path.parents:
        return f"is a folder: {_told(other)} is {other.path}"
    if other.path in one.path.parents:
        return f"is in a folder that is {_told(other)}"
    return ""


def _told(one: Kept) -> str:
    return f"the place of {one.what}, beside paths.{one.key}" if one.what else f"paths.{one.key}"


def _read(parts: Parts) -> Iterator[tuple[KeyPath, Path]]:
    """Yield every file that the configuration names outside `paths`."""
    for section in parts.__slots__:
        if section != "paths":
            yield from _paths_in((section,), getattr(parts, section))


def _paths_in(path: KeyPath, value: object) -> Iterator[tuple[KeyPath, Path]]:
    match value:
        case Path():
            yield path, value
        case ViciEndpoint(path=Path() as file):
            yield path, file
        case Placed():
            yield from _paths_in(value.path, value.value)
        case BaseModel():
            for key, inner in value:
                yield from _paths_in(path if key == "root" else (*path, key), inner)
        case dict():
            for key, inner in value.items():
                yield from _paths_in((*path, key), inner)
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from _paths_in((*path, index), inner)


CHECKS = (separate_paths, untouched_files)
