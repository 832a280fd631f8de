"""Files of the agent that outlive it, the host and a full disk, or are visibly not written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from popctl.config import kept_files

_MODE = 0o600


class StateError(Exception):
    """Base of everything that goes wrong with a file that the agent keeps."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"state file {self.path}: {self.problem}"


class StateWriteError(StateError):
    """The file could not be written. What it held before still stands, on disk and in memory."""


def replace_durably(path: Path, content: bytes) -> None:
    """Replace the file: whoever looks, or crashes, sees the old one or the new one.

    Raises:
        StateWriteError: nothing was changed.
    """
    temporary = kept_files.unfinished(path)
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
        raise StateWriteError(path, f"cannot write: {describe(error)}") from error


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


def describe(error: OSError) -> str:
    """Return what the system said, for a problem."""
    return f"{error.strerror or error} (errno {error.errno})"
