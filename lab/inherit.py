"""containerlab's text substitution and inheritance, as pure functions.

A key of a node comes from the node, else its group, else its kind, else the defaults. Maps are merged key by key,
lists of commands and binds are joined from the general to the particular.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MAPS = frozenset({"env", "labels", "sysctls"})
LISTS = frozenset({"exec", "binds", "cap-add", "devices"})

_VARIABLE = re.compile(
    r"\$\$"
    r"|\$\{(?P<braced>[A-Za-z_]\w*)(?:(?P<operator>:-|:=|:\+|-|=|\+)(?P<word>[^}]*))?\}"
    r"|\$(?P<plain>[A-Za-z_]\w*)"
)


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace `$v`, `${v}`, `${v:-d}`, `${v:=d}`, `${v-d}`, `${v=d}`, `${v:+o}` and `$$`; unset is empty."""

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        if name is None:
            return "$"
        found, operator, word = env.get(name), match["operator"] or "", match["word"] or ""
        # With the colon an empty value counts as unset, as in the shell.
        is_set = bool(found) if operator.startswith(":") else found is not None
        if operator.endswith("+"):
            return word if is_set else ""
        return (found or "") if is_set or not operator else word

    return _VARIABLE.sub(value, text)


def merge(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the layers of one node, the most general first. A null value says nothing."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if value is None:
                continue
            if key in MAPS and isinstance(value, Mapping) and isinstance(merged.get(key, {}), Mapping):
                merged[key] = {**merged.get(key, {}), **value}
            elif key in LISTS and isinstance(value, list) and isinstance(merged.get(key, []), list):
                merged[key] = _join(key, [*merged.get(key, []), *value])
            else:
                merged[key] = value
    return merged


def _join(key: str, items: list[Any]) -> list[Any]:
    """Drop duplicates; of two binds with one target the more particular one wins, in the first one's place."""
    unique: dict[object, Any] = {}
    for item in items:
        parts = item.split(":") if key == "binds" and isinstance(item, str) else []
        unique[parts[1] if len(parts) > 1 else str(item)] = item
    return list(unique.values())
