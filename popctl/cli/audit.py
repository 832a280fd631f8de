"""`popctl audit`: who ordered what, and is the audit file what the agent wrote, line after line?"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from cyclopts import App

from popctl.cli.client import UnreadableError
from popctl.cli.exits import Exit
from popctl.cli.options import THE_AGENT, Agent, AsJson, as_document, attempt, printable, write_json
from popctl.wire.audit import verify as verify_lines
from popctl.wire.audit_api import AuditLine

AUDIT_FILE = Path("/var/lib/popctl/audit.jsonl")

audit_app = App(name="audit", help="The file that keeps who changed what, and why.")


@audit_app.command(name="list")
def list_lines(*, last: int = 20, agent: Agent = THE_AGENT) -> int:
    """List the last orders, taken and refused: when, who, what, why.

    Parameters
    ----------
    last
        How many, 500 at most.
    """

    def work() -> int:
        found = agent.client().audit(last)
        if agent.json:
            write_json(as_document(found))
        else:
            sys.stdout.write("".join(f"{printable(_line(one))}\n" for one in found.lines) or "no orders yet\n")
            if found.unreadable:
                sys.stderr.write(f"popctl: {found.unreadable} lines cannot be read; see popctl audit verify\n")
        return Exit.OK

    return attempt(work, as_json=agent.json)


def _line(one: AuditLine) -> str:
    moment = datetime.fromtimestamp(one.unix_s, UTC).isoformat(sep=" ", timespec="seconds")
    return f"{moment}  {one.owner}: {one.action} {one.what}; {one.reason or 'no reason given'}"


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

    def work() -> int:
        try:
            with file.open("rb") as lines:
                found = verify_lines(lines)
        except OSError as error:
            raise UnreadableError(file, error) from error
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

    return attempt(work, as_json=json)
