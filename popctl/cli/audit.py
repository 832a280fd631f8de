"""`popctl audit verify`: is the audit file what the agent wrote, line after line?"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclopts import App

from popctl.cli.exits import Exit
from popctl.cli.options import AsJson, printable, write_json
from popctl.wire.audit import encode
from popctl.wire.audit import verify as verify_lines

AUDIT_FILE = Path("/var/lib/popctl/audit.jsonl")

_LONGEST_LINE_BYTES = 2**20

audit_app = App(name="audit", help="The file that keeps who changed what, and why.")


@audit_app.command
def verify(file: Path = AUDIT_FILE, /, *, json: AsJson = False) -> int:
    """Check the chain of digests: exit 1 when a line was changed, taken out or put in. Missing last lines cannot show.

    Parameters
    ----------
    file
        The audit file, or one that was rotated away.
    json
        One JSON object on standard output.
    """
    try:
        with file.open("rb") as lines:
            found = verify_lines(lines)
    except OSError as error:
        sys.stderr.write(f"popctl: {printable(str(file))}: {error.strerror}\n")
        return Exit.NO_PERMISSION if isinstance(error, PermissionError) else Exit.USAGE
    if json:
        document = {"entries": found.entries, "unchained": found.unchained, "last": found.last}
        write_json({**document, "problems": list(found.problems)})
    else:
        sys.stdout.write("".join(f"{problem}\n" for problem in found.problems))
        old = f", the first {found.unchained} without a chain" if found.unchained else ""
        sys.stdout.write(
            f"{found.entries} entries{old}, {len(found.problems)} problems; last is {found.last or 'none'}\n"
        )
    return Exit.PROBLEMS if found.problems else Exit.OK


def append(file: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to an audit file that is there, after whatever line is the last one. Raises `OSError`."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # The agent takes the same lock: two lines may not name the same one before them.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        begin = max(size - _LONGEST_LINE_BYTES, 0)
        tail = os.pread(descriptor, size - begin, begin)
        mend = b"" if not tail or tail.endswith(b"\n") else b"\n"
        os.write(descriptor, mend + encode(entry, tail.rstrip(b"\n").rpartition(b"\n")[2]))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
