"""nftables as values: wanted tables, what a listing shows, and the smallest transaction from one to the other.

Rules carry a comment `name digest` with the digest of their own text, so that a listing tells which rule stands where
without reading nft's expression trees, whose form differs between versions. Text, not JSON, is written: nft 1.0.6 has
no JSON form for `update @map { key : value }`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Any, TypeAlias

from popctl.wire.errors import UNREADABLE, WireError

Key: TypeAlias = int | str | tuple[int, int]
"""Number, address, or range (both ends included)."""
Value: TypeAlias = int | str | None
"""Number, name of a counter, `goto CHAIN`; None in a set."""
Elements: TypeAlias = Mapping[Key, Value]

_ELEMENTS_PER_LINE = 4096
_SET_NAME = re.compile(r"@([\w.-]+)")
"""In the text of a rule; raw payload such as `@th,64,32` looks alike and is no set of ours."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule and the name under which `explain` and `nft list` know it."""

    name: str
    text: str

    @property
    def comment(self) -> str:
        """Return what identifies this rule, and this wording of it, in a listing."""
        return f"{self.name} {blake2s(self.text.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain with its rules in order; `hook` only on a base chain."""

    name: str
    rules: tuple[Rule, ...]
    hook: tuple[str, int] | None = None
    """Hook and priority of a `type filter` chain with policy accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NftSet:
    """A set or map. `elements` None: the packet path fills it, and nobody else touches what is in it."""

    name: str
    key: str
    """Such as `type mark` or `typeof @th,128,32`."""
    value: str = ""
    """Type of a map's value as written after the colon; empty for a set."""
    flags: str = ""
    size: int = 0
    timeout_s: int = 0
    elements: Callable[[], Elements] | None
    """Called only when needed: rows have 65,536 of them."""

    @property
    def kind(self) -> str:
        """Return nft's word for it."""
        return "map" if self.value else "set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One nftables table of ours."""

    family: str
    name: str
    counters: tuple[str, ...]
    sets: tuple[NftSet, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSet:
    """A set or map as listed."""

    kind: str
    size: int
    timeout_s: int
    elements: Elements | None
    """None: not read, because they are known to be as wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenTable:
    """A table as listed; rules by their comments."""

    counters: frozenset[str] = frozenset()
    sets: Mapping[str, SeenSet] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hooks: Mapping[str, tuple[str, int]] = field(default_factory=dict)


def parse_listing(text: str) -> SeenTable:
    """Read `nft -j list table ...`.

    Raises:
        WireError: it is not that.
    """
    try:
        objects = json.loads(text)["nftables"]
        return _seen([next(iter(o.items())) for o in objects])
    except UNREADABLE as error:
        raise WireError("not a listing of nft -j", found=text) from error


def _seen(objects: list[tuple[str, dict[str, Any]]]) -> SeenTable:
    chains: dict[str, list[str]] = {}
    hooks, sets, counters = {}, {}, set()
    for kind, body in objects:
        match kind:
            case "chain":
                chains[body["name"]] = []
                if "hook" in body:
                    hooks[body["name"]] = (body["hook"], body["prio"])
            case "rule":
                chains[body["chain"]].append(body.get("comment", ""))
            case "set" | "map":
                sets[body["name"]] = SeenSet(
                    kind=kind,
                    size=body.get("size", 0),
                    timeout_s=body.get("timeout", 0),
                    elements=dict(_element(e) for e in body.get("elem", ())),
                )
            case "counter":
                counters.add(body["name"])
    return SeenTable(
        counters=frozenset(counters),
        sets=sets,
        chains={name: tuple(comments) for name, comments in chains.items()},
        hooks=hooks,
    )


def _element(element: Any) -> tuple[Key, Value]:  # noqa: ANN401 - whatever JSON holds
    if isinstance(element, list):
        return _key(element[0]), _value(element[1])
    return _key(element), None


def _key(key: Any) -> Key:  # noqa: ANN401 - whatever JSON holds
    if isinstance(key, dict) and "elem" in key:
        key = key["elem"]["val"]
    if isinstance(key, dict) and "range" in key:
        first, last = key["range"]
        return (first, last)
    return key if isinstance(key, int | str) else json.dumps(key)


def _value(value: Any) -> Value:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        ((verb, target),) = value.items()
        return f"{verb} {target['target']}"
    return value if isinstance(value, int | str) else json.dumps(value)


def transaction(wanted: Table, seen: SeenTable | None) -> str:
    """Return the smallest input for `nft -f -` that makes `wanted` true; empty when it is.

    What the packet path learnt stays, counters stay, unchanged chains and elements are not touched. A set of another
    kind, size or timeout is made anew, and what was learnt in it is lost: nftables changes none of these in place.
    """
    at = f"{wanted.family} {wanted.name}"
    before = seen or SeenTable()
    lines = [] if seen is not None else [f"add table {at}"]
    lines += [f"add counter {at} {c}" for c in wanted.counters if c not in before.counters]
    plain = [s for s in wanted.sets if s.value != "verdict"]
    verdicts = [s for s in wanted.sets if s.value == "verdict"]
    stale_chains = [c for c in before.chains if c not in {w.name for w in wanted.chains}]
    recreated = {s.name for s in wanted.sets if _other_shape(s, before.sets.get(s.name))}
    # A set cannot go while a rule names it, so those rules are written again too.
    changed = [c for c in wanted.chains if not _same_chain(c, before) or recreated & _named_sets(c)]
    lines += [
        f"flush chain {at} {name}" for name in (*stale_chains, *(c.name for c in changed)) if name in before.chains
    ]
    lines += [f"delete chain {at} {c.name}" for c in changed if before.hooks.get(c.name, c.hook) != c.hook]
    for one in plain:
        lines += _set_lines(at, one, before.sets.get(one.name))
    lines += [_chain_line(at, c) for c in changed]
    for one in verdicts:
        lines += _set_lines(at, one, before.sets.get(one.name))
    lines += [f'add rule {at} {c.name} {r.text} comment "{r.comment}"' for c in changed for r in c.rules]
    names = {s.name for s in wanted.sets}
    lines += [f"delete {s.kind} {at} {name}" for name, s in before.sets.items() if name not in names]
    lines += [f"delete chain {at} {name}" for name in stale_chains]
    lines += [f"delete counter {at} {c}" for c in sorted(before.counters - set(wanted.counters))]
    return "".join(f"{line}\n" for line in lines)


def new_set(at: str, wanted: NftSet) -> str:
    """Return the input for `nft -f -` that makes a set without its elements."""
    return _new_set_line(at, wanted) + "\n"


def new_elements(at: str, name: str, elements: Elements) -> str:
    """Return the input for `nft -f -` that adds elements to a set which is empty."""
    return "".join(f"{line}\n" for line in _element_lines(at, name, {}, elements))


def elements_transaction(family: str, table: str, old: Iterable[NftSet], new: Iterable[NftSet]) -> tuple[str, int]:
    """Return the input for `nft -f -` from the elements of `old` sets to those of `new`, and how many change."""
    before = {s.name: s for s in old}
    lines: list[str] = []
    count = 0
    for one in new:
        assert one.elements is not None  # noqa: S101 - sets of the packet path are never passed here
        previous = before[one.name].elements
        have, want = (previous() if previous else {}), one.elements()
        lines += _element_lines(f"{family} {table}", one.name, have, want)
        count += len(have.items() ^ want.items())
    return "".join(f"{line}\n" for line in lines), count


def _same_chain(chain: Chain, seen: SeenTable) -> bool:
    comments = tuple(rule.comment for rule in chain.rules)
    return seen.chains.get(chain.name) == comments and seen.hooks.get(chain.name) == chain.hook


def _named_sets(chain: Chain) -> set[str]:
    return {name for rule in chain.rules for name in _SET_NAME.findall(rule.text)}


def _other_shape(wanted: NftSet, seen: SeenSet | None) -> bool:
    return seen is not None and (seen.kind, seen.size, seen.timeout_s) != (wanted.kind, wanted.size, wanted.timeout_s)


def _chain_line(at: str, chain: Chain) -> str:
    if chain.hook is None:
        return f"add chain {at} {chain.name}"
    hook, priority = chain.hook
    return f"add chain {at} {chain.name} {{ type filter hook {hook} priority {priority}; policy accept; }}"


def _set_lines(at: str, wanted: NftSet, seen: SeenSet | None) -> list[str]:
    lines: list[str] = []
    if seen is not None and _other_shape(wanted, seen):
        lines.append(f"delete {seen.kind} {at} {wanted.name}")
        seen = None
    if seen is None:
        lines.append(_new_set_line(at, wanted))
    have = seen.elements if seen else {}
    if wanted.elements is not None and have is not None:
        lines += _element_lines(at, wanted.name, have, wanted.elements())
    return lines


def _new_set_line(at: str, wanted: NftSet) -> str:
    parts = [wanted.key + (f" : {wanted.value}" if wanted.value else "")]
    parts += [f"size {wanted.size}"] if wanted.size else []
    parts += [f"flags {wanted.flags}"] if wanted.flags else []
    parts += [f"timeout {wanted.timeout_s}s"] if wanted.timeout_s else []
    return f"add {wanted.kind} {at} {wanted.name} {{ {'; '.join(parts)}; }}"


def _element_lines(at: str, name: str, have: Elements, want: Elements) -> list[str]:
    gone = [_text(key) for key, value in have.items() if want.get(key, "absent") != value]
    new = [_text(key, value) for key, value in want.items() if have.get(key, "absent") != value]
    lines: list[str] = []
    for verb, texts in (("delete", gone), ("add", new)):
        for start in range(0, len(texts), _ELEMENTS_PER_LINE):
            part = texts[start : start + _ELEMENTS_PER_LINE]
            lines.append(f"{verb} element {at} {name} {{ {', '.join(part)} }}")
    return lines


def _text(key: Key, value: Value = None) -> str:
    left = f"{key[0]}-{key[1]}" if isinstance(key, tuple) else str(key)
    if value is None:
        return left
    return f'{left} : "{value}"' if isinstance(value, str) and not value.startswith("goto ") else f"{left} : {value}"
