"""Lines of the audit file: JSON, each with the digest of the line before it, so that none can be changed or taken out.

What the chain cannot show is that lines are missing at the end, or that a whole file was replaced; keep the digest of
the last line elsewhere for that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from popctl.wire.errors import UNREADABLE

PREVIOUS = "previous"
FIRST = ""
"""What stands for the digest of the line before the first one."""


def encode(entry: Mapping[str, Any], before: bytes) -> bytes:
    """Return the line of `entry` after the line `before`, which is empty at the beginning of a file."""
    return json.dumps({**entry, PREVIOUS: digest(before)}, separators=(",", ":")).encode() + b"\n"


def digest(line: bytes) -> str:
    """Return what the next line says of this one; newlines do not count."""
    bare = line.rstrip(b"\n")
    return f"sha256:{sha256(bare).hexdigest()}" if bare else FIRST


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found in a file."""

    entries: int
    unchained: int
    """Lines at the beginning that an older popctl wrote: nothing can be said of them."""
    problems: tuple[str, ...]
    last: str
    """Digest of the last line."""


def verify(lines: Iterable[bytes]) -> Verified:
    """Check the chain. A file that was begun anew starts with `FIRST`."""
    before, entries, unchained = b"", 0, 0
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        entries += 1
        found = _previous(line)
        if found is None and unchained == number - 1 and line.startswith(b"{"):
            unchained += 1
        elif found is None:
            problems.append(f"line {number}: not a line of the audit file")
        elif found != digest(before):
            problems.append(f"line {number}: the line before it is not the one that it was written after")
        if not line.endswith(b"\n"):
            problems.append(f"line {number}: has no end")
        before = line
    return Verified(entries=entries, unchained=unchained, problems=tuple(problems), last=digest(before))


def _previous(line: bytes) -> str | None:
    try:
        found = json.loads(line).get(PREVIOUS)
    except UNREADABLE:
        return None
    return found if isinstance(found, str) else None
