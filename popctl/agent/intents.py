"""Orders of operators on disk: they outlive the agent, the host and a full disk, or are visibly not accepted.

A file is believed only if it is, byte for byte, what popctl would have written; anything else is corrupt, is kept, and
keeps the agent from serving until an operator has looked at it.
"""

from __future__ import annotations

import os
from pathlib import Path

from popctl.agent.durable import StateError, StateWriteError, describe, replace_durably
from popctl.model.instant import Instant
from popctl.model.observation import Intent
from popctl.wire.errors import WireError
from popctl.wire.intents_file import decode_state, encode_state, with_deadline


class StateCorruptError(StateError):
    """The file is there and cannot be believed: orders may be forgotten. It is left as it is."""


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
            problem = error.problem if isinstance(error, WireError) else describe(error)
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
            raise StateWriteError(self.path, f"cannot keep the old file as {kept}: {describe(error)}") from error
        replace_durably(self.path, encode_state(()))
        self.corrupt = None
        self.intents = ()
        return kept if found else None
