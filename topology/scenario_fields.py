"""Values of a TOML file by key path: each is returned as what it must be, or noted as a problem with its line."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from topology.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])", re.ASCII)
_LONGEST_S: Final = 366 * 86_400.0

Key: TypeAlias = str | int
KeyPath: TypeAlias = tuple[Key, ...]


class Fields:
    """Reads one file, collecting problems. A value that is missing or wrong is stood in for by its default."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self.problems: list[Problem] = []

    def problem(self, path: KeyPath, text: str) -> None:
        """Note what is wrong with the value at a key path."""
        said = f"{spelled(path)}: {text}" if path else text
        self.problems.append(Problem(file=str(self._path), line=line_of(self._text, path), text=said))

    def known(
        self, table: dict[str, Any], path: KeyPath, *, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()
    ) -> None:
        """Note keys that are missing or unknown."""
        for key in required:
            if key not in table:
                self.problem(path, f"{key} is missing")
        for key in table:
            if key not in required and key not in optional:
                self.problem((*path, key), "is not known here")

    def table(self, top: dict[str, Any], key: str) -> dict[str, Any]:
        """Return a table; an empty one when it is left out."""
        value = top.get(key, {})
        if isinstance(value, dict):
            return value
        self.problem((key,), "is not a table")
        return {}

    def tables(self, top: dict[str, Any], key: str) -> list[tuple[int, dict[str, Any]]]:
        """Return the tables of an array with their places."""
        value = top.get(key, [])
        if isinstance(value, list) and all(isinstance(one, dict) for one in value):
            return list(enumerate(value))
        self.problem((key,), f"is not an array of tables: write [[{key}]]")
        return []

    def file(self, table: dict[str, Any], path: KeyPath, key: str = "file") -> Path | None:
        """Return a file that is named relative to the scenario."""
        if key not in table:
            return None
        found = self._path.parent / self.string(table, path, key)
        if not found.is_file():
            self.problem((*path, key), f"{found} is no file")
            return None
        return found

    def string(self, table: dict[str, Any], path: KeyPath, key: str) -> str:
        """Return a name."""
        value = table.get(key, "-")
        if isinstance(value, str) and value and value.isprintable():
            return value
        self.problem((*path, key), f"{reprlib.repr(value)} is not a name")
        return "-"

    def whole(self, table: dict[str, Any], path: KeyPath, key: str, least: int, most: int, *, default: int = 0) -> int:
        """Return a whole number in bounds."""
        if key not in table:
            return default
        value = table[key]
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.problem((*path, key), f"{reprlib.repr(value)} is not a whole number of {least}..{most}")
        return default

    def real(
        self, table: dict[str, Any], path: KeyPath, key: str, least: float, most: float, *, default: float = 0.0
    ) -> float:
        """Return a number in bounds."""
        if key not in table:
            return default
        value = table[key]
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
            return float(value)
        self.problem((*path, key), f"{reprlib.repr(value)} is not a number of {least:g}..{most:g}")
        return default

    def range(
        self, table: dict[str, Any], path: KeyPath, key: str, default_s: tuple[float, float]
    ) -> tuple[float, float]:
        """Return two durations, the shorter first."""
        if key not in table:
            return default_s
        match table[key]:
            case [str(low), str(high)]:
                low_s, high_s = _seconds(low), _seconds(high)
                if low_s is not None and high_s is not None and 0 <= low_s <= high_s <= _LONGEST_S:
                    return low_s, high_s
        self.problem((*path, key), 'is not two durations, the shorter first, such as ["5s", "30s"]')
        return default_s

    def duration(
        self, table: dict[str, Any], path: KeyPath, key: str, *, least_s: float = 0.0, default_s: float = 1.0
    ) -> float:
        """Return a duration in seconds."""
        if key not in table:
            return default_s
        found = _seconds(table[key])
        if found is not None and least_s <= found <= _LONGEST_S:
            return found
        self.problem(
            (*path, key), f"{reprlib.repr(table[key])} is no duration that can be meant here; write 30s, 15m or 1h30m"
        )
        return default_s


def spelled(path: KeyPath) -> str:
    """Return a key path as people write it."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def _seconds(value: object) -> float | None:
    """Return a duration; with a minus sign it is a time before the start."""
    if not isinstance(value, str):
        return None
    plain = value.removeprefix("-")
    parts = _DURATION.findall(plain)
    if not parts or "".join(number + unit for number, unit in parts) != plain:
        return None
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    return -seconds if value.startswith("-") else float(seconds)


def line_of(text: str, path: KeyPath) -> int:
    """Return the line of a key or, where the key is not there, of its table; 0 for the file as a whole."""
    indexed = len(path) > 1 and isinstance(path[1], int)
    table = path[:2] if indexed else path[:1]
    wanted = path[len(table) :]
    counts: dict[str, int] = {}
    here: KeyPath = ()
    found = 0
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[\[?)\s*([\w-]+)\s*\]", line)
        if header:
            name = header[2]
            here = (name,)
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                here = (name, counts[name])
            if here == table:
                found = number
        key = re.match(r"\s*([\w-]+)\s*=", line)
        if key and ((here == table and wanted[:1] == (key[1],)) or (here == () and path == (key[1],))):
            return number
    return found
