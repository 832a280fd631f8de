"""Who ever had which id: permanent, persisted, never given to another backend while an old SA may carry it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

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


class Replaced(NamedTuple):
    """A plan that another one took the place of: SAs that were made under it live on."""

    plan: SpiPlan
    unix_s: float
    """When; wall time, as that of a `Tenure`."""


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
    replaced: tuple[Replaced, ...] = ()
    """Plans before this one; one is forgotten when it is no longer in force and none of its SAs can live."""
    ids: tuple[Tenure, ...] = ()
    marks: tuple[Place, ...] = ()
    """Where this agent's balancer may have left rules and routes on the host: to be removed when it moves or goes."""


def succeed(
    before: Record | None,
    *,
    pop: int,
    plans: Sequence[SpiPlan],
    configured: Mapping[int, str],
    now_unix_s: float,
    longest_sa_s: float,
    place: Place | None = None,
) -> tuple[Record, tuple[Problem, ...]]:
    """Return the record after this configuration, and why the configuration must be refused; then it is as before.

    `plans` are those in force together, newest first.
    """
    plan = plans[0] if plans else before.plan if before else None
    replaced = _replaced(before, plan, now_unix_s) if before else ()
    ids, problems = update(before.ids if before else (), configured, now_unix_s=now_unix_s, longest_sa_s=longest_sa_s)
    found = list(problems)
    if before is not None:
        if before.pop != pop:
            remedy = (
                "ids are permanent: write the old one back, or remove the record when no SA of it can live any more"
            )
            found.append(Problem(key="pop.id", text=f"is {pop}, and SAs carry {before.pop}", remedy=remedy))
        # Without a plan nothing is steered by one.
        missing = [one for one in replaced if plans and one.plan not in plans]
        found += [p for one in missing for p in _lost(one, plans[0], longest_sa_s - (now_unix_s - one.unix_s))]
    if before is not None and found:
        return before, tuple(found)
    places = {*(before.marks if before else ()), *([place] if place else ())}
    # What is missing here is over, or this would be refused.
    kept = tuple(one for one in replaced if not plans or one.plan in plans)
    return Record(pop=pop, plan=plan, replaced=kept, ids=ids, marks=tuple(sorted(places))), tuple(found)


def _replaced(before: Record, plan: SpiPlan | None, now_unix_s: float) -> tuple[Replaced, ...]:
    """Return the plans of the record whose place `plan` has now."""
    gone = [] if before.plan in (None, plan) else [Replaced(before.plan, now_unix_s)]
    return (*gone, *(one for one in before.replaced if one.plan != plan))


def _lost(one: Replaced, plan: SpiPlan, left_s: float) -> tuple[Problem, ...]:
    """Say whose SAs would be misread, or not be read at all, now that a plan is in force no more."""
    if left_s <= 0:
        return ()
    text = f"lacks {one.plan}, whose SAs may live for another {left_s:.0f} s"
    remedy = "write that plan there: without it, they are taken from their backends"
    missing = Problem(key="spi_plan.previous", text=text, remedy=remedy)
    return successor_problems(one.plan, plan) or (missing,)


def leftovers(record: Record, place: Place | None) -> tuple[Place, ...]:
    """Return where rules and routes of an earlier configuration may still be, when the balancer is at `place` now."""
    return tuple(one for one in record.marks if one != place)


def encode(record: Record) -> bytes:
    """Return the whole file: one encoding per record, so that anything else is damage."""
    payload = {
        "pop": record.pop,
        "plan": None if record.plan is None else asdict(record.plan),
        # Left out when there is none: so it was before plans could be replaced.
        **(
            {"replaced": [asdict(one.plan) | {"unix_s": one.unix_s} for one in record.replaced]}
            if record.replaced
            else {}
        ),
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
            replaced=tuple(_replaced_of(entry) for entry in document.get("replaced", ())),
            ids=tuple(Tenure(**entry) for entry in document["ids"]),
            marks=tuple(Place(**entry) for entry in document["marks"]),
        )
        same = _typed(record) and encode(record) == content
    except UNREADABLE as error:
        raise WireError(f"truncated, overwritten or edited: {error}", found=content) from error
    if not same or len({tenure.id for tenure in record.ids}) != len(record.ids):
        raise WireError("not the bytes that popctl writes", found=content)
    return record


def _replaced_of(entry: dict[str, Any]) -> Replaced:
    return Replaced(SpiPlan(**{key: value for key, value in entry.items() if key != "unix_s"}), entry["unix_s"])


def _typed(record: Record) -> bool:
    ids = all(type(one.id) is int and isinstance(one.name, str) for one in record.ids)
    numbers = (record.pop, *(number for place in record.marks for number in place))
    times = all(type(one.unix_s) in (int, float) for one in record.replaced)
    return ids and times and all(type(number) is int for number in numbers)
