"""What `GET /v1/audit` answers: the last lines of the audit file, for people. Encoded and decoded by `agent_api`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from popctl.wire.errors import UNREADABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One line: an order that was taken or refused."""

    unix_s: float
    owner: str
    action: str
    """`place`, `extend`, `lift`, `reset`, `expire`, `refused`, or `doctor`: kernel settings were mended."""
    what: str
    """Kind and targets; of a refused order what could be read of it, and why it was refused."""
    reason: str | None
    """As the owner gave it; null where it could not be read."""
    after: tuple[str, ...]
    """Kind and target of the orders in force afterwards; of a refused order up to 20 of those that stood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTail:
    """The end of the file. Whether the chain holds is for `popctl audit verify`, which reads all of it."""

    lines: tuple[AuditLine, ...]
    """Oldest first."""
    unreadable: int
    """Lines among the last ones that are none of ours."""


def tail(lines: Iterable[bytes]) -> AuditTail:
    """Return what stands in `lines`, whatever stands there."""
    given = list(lines)
    found = tuple(one for one in map(_line, given) if one is not None)
    return AuditTail(lines=found, unreadable=len(given) - len(found))


def _line(text: bytes) -> AuditLine | None:
    try:
        entry = json.loads(text)
        return AuditLine(
            unix_s=float(entry["unix_s"]),
            owner=str(entry["owner"]),
            action=str(entry["action"]),
            what=_what(entry),
            reason=None if entry["reason"] is None else str(entry["reason"]),
            after=tuple(_order(one) for one in entry.get("after", entry.get("before", ()))),
        )
    except UNREADABLE:
        return None


def _what(entry: dict[str, Any]) -> str:
    if entry["action"] == "refused":
        asked = entry.get("asked") or {}
        tried = f"{asked['kind']} {asked['target']}" if "kind" in asked else entry["request"]
        return f"{tried}: {entry['code']}: {entry['refusal']}"
    if "commands" in entry:
        return "; ".join(map(str, entry["commands"]))
    targets = " ".join(map(str, entry.get("targets", ())))
    return f"{entry.get('kind', '')} {targets}{' (forced)' if entry.get('forced') else ''}".strip()


def _order(one: object) -> str:
    return f"{one['kind']} {one['target']}" if isinstance(one, dict) else str(one)
