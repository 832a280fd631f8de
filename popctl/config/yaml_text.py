"""Text -> plain tree. Owns YAML itself; knows no key of popctl.

Stricter than YAML 1.1 wherever that would silently change a value:

- `65535:0` is text. YAML 1.1 reads it as a number in base 60.
- `off`, `no` and `on` are text; only `true` and `false` are truth values. `010` is text, not 8.
- A key that stands twice is a problem, not a silent overwrite. Keys are text.
- No anchors, aliases or tags: they can make the tree endless, and named probe sets and profiles do their work.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import yaml

from popctl.config.errors import ConfigError, Problem

Tree: TypeAlias = dict[str, "Tree"] | list["Tree"] | str | int | float | bool | None

_MAX_DEPTH = 32
_HALF = re.compile("[\ud800-\udfff]")
_QUOTED = re.compile(r"'([^']*)'")


class _TextError(yaml.MarkedYAMLError):
    """A construct that popctl refuses although YAML has it."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the implicit types of YAML 1.2 and the refusals named above."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - replaces the parent's table

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.problems: list[Problem] = []
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node, refusing what popctl does not take."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it open
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _TextError(problem="anchors and aliases are not accepted", problem_mark=mark)
        if getattr(event, "tag", None) is not None:
            raise _TextError(problem="tags are not accepted", problem_mark=mark)
        if self._depth >= _MAX_DEPTH:
            raise _TextError(problem=f"nested deeper than {_MAX_DEPTH} levels", problem_mark=mark)
        self._depth += 1
        try:
            node = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        if isinstance(node, yaml.ScalarNode) and _HALF.search(node.value):
            raise _TextError(problem="half of a surrogate pair is not a character", problem_mark=mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, object]:  # type: ignore[override]  # noqa: FBT001, FBT002 - the parent's signature; keys are text here
        """Build a mapping; a repeated key or one that is not text becomes a problem and is left out."""
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                found = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a collection"
                self._refuse(key_node, found, "a key must be text", "put the key in quotes")
            elif key in mapping:
                self._refuse(key_node, key, "this key stands twice in one mapping", "remove one of the two")
            else:
                mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping

    def _refuse(self, node: yaml.Node, found: str, problem: str, remedy: str) -> None:
        path = _position(node.start_mark.line, node.start_mark.column)
        self.problems.append(
            Problem(path=path, found=ascii(found[:60])[1:-1].strip() or "nothing", problem=problem, remedy=remedy)
        )


def _resolve(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"), list(first))


_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
# At most 18 digits: longer ones are text, and so refused where a number is wanted, never an overflow.
_resolve("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", "-+0123456789")
_resolve("float", r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}", "-+0123456789")
_resolve("null", "~|null|Null|NULL|", "~nN")
_Loader.yaml_implicit_resolvers[""] = _Loader.yaml_implicit_resolvers["n"]


def read_tree(text: str, source: str) -> tuple[Tree, tuple[Problem, ...]]:
    """Return the tree of one YAML document, and the problems that leave the rest readable.

    Raises:
        ConfigError: the text is not YAML; it says in which line and column.
    """
    try:
        loader = _Loader(text)
        try:
            tree: Tree = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _position(mark.line, mark.column) if mark else "(document)"
        what = ": ".join(_without_words(text) for text in (error.context, error.problem) if text)
        raise ConfigError(source, (_malformed(where, what),)) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        where = _position(before.count("\n"), len(before) - before.rfind("\n") - 1)
        raise ConfigError(source, (_malformed(where, "a character that YAML does not allow"),)) from None
    return tree, tuple(loader.problems)


def _position(line: int, column: int) -> str:
    return f"line {line + 1}, column {column + 1}"


def _without_words(text: str) -> str:
    """Hide quoted words: one may be a secret, as in a password without quotes that starts with "*" or "!"."""
    return _QUOTED.sub(lambda match: match[0] if len(match[1]) <= 2 or match[1][0] == "<" else "'...'", text)  # noqa: PLR2004 - one character, perhaps escaped


def _malformed(where: str, what: str) -> Problem:
    return Problem(path=where, found="malformed YAML", problem=what, remedy="correct the text there or just before it")
