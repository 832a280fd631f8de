"""Who ever had which id: permanent, persisted, never given to another backend while an old SA may carry it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from popctl.model.balancer import Marks, Problem, SpiPlan
from popctl.wire.errors import UNREADABLE, WireError
from popctl.wire.sealed import checksum, dump
from popctl.wire.spi_lint import successor_problems

FORMAT = 1


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
                    remedy="give it an id that was never used, or leave the id to nobody for so long",
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


class Place(NamedTuple):
    """Where a balancer lives among the host's rules and routing tables; `Marks` without what is in nftables only."""

    base: int
    table_base: int
    priority: int

    @classmethod
    def of(cls, marks: Marks) -> Place:
        """Return the place of these marks."""
        return cls(marks.base, marks.table_base, marks.priority)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What SAs that live today were made under: a configuration that contradicts it loses or misleads clients."""

    pop: int
    plan: SpiPlan | None
    ids: tuple[Tenure, ...] = ()
    marks: tuple[Place, ...] = ()
    """Where this agent's balancer may have left rules and routes on the host: to be removed when it moves or goes."""


def succeed(
    before: Record | None,
    *,
    pop: int,
    plan: SpiPlan | None,
    configured: Mapping[int, str],
    now_unix_s: float,
    longest_sa_s: float,
    place: Place | None = None,
) -> tuple[Record, tuple[Problem, ...]]:
    """Return the record after this configuration, and why the configuration must be refused; then it is as before."""
    plan = plan or (before.plan if before else None)
    ids, problems = update(before.ids if before else (), configured, now_unix_s=now_unix_s, longest_sa_s=longest_sa_s)
    found = list(problems)
    if before is not None:
        if before.pop != pop:
            remedy = (
                "ids are permanent: write the old one back, or remove the record when no SA of it can live any more"
            )
            found.append(Problem(key="pop.id", text=f"is {pop}, and SAs carry {before.pop}", remedy=remedy))
        if before.plan is not None and plan is not None:
            found += successor_problems(before.plan, plan)
    if before is not None and found:
        return before, tuple(found)
    places = {*(before.marks if before else ()), *([place] if place else ())}
    return Record(pop=pop, plan=plan, ids=ids, marks=tuple(sorted(places))), tuple(found)


def leftovers(record: Record, place: Place | None) -> tuple[Place, ...]:
    """Return where rules and routes of an earlier configuration may still be, when the balancer is at `place` now."""
    return tuple(one for one in record.marks if one != place)


def encode(record: Record) -> bytes:
    """Return the whole file: one encoding per record, so that anything else is damage."""
    payload = {
        "pop": record.pop,
        "plan": None if record.plan is None else asdict(record.plan),
        "marks": [one._asdict() for one in sorted(record.marks)],
        "ids": [asdict(tenure) for tenure in sorted(record.ids, key=lambda one: one.id)],
    }
    return dump({"checksum": checksum(payload), "format": FORMAT, **payload})


def decode(content: bytes) -> Record:
    """Read what `encode` wrote. Raises `WireError`."""
    try:
        document = json.loads(content)
        record = Record(
            pop=document["pop"],
            plan=None if document["plan"] is None else SpiPlan(**document["plan"]),
            ids=tuple(Tenure(**entry) for entry in document["ids"]),
            marks=tuple(Place(**entry) for entry in document["marks"]),
        )
        same = _typed(record) and encode(record) == content
    except UNREADABLE as error:
        raise WireError(f"truncated, overwritten or edited: {error}", found=content) from error
    if not same or len({tenure.id for tenure in record.ids}) != len(record.ids):
        raise WireError("not the bytes that popctl writes", found=content)
    return record


def _typed(record: Record) -> bool:
    ids = all(type(one.id) is int and isinstance(one.name, str) for one in record.ids)
    numbers = (record.pop, *(number for place in record.marks for number in place))
    return ids and all(type(number) is int for number in numbers)
