"""Tree -> well-formed parts, and what is wrong with the rest.

The file is validated part by part (a section, a neighbour, a backend, ...), so that the parts which are well-formed can
be checked for their meaning although others are not: every problem is reported at once.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticCustomError

from popctl.config import schema, schema_api, schema_balancer, schema_capacity, schema_fleet
from popctl.config.errors import HIDDEN, KeyPath, Problem, has_credentials, render_path
from popctl.config.fields import read_name
from popctl.config.schema_probes import LIST_TAG, NAME_TAG, ProbeSet, Profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

    from popctl.config.yaml_text import Tree

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_NOT_SECRET = (("balancer", "key"), ("tls", "key"), ("meter", "key"))
_OF_KEY = "[key]"
"""Stands in pydantic's paths behind a key that is wrong."""
_LOCATORS = ("url", "etcd", "vici")
"""Where people write passwords before an `@`, and more than one way to write what is no URL."""
_SECRET_WORDS = ("md5", "psk", "secret", "password", "key")


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """A well-formed part and where it stands."""

    path: KeyPath
    value: T

    @property
    def key(self) -> str:
        """The last key of the path: the name of a service, a probe set or a profile."""
        return str(self.path[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What of the file is well-formed. A part that is not is absent."""

    pop: schema.Identity | None
    neighbors: tuple[Placed[schema.Neighbor], ...]
    services: tuple[Placed[schema.Service], ...]
    allowlist: schema.Allowlist | None
    backends: tuple[Placed[schema.Backend], ...]
    probes: Mapping[str, Placed[ProbeSet]]
    profiles: Mapping[str, Placed[Profile]]
    spi_plan: schema_balancer.SpiPlan | None
    sizes: schema_balancer.Sizes | None
    balancer: schema_balancer.Balancer | None
    timing: schema.Timing | None
    lease: schema.Lease | None
    state: schema.State | None
    paths: schema.Paths | None
    api: schema_api.Api | None
    fleet: schema_fleet.Fleet | None
    load: schema_capacity.Load | None
    broken: frozenset[str]
    """Sections with a problem: nothing may be said about what is absent from them."""


class Dissection:
    """Collects problems while the parts that `document` knows are taken out of the tree."""

    def __init__(self, tree: Tree, document: type[BaseModel] = schema.Document) -> None:
        self._known = document.model_fields
        self.tree = tree if isinstance(tree, dict) else {}
        self.is_mapping = isinstance(tree, dict)
        self.problems: list[Problem] = []
        self.broken: set[str] = set()
        if not self.is_mapping:
            self._note((), show(tree), "the document is not a mapping", "start with the key `pop:`")
        for name in self.tree:
            if name not in self._known:
                remedy = suggestion(name, self._known, "key")
                self._note((name,), show(name), "unknown key", remedy)

    def _note(self, path: KeyPath, found: str, problem: str, remedy: str) -> None:
        self.problems.append(Problem(path=render_path(path), found=found, problem=problem, remedy=remedy))
        if path:
            self.broken.add(str(path[0]))

    def section(self, name: str, model: type[M]) -> M | None:
        """Validate a section that is one mapping."""
        if name in self.tree:
            return self._part((name,), model, self.tree[name])
        if self._absent(name):
            return None
        return model()

    def items(self, name: str, model: type[M]) -> tuple[Placed[M], ...]:
        """Validate a section that is a list, item by item."""
        raw = self.tree.get(name)
        if name not in self.tree:
            self._absent(name)
            return ()
        if not isinstance(raw, list) or not raw:
            self._note((name,), show(raw), "is not a list with at least one item", "write items that start with '- '")
            return ()
        found = [((name, index), self._part((name, index), model, item)) for index, item in enumerate(raw)]
        return tuple(Placed(path, value) for path, value in found if value is not None)

    def entries(self, name: str, model: type[M]) -> tuple[Placed[M], ...]:
        """Validate a section that is a mapping of names, entry by entry."""
        raw = self.tree.get(name)
        if name not in self.tree:
            self._absent(name)
            return ()
        required = self._known[name].is_required()
        if not isinstance(raw, dict) or (required and not raw):
            problem = "is not a mapping of names" + (" with at least one entry" if required else "")
            self._note((name,), show(raw), problem, "write entries like `vpn:`")
            return ()
        found = [
            ((name, key), self._part((name, key), model, item)) for key, item in raw.items() if self._named(name, key)
        ]
        return tuple(Placed(path, value) for path, value in found if value is not None)

    def _absent(self, name: str) -> bool:
        field = self._known[name]
        if field.is_required() and self.is_mapping:
            self._note((name,), "nothing", "is required", f"add it: {_phrase(field.description)}")
        return field.is_required()

    def _named(self, section: str, key: str) -> bool:
        try:
            read_name(key)
        except PydanticCustomError as error:
            context = error.context or {}
            self._note((section, key), show(key), str(context["problem"]), str(context["remedy"]))
            return False
        return True

    def _part(self, path: KeyPath, model: type[M], raw: Tree) -> M | None:
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            self.problems.append(_translate(path, model, detail))
            self.broken.add(str(path[0]))
        return _without(model, raw, {detail["loc"][0] for detail in details if detail["loc"]})


def _without(model: type[M], raw: Tree, flawed: Iterable[object]) -> M | None:
    """Validate again without the flawed keys; None when one of them has no default to stand in for it."""
    if not isinstance(raw, dict) or not flawed:
        return None
    try:
        return model.model_validate({key: value for key, value in raw.items() if key not in set(flawed)})
    except ValidationError:
        return None


def take_apart(tree: Tree) -> tuple[Parts, tuple[Problem, ...]]:
    """Return the well-formed parts of the tree, and every problem of shape."""
    cut = Dissection(tree)
    parts = Parts(
        pop=cut.section("pop", schema.Identity),
        neighbors=cut.items("neighbors", schema.Neighbor),
        services=cut.entries("services", schema.Service),
        allowlist=cut.section("allowlist", schema.Allowlist),
        backends=cut.items("backends", schema.Backend),
        probes={part.key: part for part in cut.entries("probes", ProbeSet)},
        profiles={part.key: part for part in cut.entries("profiles", Profile)},
        # `null` says the same as nothing.
        spi_plan=None if cut.tree.get("spi_plan") is None else cut.section("spi_plan", schema_balancer.SpiPlan),
        sizes=cut.section("sizes", schema_balancer.Sizes),
        balancer=cut.section("balancer", schema_balancer.Balancer),
        timing=cut.section("timing", schema.Timing),
        lease=cut.section("lease", schema.Lease),
        state=cut.section("state", schema.State),
        paths=cut.section("paths", schema.Paths),
        api=None if cut.tree.get("api") is None else cut.section("api", schema_api.Api),
        fleet=None if cut.tree.get("fleet", "none") == "none" else cut.section("fleet", schema_fleet.Fleet),
        load=None if cut.tree.get("load") is None else cut.section("load", schema_capacity.Load),
        broken=frozenset(cut.broken),  # last: the lines above fill it
    )
    return parts, tuple(cut.problems)


def suggestion(word: str, known: Iterable[str], what: str) -> str:
    """Return the remedy for an unknown word: the nearest known one, or all of them."""
    candidates = list(known)
    longer = [candidate for candidate in candidates if candidate.startswith(word)]
    nearest = longer or difflib.get_close_matches(word, candidates, n=1)
    if nearest:
        return f"did you mean {nearest[0]}?"
    return f"use one of the known {what}s: {', '.join(candidates)}" if candidates else f"there is no {what} to name"


def show(value: object) -> str:
    """Return a short text of a value, on one line."""
    match value:
        case None | "":
            return "nothing"
        case dict():
            return "a mapping" if value else "an empty mapping"
        case list():
            return "a list" if value else "an empty list"
        case bool():
            return str(value).lower()
        case str() if has_credentials(value):
            return HIDDEN
        case str():
            text = value if value.isprintable() else ascii(value)[1:-1]
            return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - a short line
        case _:
            return str(value)


def _translate(path: KeyPath, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    """Turn one error of pydantic into a problem in the words of this project."""
    loc = _without_tags(detail["loc"])
    context: Mapping[str, Any] = detail.get("ctx", {})
    kind = detail["type"]
    found = show(detail["input"])
    named = any(isinstance(part, str) and word in part.lower() for part in loc[-2:] for word in _SECRET_WORDS)
    located = "@" in str(detail["input"]) and any(part in _LOCATORS for part in loc[-2:])
    if (named and loc[-2:] not in _NOT_SECRET) or located:
        found = HIDDEN
    if kind == "popctl":
        found, problem, remedy = context["found"] or found, context["problem"], context["remedy"]
    elif kind == "extra_forbidden":
        # The value of an unknown key may be a secret under a mistyped name.
        found, problem = show(loc[-1]), "unknown key"
        remedy = suggestion(str(loc[-1]), _keys_at(model, loc[:-1]), "key")
    elif kind == "missing":
        found, problem, remedy = "nothing", "is required", f"add it: {_description(model, loc)}"
    else:
        if kind == "int_type" and isinstance(detail["input"], str):
            found = f'"{found}"'
        problem, remedy = _plain_words(kind, context, detail["msg"])
    return Problem(path=render_path(path + loc), found=found, problem=problem, remedy=remedy)


def _without_tags(loc: KeyPath) -> KeyPath:
    """Drop the marks of the two forms of `probes`, and of a key that is flawed itself.

    Elsewhere the same text is a key that somebody wrote.
    """
    marks = {index + 1 for index, part in enumerate(loc) if part == "probes"}
    if loc[-1:] == (_OF_KEY,):
        loc = loc[:-1]
    return tuple(part for index, part in enumerate(loc) if index not in marks or part not in {NAME_TAG, LIST_TAG})


def _plain_words(kind: str, context: Mapping[str, Any], message: str) -> tuple[str, str]:
    words = {
        "int_type": ("is not a whole number", "write digits without quotes"),
        "bool_type": ("is not a truth value", "write true or false"),
        "list_type": ("is not a list", "write [a, b] or items that start with '- '"),
        "dict_type": ("is not a mapping", "write `key: value` lines below it"),
        "model_type": ("is not a mapping", "write `key: value` lines below it"),
        "too_short": ("is empty", "write at least one item"),
        "greater_than_equal": ("is too small", f"use {context.get('ge')} or more"),
        "less_than_equal": ("is too large", f"use {context.get('le')} or less"),
        "literal_error": ("is not one of the accepted values", f"use {context.get('expected')}"),
    }
    return words.get(kind, (message.lower(), "see docs/configuration.md"))


def _model_at(model: type[BaseModel], loc: KeyPath) -> type[BaseModel] | None:
    """Walk from a model along keys and indexes to the model that stands there."""
    annotation: object = model
    for part in loc:
        if isinstance(part, int):
            continue
        here = _model_in(annotation)
        field = here.model_fields.get(part) if here else None
        if field is None:
            return None
        annotation = field.annotation
    return _model_in(annotation)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the first model inside an annotation such as `list[Annotated[Model, ...]] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _model_in(annotation.model_fields["root"].annotation)
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return annotation
    arguments = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return next((model for argument in arguments if (model := _model_in(argument))), None)


def _keys_at(model: type[BaseModel], loc: KeyPath) -> Iterable[str]:
    here = _model_at(model, loc)
    return here.model_fields if here else ()


def _description(model: type[BaseModel], loc: KeyPath) -> str:
    here = _model_at(model, loc[:-1])
    field = here.model_fields.get(str(loc[-1])) if here else None
    return _phrase(field.description if field else None)


def _phrase(description: str | None) -> str:
    return (description or "see docs/configuration.md").rstrip(".")
