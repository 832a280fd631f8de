"""Who ever had which id: permanent, persisted, never given to another backend while an old SA may carry it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from popctl.model.balancer import Problem
from popctl.wire.errors import WireError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """One backend's hold on an id."""

    id: int
    name: str
    retired_unix_s: float | None = None
    """Wall time: it must outlive reboots. None while the backend is configured."""


def update(
    registry: Iterable[Tenure], configured: Mapping[int, str], *, now_unix_s: float, longest_sa_s: float
) -> tuple[tuple[Tenure, ...], tuple[Problem, ...]]:
    """Return the registry after a configuration is loaded, and why the configuration must be refused.

    With problems the registry is returned unchanged. An id is free `longest_sa_s` after its backend was taken out.
    """
    before = {tenure.id: tenure for tenure in registry}
    problems = []
    for number, name in sorted(configured.items()):
        held = before.get(number)
        if held is None or held.name == name:
            continue
        left = longest_sa_s - (now_unix_s - (held.retired_unix_s if held.retired_unix_s is not None else now_unix_s))
        if held.retired_unix_s is None or left > 0:
            problems.append(
                Problem(
                    key=f"backends.{name}.id",
                    text=f"{number} belongs to {held.name!r}, whose SAs may live for another {max(0.0, left):.0f} s",
                    remedy="give it an id that was never used, or wait",
                )
            )
    if problems:
        return tuple(before.values()), tuple(problems)
    after = dict(before)
    for number, tenure in before.items():
        if number not in configured and tenure.retired_unix_s is None:
            after[number] = replace(tenure, retired_unix_s=now_unix_s)
    after |= {number: Tenure(id=number, name=name) for number, name in configured.items()}
    return tuple(after[number] for number in sorted(after)), ()


def encode(registry: Iterable[Tenure]) -> str:
    """Return the registry as JSON, one line per id."""
    return json.dumps({"ids": [asdict(tenure) for tenure in registry]}, indent=1) + "\n"


def decode(text: str) -> tuple[Tenure, ...]:
    """Read what `encode` wrote. Raises `WireError`."""
    try:
        found = tuple(Tenure(**entry) for entry in json.loads(text)["ids"])
    except (ValueError, KeyError, TypeError) as error:
        raise WireError("not a registry of ids", found=text) from error
    if not _whole(found):
        raise WireError("not a registry of ids", found=text)
    return found


def _whole(found: tuple[Any, ...]) -> bool:
    typed = all(type(tenure.id) is int and isinstance(tenure.name, str) for tenure in found)
    return typed and len({tenure.id for tenure in found}) == len(found)
