"""The JSON of an order to the agent, read strictly: every problem at once, unknown keys refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from popctl.model.observation import DrainEnd, IntentKind
from popctl.wire.agent_api import FieldProblem
from popctl.wire.errors import WireError

MAX_REASON_CHARACTERS = 500
MAX_NAME_CHARACTERS = 100
MAX_DRAIN_S = 7 * 86400.0
MAX_EXPIRY_S = 366 * 86400.0
"""Longer than a year is a typing error."""
EVERY_SERVICE = "*"
"""As the target of a withdraw: all services of the PoP at once, or none."""

_SHOWN_CHARACTERS = 80
_SHOWN_PROBLEMS = 20
"""A body of thousands of wrong keys must not become an answer of megabytes."""
_KEYS = ("kind", "target", "reason", "drain_s", "then", "expires_s", "force", "refuse_if_held", "refuse_new")

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an operator asks for. Who asks is told by the socket, never by the body."""

    kind: IntentKind
    target: str
    reason: str
    drain_s: float = 0.0
    """WITHDRAW: graceful shutdown (RFC 8326) is announced this long first. DRAIN: until its deadline; 0 is none."""
    then: DrainEnd = DrainEnd.WAIT
    """DRAIN only: what the deadline means."""
    expires_s: float | None = None
    """WITHDRAW only: from so many seconds on, more than 0, it means nothing any more; None is until it is lifted."""
    force: bool = False
    """DRAIN: go on although a service loses its minimum of healthy backends. WITHDRAW: whatever the guard says of the
    PoPs that are left."""
    refuse_if_held: bool = False
    """WITHDRAW only: nothing is ordered if the guard would hold it now. Without it the order stands, held."""
    refuse_new: bool = False
    """WITHDRAW only: the balancer refuses new SAs while the service drains; those that are up stay."""


