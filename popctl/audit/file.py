"""Lines of the audit file, added one at a time by whoever changes something, and its end for people.

Blocking: an event loop calls it in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from popctl.wire import audit
from popctl.wire.audit_api import AuditTail, tail

_MODE: Final = 0o600
_LONGEST_LINE_BYTES: Final = 2**20
"""Far more than before and after of every order of a PoP."""


def append(path: Path, entry: Mapping[str, Any], *, create: bool) -> None:
    """Add a line after whatever line is the last one, and sync it. Either all of it is there afterwards, or nothing.

    Raises:
        OSError: it cannot be written, or the path is a link; without `create`, also that there is no file.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    descriptor = os.open(path, flags, _MODE)
    try:
        # Agent and commands write here: two lines may not name the same one before them.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _append(descriptor, entry)
    finally:
        os.close(descriptor)


def last(path: Path, count: int) -> AuditTail:
    """Return the last lines; none where there is no file. Raises `OSError` for any other reason not to read it."""
    try:
        with path.open("rb") as file:
            begin = max(file.seek(0, os.SEEK_END) - _LONGEST_LINE_BYTES, 0)
            file.seek(begin)
            # The first one may be the end of a line.
            lines = file.read().splitlines()[1 if begin else 0 :]
    except FileNotFoundError:
        lines = []
    return tail(lines[-count:])


def _append(descriptor: int, entry: Mapping[str, Any]) -> None:
    size = os.fstat(descriptor).st_size
    begin = max(size - _LONGEST_LINE_BYTES, 0)
    found = os.pread(descriptor, size - begin, begin)
    # What a crash left unfinished stays as it is, on a line of its own: it must not swallow this one.
    mend = b"" if not found or found.endswith(b"\n") else b"\n"
    line = mend + audit.encode(entry, found.rstrip(b"\n").rpartition(b"\n")[2])
    try:
        _write_durably(descriptor, line)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _write_durably(descriptor: int, line: bytes) -> None:
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)
