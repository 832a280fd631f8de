"""`popctl audit verify`: is the audit file what the agent wrote, line after line?"""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from popctl.cli.exits import Exit
from popctl.cli.options import AsJson, printable, write_json
from popctl.wire.audit import verify as verify_lines

AUDIT_FILE = Path("/var/lib/popctl/audit.jsonl")

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
        code = Exit.NO_PERMISSION if isinstance(error, PermissionError) else Exit.USAGE
        problem = f"{printable(str(file))}: {error.strerror}"
        if json:
            write_json({"error": problem, "exit": int(code), "problem": None})
        else:
            sys.stderr.write(f"popctl: {problem}\n")
        return code
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