class OrderError(WireError):
    """The body is no order. Carries every problem that was found."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems

    def __str__(self) -> str:
        return self.problem


def encode_order(order: Order) -> bytes:
    """Return the body of `POST /v1/intents`."""
    body = {"kind": order.kind, "target": order.target, "reason": order.reason}
    options = {"drain_s": order.drain_s, "then": order.then, "force": order.force}
    if order.expires_s is not None:
        options["expires_s"] = order.expires_s
    if order.refuse_if_held:
        # Left out otherwise: an older agent refuses keys that it does not know.
        options["refuse_if_held"] = True
    if order.refuse_new:
        options["refuse_new"] = True
    return json.dumps(body | options, separators=(",", ":")).encode()


def decode_order(body: bytes) -> Order:
    """Read the body of `POST /v1/intents`.

    Raises:
        OrderError: it is no order.
    """
    document = _document(body)
    problems = (*_key_problems(document), *_value_problems(document))
    if problems:
        raise OrderError(problems[:_SHOWN_PROBLEMS])
    return Order(
        kind=IntentKind(document["kind"]),
        target=document["target"],
        reason=document["reason"].strip(),
        drain_s=float(document.get("drain_s", 0.0)),
        then=DrainEnd(document.get("then", DrainEnd.WAIT)),
        expires_s=float(document["expires_s"]) if "expires_s" in document else None,
        force=document.get("force", False),
        refuse_if_held=document.get("refuse_if_held", False),
        refuse_new=document.get("refuse_new", False),
    )


def decode_end(written: Sequence[str], key: str = "?expires_s") -> float | None:
    """Read in how many seconds an order ends, as it stands in a query; None, where nothing stands, is no end.

    Raises:
        OrderError: it is no such time.
    """
    if not written:
        return None
    found = _number(written[0]) if len(written) == 1 else None
    problems = tuple(_expiry_problems(found, None, IntentKind.WITHDRAW))
    if problems:
        shown = show(written[0] if len(written) == 1 else list(written))
        raise OrderError(tuple(replace(problem, key=key, found=shown) for problem in problems))
    return float(str(found))


def early_end(expires_s: float, key: str) -> FieldProblem:
    """Say that an order would end before the service is withdrawn."""
    problem = "comes before the drain is over: the service would never be withdrawn"
    return FieldProblem(key=key, found=show(expires_s), problem=problem, remedy="make it longer")


def reason_problem(reason: object, key: str = "reason") -> FieldProblem | None:
    """Return what is wrong with the reason of an order, if anything. It ends up in logs, files and terminals."""
    remedy = f"say why, in 1 to {MAX_REASON_CHARACTERS} printable characters on one line"
    if not isinstance(reason, str) or not reason.strip():
        return FieldProblem(key=key, found=show(reason), problem="an order needs a reason", remedy=remedy)
    if len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
        return FieldProblem(key=key, found=show(reason), problem="too long, or not printable", remedy=remedy)
    return None


def show(value: object) -> str:
    """Return the beginning of a found value, safe to print."""
    try:
        text = json.dumps(value, default=repr)
    except RecursionError:
        return "(nested too deeply)"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _document(body: bytes) -> JsonObject:
    try:
        document = json.loads(body, object_pairs_hook=_without_duplicates)
    except OrderError:
        raise
    except (ValueError, RecursionError) as error:
        found = show(body[:_SHOWN_CHARACTERS].decode(errors="replace"))
        raise OrderError((_whole(found, f"not JSON ({type(error).__name__})"),)) from error
    if not isinstance(document, dict):
        raise OrderError((_whole(show(document), "not a JSON object"),))
    return document


def _whole(found: str, problem: str) -> FieldProblem:
    return FieldProblem(
        key="(body)", found=found, problem=problem, remedy='send {"kind": ..., "target": ..., "reason": ...}'
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    document = dict(pairs)
    if len(document) != len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        problem = FieldProblem(key=show(twice), found="two of it", problem="ambiguous", remedy="send each key once")
        raise OrderError((problem,))
    return document


def _key_problems(document: JsonObject) -> Iterator[FieldProblem]:
    for key in document:
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            yield FieldProblem(
                key=show(key), found="an unknown key", problem="not part of an order", remedy=f"use {known}"
            )


def _value_problems(document: JsonObject) -> Iterator[FieldProblem]:
    kind, target = document.get("kind"), document.get("target")
    if kind not in tuple(IntentKind):
        kinds = " or ".join(IntentKind)
        yield FieldProblem(key="kind", found=show(kind), problem="not a kind of order", remedy=f"use {kinds}")
    if not isinstance(target, str) or not 0 < len(target) <= MAX_NAME_CHARACTERS or not target.isprintable():
        yield FieldProblem(
            key="target",
            found=show(target),
            problem="not a name",
            remedy="name a service (withdraw) or backend (drain)",
        )
    problem = reason_problem(document.get("reason"))
    if problem is not None:
        yield problem
    yield from _option_problems(document, kind)


def _option_problems(document: JsonObject, kind: object) -> Iterator[FieldProblem]:
    drain_s, force = document.get("drain_s", 0.0), document.get("force", False)
    if not _is_duration(drain_s):
        remedy = f"seconds from 0 to {MAX_DRAIN_S:.0f}"
        yield FieldProblem(key="drain_s", found=show(drain_s), problem="not a drain time", remedy=remedy)
    yield from _end_problems(document.get("then", DrainEnd.WAIT), drain_s, kind)
    if "expires_s" in document:
        yield from _expiry_problems(document["expires_s"], drain_s, kind)
    for key, why_not in _ONLY_FOR_WITHDRAW.items():
        yield from _flag_problems(key, document.get(key, False), kind, why_not)
    if not isinstance(force, bool):
        yield FieldProblem(key="force", found=show(force), problem="not true or false", remedy="use true or false")


def _expiry_problems(expires_s: object, drain_s: object, kind: object) -> Iterator[FieldProblem]:
    if not _is_duration(expires_s, MAX_EXPIRY_S):
        remedy = f"seconds above 0, up to {MAX_EXPIRY_S:.0f}"
        yield FieldProblem(key="expires_s", found=show(expires_s), problem="not an expiry", remedy=remedy)
    elif kind == IntentKind.DRAIN:
        remedy = "leave it out: a drain has a deadline, drain_s"
        yield FieldProblem(key="expires_s", found=show(expires_s), problem="only for withdraw", remedy=remedy)
    elif not expires_s:
        # Whoever reckons an end and is late by a moment means anything but "for ever".
        remedy = "leave it out to let the order stand until it is lifted"
        yield FieldProblem(key="expires_s", found=show(expires_s), problem="past", remedy=remedy)
    elif _is_duration(drain_s) and float(str(expires_s)) <= float(str(drain_s)):
        yield early_end(float(str(expires_s)), "expires_s")


_ONLY_FOR_WITHDRAW = {
    "refuse_if_held": "no guard holds a drain",
    "refuse_new": "a backend that drains takes nothing new anyway",
}
"""Flags, and what makes each void for a drain."""


def _flag_problems(key: str, flag: object, kind: object, why_not: str) -> Iterator[FieldProblem]:
    """Check a flag that only a withdraw has; `why_not` says what makes it void for a drain."""
    if not isinstance(flag, bool):
        yield FieldProblem(key=key, found=show(flag), problem="not true or false", remedy="use true or false")
    elif flag and kind == IntentKind.DRAIN:
        yield FieldProblem(key=key, found="true", problem="only for withdraw", remedy=f"leave it out: {why_not}")


def _end_problems(then: object, drain_s: object, kind: object) -> Iterator[FieldProblem]:
    if then not in tuple(DrainEnd):
        ends = " or ".join(DrainEnd)
        yield FieldProblem(key="then", found=show(then), problem="not an end of a drain", remedy=f"use {ends}")
    elif then == DrainEnd.CUT and kind == IntentKind.WITHDRAW:
        remedy = "leave it out: a withdraw has no backend to cut"
        yield FieldProblem(key="then", found=show(then), problem="only for drain", remedy=remedy)
    elif then == DrainEnd.CUT and not drain_s:
        remedy = "say when with drain_s (--for), or leave it out"
        yield FieldProblem(key="then", found=show(then), problem="a cut needs a deadline", remedy=remedy)


def _number(text: str) -> object:
    try:
        return json.loads(text) if text == text.strip() else None
    except (ValueError, RecursionError):
        return None


def _is_duration(value: object, most_s: float = MAX_DRAIN_S) -> bool:
    # bool is an int in Python; an int too big for a float cannot be checked for being finite.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= most_s and math.isfinite(value)
