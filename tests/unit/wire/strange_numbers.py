"""A document of JSON with every number in turn replaced by something that a careless reader takes for one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

STRANGE: Final = (
    "1e999",
    "-1e999",
    "Infinity",
    "NaN",
    "9" * 400,
    "-" + "9" * 400,
    "9" * 5000,
    "1e300",
    "-1",
    "0.5",
    '"nan"',
    '"1e999"',
    '"' + "9" * 400 + '"',
    "true",
    "null",
    "[]",
    "{}",
)
"""As they stand in a text: `json.dumps` would not write some of them."""

_Path: TypeAlias = "tuple[str | int, ...]"
_MARK: Final = "a number stood here"


def documents(text: str) -> Iterator[tuple[str, str]]:
    """Yield `text` once for every number in it and every strange one, and what was done to it."""
    for path in _numbers(json.loads(text)):
        place = json.dumps(_with(json.loads(text), path))
        for strange in STRANGE:
            yield f"{path}: {strange[:12]}", place.replace(f'"{_MARK}"', strange)


def _numbers(value: Any, path: _Path = ()) -> Iterator[_Path]:  # noqa: ANN401 - JSON
    match value:
        case dict():
            for key, inner in value.items():
                yield from _numbers(inner, (*path, key))
        case list():
            for index, inner in enumerate(value):
                yield from _numbers(inner, (*path, index))
        case bool():
            pass
        case int() | float():
            yield path
        case str() if value.isdecimal():
            # Where a format writes its numbers as text.
            yield path


def _with(document: Any, path: _Path) -> Any:  # noqa: ANN401 - JSON
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = _MARK
    return document
