"""Reading single values of a topology file: each reader returns a typed value and records what is wrong with it.

A reader never raises: after a problem it returns a harmless value, so that one pass finds every mistake.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.errors import Problem
from lab.plan import Bind, Healthcheck, Stage

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_INTERFACE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}")
_BIND_PARTS = (2, 3)


class Fields:
    """Readers that share one list of problems."""

    def __init__(self, *, base: Path) -> None:
        """Relative paths in the file start at `base`."""
        self._base = base
        self.problems: list[Problem] = []

    def problem(self, key: str, found: object, remedy: str) -> None:
        """Record one mistake."""
        self.problems.append(Problem(key=key, found=found, remedy=remedy))

    def refuse_unknown(self, body: Mapping[str, Any], known: frozenset[str], key: str) -> None:
        """Every key outside `known` is a problem."""
        for unknown in sorted(set(map(str, body)) - known):
            self.problem(f"{key}.{unknown}".lstrip("."), unknown, "remove it: this driver does not know the key")

    def mapping(self, value: object, key: str) -> Mapping[str, Any]:
        """Return a map, or an empty one."""
        if isinstance(value, Mapping):
            return value
        self.problem(key, value, "write a map")
        return {}

    def sequence(self, value: object, key: str) -> Sequence[Any]:
        """Return a list, or an empty one."""
        if isinstance(value, list):
            return value
        self.problem(key, value, "write a list")
        return []

    def text(self, value: object, key: str) -> str:
        """Return a string."""
        if isinstance(value, str):
            return value
        self.problem(key, value, "write a string")
        return ""

    def name(self, value: object, key: str) -> str:
        """Return a name of a lab or node: it becomes part of paths and of namespace names."""
        if isinstance(value, str) and _NAME.fullmatch(value):
            return value
        self.problem(key, value, "use letters, digits, dots, dashes; begin with a letter or digit")
        return ""

    def interface(self, value: object, key: str) -> str:
        """Return an interface name: at most 15 characters on Linux."""
        if isinstance(value, str) and _INTERFACE.fullmatch(value) and value != "lo":
            return value
        self.problem(key, value, "use an interface name of at most 15 characters, such as eth1")
        return ""

    def number(self, value: object, key: str) -> int:
        """Return a whole number that is not negative."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self.problem(key, value, "write a whole number")
        return 0

    def seconds(self, value: object, key: str) -> float:
        """Return a time in seconds."""
        return float(self.number(value, key))

    def strings(self, value: object, key: str) -> dict[str, str]:
        """Return a map of plain values as strings; booleans the way YAML writes them."""
        found = {}
        for name, item in self.mapping(value, key).items():
            if isinstance(item, bool):
                found[str(name)] = str(item).lower()
            elif isinstance(item, (str, int, float)):
                found[str(name)] = str(item)
            else:
                self.problem(f"{key}.{name}", item, "write a plain value")
        return found

    def sysctls(self, value: object, key: str) -> dict[str, str]:
        """Return kernel parameters. Only those below `net.` belong to a node; any other would change the host."""
        found = self.strings(value, key)
        for name in [name for name in found if not name.startswith("net.")]:
            self.problem(f"{key}.{name}", found.pop(name), "set only net.*: the rest is shared with the host")
        return found

    def words(self, value: object, key: str) -> tuple[str, ...]:
        """Split a command line into words."""
        try:
            return tuple(shlex.split(self.text(value, key)))
        except ValueError:
            self.problem(key, value, "close the quotes")
            return ()

    def commands(self, value: object, key: str) -> tuple[tuple[str, ...], ...]:
        """Return command lines as argument vectors."""
        lines = enumerate(self.sequence(value, key))
        return tuple(words for index, line in lines if (words := self.words(line, f"{key}[{index}]")))

    def binds(self, value: object, key: str) -> tuple[Bind, ...]:
        """Return binds with absolute sources that exist."""
        found = (self._bind(item, f"{key}[{index}]") for index, item in enumerate(self.sequence(value, key)))
        return tuple(bind for bind in found if bind)

    def _bind(self, value: object, key: str) -> Bind | None:
        parts = value.split(":") if isinstance(value, str) else []
        if len(parts) not in _BIND_PARTS or not parts[1].startswith("/") or parts[2:] not in ([], ["ro"], ["rw"]):
            self.problem(key, value, 'write "source:/target" or "source:/target:ro"')
            return None
        source = (self._base / Path(parts[0]).expanduser()).resolve()
        if not source.exists():
            self.problem(key, str(source), "name a file or directory that exists")
            return None
        return Bind(source=source, target=parts[1], read_only=parts[2:] == ["ro"])

    def stage(self, value: object, key: str) -> Stage | None:
        """Return a stage."""
        try:
            return Stage(str(value))
        except ValueError:
            self.problem(key, value, f"use one of {', '.join(Stage)}")
            return None

    def healthcheck(self, value: object, key: str) -> Healthcheck | None:
        """Return a health check, with Docker's defaults where the file says nothing."""
        if value is None:
            return None
        body = self.mapping(value, key)
        self.refuse_unknown(body, frozenset({"test", "interval", "timeout", "retries", "start-period"}), key)
        test = [self.text(word, f"{key}.test") for word in self.sequence(body.get("test"), f"{key}.test")]
        match test:
            case ["CMD", *argv] if argv:
                pass
            case ["CMD-SHELL", line]:
                argv = ["sh", "-c", line]
            case _:
                self.problem(f"{key}.test", body.get("test"), "write [CMD, program, ...] or [CMD-SHELL, line]")
                return None
        return Healthcheck(
            argv=tuple(argv),
            interval_s=self.seconds(body.get("interval", 30), f"{key}.interval"),
            timeout_s=self.seconds(body.get("timeout", 30), f"{key}.timeout"),
            retries=self.number(body.get("retries", 3), f"{key}.retries"),
            start_period_s=self.seconds(body.get("start-period", 0), f"{key}.start-period"),
        )
