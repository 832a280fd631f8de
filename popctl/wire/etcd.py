"""etcd 3.4's JSON gateway: request bodies out, answers and watch lines in. Sans-IO; only `WireError` leaves it.

The gateway writes bytes as base64 and 64-bit numbers as text, and leaves out whatever is false, zero or empty.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from popctl.wire.errors import UNREADABLE, WireError

MAX_LINE_BYTES = 64 * 2**20
"""Of one message of a watch: 1000 records are about 1 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValue:
    """One key of a range, or one event of a watch."""

    key: bytes
    value: bytes | None
    """None: deleted."""
    created: int
    """Revision that created the key; 0 in a deletion."""
    modified: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """All keys of a prefix at one revision."""

    revision: int
    found: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TxnAnswer:
    """How a transaction ended."""

    succeeded: bool
    revision: int
    found: tuple[KeyValue, ...]
    """Of the range in the other branch, when a comparison failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchMessage:
    """One line of a watch."""

    revision: int
    events: tuple[KeyValue, ...]
    canceled: str = ""
    """Why the store ended the watch; empty while it goes on."""


class Keys:
    """Where a fleet lives in the key space: `/popctl/v1/FLEET/pop/NAME` and `/popctl/v1/FLEET/fence`."""

    def __init__(self, fleet: str) -> None:
        self._base = f"/popctl/v1/{fleet}/".encode()
        self._pops = self._base + b"pop/"
        self.fence = self._base + b"fence"

    def pop(self, name: str) -> bytes:
        """Return the key of a PoP's record."""
        return self._pops + name.encode()

    def name(self, key: bytes) -> str | None:
        """Return which PoP a key belongs to; None for the fence and for what is not ours."""
        if not key.startswith(self._pops):
            return None
        return key[len(self._pops) :].decode("utf-8", "replace")

    def all(self) -> dict[str, str]:
        """Return a range over everything of the fleet; `0` is the byte after `/`."""
        return {"key": _text(self._base), "range_end": _text(self._base[:-1] + b"0")}


def grant(ttl_s: float) -> bytes:
    """Ask for a lease; etcd counts whole seconds."""
    return _body({"TTL": str(max(round(ttl_s), 1))})


def lease(number: int) -> bytes:
    """Name a lease, to extend or to revoke it."""
    return _body({"ID": str(number)})


def read_all(keys: Keys) -> bytes:
    """Read everything of the fleet, linearizable."""
    return _body(keys.all())


def watch(keys: Keys, after: int) -> bytes:
    """Watch everything of the fleet after a revision."""
    return _body({"create_request": {**keys.all(), "start_revision": str(after + 1)}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Txn:
    """Compare, then put the own record (and the fence); or else read everything."""

    pop: str
    value: bytes
    lease: int
    replaces: int
    fence: int | None
    renew_fence: bool
    pins: tuple[tuple[str, int], ...]


def txn(keys: Keys, wanted: Txn) -> bytes:
    """Ask for a transaction."""
    compare = [_modified(keys.pop(wanted.pop), wanted.replaces)]
    if wanted.fence is not None:
        compare.append(_modified(keys.fence, wanted.fence))
    compare += [_created(keys.pop(name), created) for name, created in wanted.pins]
    puts = [{"key": _text(keys.pop(wanted.pop)), "value": _text(wanted.value), "lease": str(wanted.lease)}]
    if wanted.renew_fence:
        puts.append({"key": _text(keys.fence), "value": _text(wanted.pop.encode())})
    return _body(
        {
            "compare": compare,
            "success": [{"request_put": put} for put in puts],
            "failure": [{"request_range": keys.all()}],
        }
    )


def _modified(key: bytes, revision: int) -> dict[str, str]:
    return {"key": _text(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def _created(key: bytes, revision: int) -> dict[str, str]:
    return {"key": _text(key), "target": "CREATE", "result": "EQUAL", "create_revision": str(revision)}


def granted(answer: bytes) -> int:
    """Read the number of a new lease."""
    with _reading(answer) as document:
        return int(document["ID"])


def seconds_left(answer: bytes) -> int:
    """Read what a renewed lease has left; 0 means that it has ended."""
    with _reading(answer) as document:
        return int(document["result"].get("TTL", 0))


def found(answer: bytes) -> Range:
    """Read a range."""
    with _reading(answer) as document:
        return Range(revision=_revision(document), found=_key_values(document.get("kvs", ())))


def ended(answer: bytes) -> TxnAnswer:
    """Read how a transaction ended."""
    with _reading(answer) as document:
        ranges = [one["response_range"] for one in document.get("responses", ()) if "response_range" in one]
        return TxnAnswer(
            succeeded=document.get("succeeded") is True,
            revision=_revision(document),
            found=_key_values(ranges[0].get("kvs", ())) if ranges else (),
        )


def error(answer: bytes) -> str:
    """Read what an error answer says, as well as it can be read."""
    try:
        document = json.loads(answer)
        return str(document["error"])
    except UNREADABLE:
        return answer[:200].decode("utf-8", "replace")


class WatchLines:
    """Bytes of a watch in, messages out, however the bytes were cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[WatchMessage]:
        """Take bytes and yield the messages that are complete. Raises `WireError`."""
        self._buffer += received
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if line.strip():
                yield _watched(line)
        if len(self._buffer) > MAX_LINE_BYTES:
            raise WireError("a watch message without an end", found=bytes(self._buffer[:64]))


def _watched(line: bytes) -> WatchMessage:
    with _reading(line) as document:
        if "error" in document:
            return WatchMessage(revision=0, events=(), canceled=str(document["error"])[:200])
        result = document["result"]
        events = tuple(_event(event) for event in result.get("events", ()))
        return WatchMessage(revision=_revision(result), events=events, canceled=_canceled(result))


def _canceled(result: Mapping[str, Any]) -> str:
    if not result.get("canceled"):
        return ""
    compacted = result.get("compact_revision")
    return f"compacted at {compacted}" if compacted else str(result.get("cancel_reason", "cancelled"))


def _event(event: Mapping[str, Any]) -> KeyValue:
    item = event["kv"]
    if event.get("type") == "DELETE":
        return KeyValue(key=_bytes(item["key"]), value=None, created=0, modified=int(item["mod_revision"]))
    return _key_value(item)


def _key_values(items: Iterable[Mapping[str, Any]]) -> tuple[KeyValue, ...]:
    return tuple(_key_value(item) for item in items)


def _key_value(item: Mapping[str, Any]) -> KeyValue:
    return KeyValue(
        key=_bytes(item["key"]),
        value=_bytes(item.get("value", "")),
        created=int(item["create_revision"]),
        modified=int(item["mod_revision"]),
    )


def _revision(document: Mapping[str, Any]) -> int:
    return int(document["header"].get("revision", 0))


@contextmanager
def _reading(content: bytes) -> Iterator[dict[str, Any]]:
    try:
        yield dict(json.loads(content))
    except UNREADABLE as problem:
        raise WireError(f"not an answer of etcd: {type(problem).__name__}: {problem}", found=content) from problem


def _body(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _text(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def _bytes(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is not base64")
    return b64decode(text, validate=True)
