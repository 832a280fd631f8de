"""The file of operators' orders: one encoding for each set of orders, so that anything else is damage.

Four formats are read, and the newest is written. Wall time in the file, instants of this run in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from popctl.model.instant import NEVER, Instant
from popctl.model.observation import DrainEnd, Intent, IntentKind
from popctl.wire.errors import UNREADABLE, WireError
from popctl.wire.sealed import checksum, dump

FORMAT = 4
_WITHOUT_THEN = 1
"""The format before drains had an end: still read, never written."""
_WITHOUT_FORCED = 2
"""The format before orders could expire or be forced: still read, never written."""
_WITHOUT_REFUSE_NEW = 3
"""The format before a withdraw could refuse new SAs: still read, never written."""
_KEYS = frozenset(("kind", "target", "reason", "owner", "created_unix_s", "drain_s"))
_KEYS_OF = {
    _WITHOUT_THEN: _KEYS,
    _WITHOUT_FORCED: _KEYS | {"then"},
    _WITHOUT_REFUSE_NEW: _KEYS | {"then", "forced", "expires_unix_s"},
    FORMAT: _KEYS | {"then", "forced", "expires_unix_s", "refuse_new"},
}


def encode_state(intents: Iterable[Intent], written: int = FORMAT) -> bytes:
    """Return the whole file. The one encoding of these orders in this format: equal orders give equal bytes."""
    ordered = sorted(intents, key=lambda intent: (intent.kind, intent.target))
    payload = [_unstructure(intent, _KEYS_OF[written]) for intent in ordered]
    return dump({"checksum": checksum(payload), "format": written, "intents": payload})


def decode_state(content: bytes) -> tuple[Intent, ...]:
    """Read the whole file; `drain_until` is left for `with_deadline`.

    Raises:
        WireError: `content` is not what `encode_state` of this version or one before it returns.
    """
    try:
        document = json.loads(content)
        intents = _believe(document)
        canonical = encode_state(intents, document["format"])
    except UNREADABLE as error:
        raise WireError(f"truncated, overwritten or edited: {error}", found=content) from error
    if canonical != content:
        # Also catches what JSON itself forgives: white space, a second key of the same name, other escapes.
        raise WireError("not the bytes that popctl writes", found=content)
    return intents


def with_deadline(intent: Intent, *, unix_s: float, now: Instant) -> Intent:
    """Turn the drain time, counted in wall time in the file, into a deadline of this run.

    `unix_s` and `now` are the same moment on both clocks. What is left never exceeds the ordered drain time, so a wall
    clock that was set back while the agent was away cannot keep a service announced for longer than ordered.
    """
    left_s = min(max(intent.created_unix_s + intent.drain_s - unix_s, 0.0), intent.drain_s)
    expires = intent.expires_unix_s
    return replace(
        intent,
        drain_until=now + left_s if left_s else 0.0,
        expires=NEVER if expires is None else now + max(expires - unix_s, 0.0),
    )


def _believe(document: dict[str, Any]) -> tuple[Intent, ...]:
    """Check the envelope and read the orders. Raises what reading strange values raises."""
    written = document["format"]
    # True and 1.0 are equal to 1, and would come back as they are.
    if type(written) is not int or written not in _KEYS_OF:
        raise ValueError(f"format {written!r}, this popctl reads {FORMAT}")
    keys = _KEYS_OF[written]
    if document["checksum"] != checksum(document["intents"]):
        raise ValueError("the checksum does not match")
    return tuple(_structure(item, keys) for item in document["intents"])


def _unstructure(intent: Intent, keys: AbstractSet[str]) -> dict[str, Any]:
    plain = {key: getattr(intent, key) for key in keys}
    if plain.get("expires_unix_s") is not None:
        plain["expires_unix_s"] = float(plain["expires_unix_s"])
    return plain | {"created_unix_s": float(intent.created_unix_s), "drain_s": float(intent.drain_s)}


def _structure(item: dict[str, Any], keys: AbstractSet[str]) -> Intent:
    if item.keys() != keys:
        raise ValueError("not the keys of an order")
    for key in ("target", "reason", "owner"):
        if not isinstance(item[key], str):
            raise TypeError(key)
    for key in ("forced", "refuse_new"):
        if not isinstance(item.get(key, False), bool):
            raise TypeError(key)
    return Intent(
        kind=IntentKind(item["kind"]),
        target=item["target"],
        reason=item["reason"],
        owner=item["owner"],
        created_unix_s=float(item["created_unix_s"]),
        drain_s=float(item["drain_s"]),
        then=DrainEnd(item.get("then", DrainEnd.WAIT)),
        forced=item.get("forced", False),
        refuse_new=item.get("refuse_new", False),
        expires_unix_s=None if item.get("expires_unix_s") is None else float(item["expires_unix_s"]),
    )
