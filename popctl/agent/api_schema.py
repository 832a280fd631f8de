"""JSON Schema of the values that the API tells, read off the dataclasses and their docstrings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


class Schemas:
    """Collects the schemas of all dataclasses that it meets."""

    def __init__(self) -> None:
        self.by_name: dict[str, dict[str, Any]] = {}

    def of(self, kind: Any) -> dict[str, Any]:  # noqa: ANN401 - any annotation
        """Return the schema of an annotation; dataclasses become references.

        Raises:
            TypeError: no JSON is known for it.
        """
        origin, arguments = get_origin(kind), get_args(kind)
        if kind in _PLAIN:
            return {"type": _PLAIN[kind]}
        if origin in (UnionType, Union):
            found = [self.of(argument) for argument in arguments]
            if all("type" in one and len(one) == 1 for one in found):
                return {"type": [one["type"] for one in found]}
            return {"anyOf": found}
        if origin is tuple and len(arguments) == 2 and arguments[1] is ...:  # noqa: PLR2004 - tuple[X, ...]
            return {"type": "array", "items": self.of(arguments[0])}
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._reference(kind)
        raise TypeError(f"no JSON is known for {kind}")

    def _reference(self, kind: type) -> dict[str, Any]:
        if kind.__name__ not in self.by_name:
            self.by_name[kind.__name__] = {}  # taken, whatever it refers to
            self.by_name[kind.__name__] = self._object(kind)
        return {"$ref": f"#/components/schemas/{kind.__name__}"}

    def _object(self, kind: type) -> dict[str, Any]:
        hints, texts = get_type_hints(kind), _descriptions(kind)
        properties = {}
        for one in dataclasses.fields(kind):
            text = texts.get(one.name)
            properties[one.name] = self.of(hints[one.name]) | ({"description": text} if text else {})
        # Every key is always there: the encoder leaves none out.
        return {
            "type": "object",
            "description": inspect.getdoc(kind) or "",
            "properties": properties,
            "required": list(properties),
        }


def _descriptions(kind: type) -> dict[str, str]:
    """Return what stands below each field in the source; nothing where there is no source."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    body = next(node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
