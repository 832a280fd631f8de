"""The one error of this boundary: everything that is wrong with a configuration, at once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands in the document: keys and list indexes from the top."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


HIDDEN = "a value that is not shown"
"""Stands for a value that is, or may hold, a secret."""


def render_path(path: KeyPath) -> str:
    """Write a key path as people write it: `services.vpn.prefixes[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + _render_key(part)
    return text or "(document)"


def _render_key(key: str) -> str:
    if _PLAIN_KEY.fullmatch(key):
        return key
    return "(a key that is not shown)" if has_credentials(key) else json.dumps(key[:60])


def has_credentials(text: str) -> bool:
    """Whether it may be a URL with a password in it, well-formed or not."""
    return "://" in text and "@" in text


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, where it is, and what to do about it."""

    path: str
    """Key path, or line and column where the text is not YAML."""
    found: str
    """Never a secret: values of secret keys and of unknown keys are not shown."""
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: found {self.found}: {self.problem}; remedy: {self.remedy}"


class ConfigError(Exception):
    """The configuration cannot be used. Carries every problem; nothing else leaves `popctl.config`."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(f"{self.source}: {problem}" for problem in self.problems)
