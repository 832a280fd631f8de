"""Orders of operators on disk: they outlive the agent, the host and a full disk, or are visibly not accepted.

Text first (pure), file second. A file is believed only if it is, byte for byte, what this module would have written;
anything else is corrupt, is kept, and keeps the agent from serving until an operator has looked at it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Any

from popctl.model.instant import NEVER, Instant
from popctl.model.observation import DrainEnd, Intent, IntentKind
from popctl.wire.errors import WireError
from popctl.wire.sealed import checksum, dump

FORMAT = 4
_WITHOUT_THEN = 1
"""The format before drains had an end: still read, never written."""
_WITHOUT_FORCED = 2
"""The format before orders could expire or be forced: still read, never written."""
_WITHOUT_REFUSE_NEW = 3
"""The format before a withdraw could refuse new SAs: still read, never written."""
_MODE = 0o600
_KEYS = frozenset(("kind", "target", "reason", "owner", "created_unix_s", "drain_s"))
_KEYS_OF = {
    _WITHOUT_THEN: _KEYS,
    _WITHOUT_FORCED: _KEYS | {"then"},
    _WITHOUT_REFUSE_NEW: _KEYS | {"then", "forced", "expires_unix_s"},
    FORMAT: _KEYS | {"then", "forced", "expires_unix_s", "refuse_new"},
}


class StateError(Exception):
    """Base of everything that goes wrong with the state file."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"state file {self.path}: {self.problem}"


class StateCorruptError(StateError):
    """The file is there and cannot be believed: orders may be forgotten. It is left as it is."""


class StateWriteError(StateError):
    """The file could not be written. What it held before still stands, on disk and in memory."""


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
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
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


class IntentStore:
    """The state file and what it holds. Blocking: call `load`, `save` and `reset` off the event loop, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.intents: tuple[Intent, ...] = ()
        """What the file holds."""
        self.corrupt: StateCorruptError | None = None
        """Why the file cannot be believed, if so; until `reset` nothing can be saved."""

    def load(self, *, unix_s: float, now: Instant) -> tuple[Intent, ...]:
        """Read the file. A file that is not there holds no orders: the first start.

        Raises:
            StateCorruptError: it is there and cannot be read or believed.
        """
        try:
            stored = decode_state(self.path.read_bytes())
        except FileNotFoundError:
            stored = ()
        except (OSError, WireError) as error:
            problem = error.problem if isinstance(error, WireError) else _describe(error)
            self.corrupt = StateCorruptError(self.path, problem)
            raise self.corrupt from error
        self.corrupt = None
        self.intents = tuple(with_deadline(intent, unix_s=unix_s, now=now) for intent in stored)
        return self.intents

    def save(self, intents: tuple[Intent, ...]) -> None:
        """Make `intents` all that the file holds, atomically and durably.

        Raises:
            StateCorruptError: the file cannot be believed and may hold orders; it is not overwritten.
            StateWriteError: nothing was changed.
        """
        if self.corrupt is not None:
            raise self.corrupt
        replace_durably(self.path, encode_state(intents))
        self.intents = intents

    def reset(self, *, unix_s: float) -> Path | None:
        """Begin anew with no orders. Returns where the file that could not be believed is kept, if it was there.

        Raises:
            StateWriteError: nothing was changed.
        """
        kept = self.path.with_name(f"{self.path.name}.corrupt-{int(unix_s)}")
        try:
            # A second name, not a new one: were the write to fail now, the next start must still find what is corrupt.
            os.link(self.path, kept)
            found = True
        except FileNotFoundError:
            found = False
        except OSError as error:
            raise StateWriteError(self.path, f"cannot keep the old file as {kept}: {_describe(error)}") from error
        replace_durably(self.path, encode_state(()))
        self.corrupt = None
        self.intents = ()
        return kept if found else None


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


def replace_durably(path: Path, content: bytes) -> None:
    """Replace the file: whoever looks, or crashes, sees the old one or the new one.

    Raises:
        StateWriteError: nothing was changed.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        before = path.read_bytes() if path.exists() else None
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _write_durably(temporary, content)
            temporary.replace(path)
            _sync_directory(directory, path, before)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StateWriteError(path, f"cannot write: {_describe(error)}") from error


def _write_durably(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: int, path: Path, before: bytes | None) -> None:
    """Make the renaming durable, or take it back: an order that is refused must not come back with the next start."""
    try:
        os.fsync(directory)
    except OSError:
        with contextlib.suppress(OSError):
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)
        raise


def _describe(error: OSError) -> str:
    return f"{error.strerror or error} (errno {error.errno})"
