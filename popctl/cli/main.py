"""`popctl`: what it can do, and how a run ends. Every command lives in a module of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from popctl.cli import audit, check, launch, maintenance, orders, parts, status
from popctl.cli.exits import MEANINGS, Exit
from popctl.cli.options import write_json

_SIGPIPE_EXIT = 141

_COMMANDS: tuple[Callable[..., int], ...] = (
    launch.agent,
    check.check,
    status.status,
    status.why,
    status.health,
    status.whoami,
    orders.withdraw,
    orders.announce,
    orders.drain,
    orders.undrain,
    launch.replay,
)


def build_app() -> App:
    """Return the whole command line."""
    codes = "\n".join(f"- {int(code)}: {meaning}" for code, meaning in MEANINGS.items())
    app = App(
        name="popctl",
        version=version("popctl"),
        help="Keeps an anycast VPN honest: runs, asks and orders the agent of a PoP.",
        help_epilogue=f"Exit codes:\n\n{codes}",
    )
    for command in _COMMANDS:
        app.command(command)
    app.command(orders.state_app)
    app.command(maintenance.maintenance_app)
    app.command(audit.audit_app)
    # What belongs to a program of its own explains itself, too.
    app.command(launch.meter, help_flags=[], version_flags=[])
    app.command(launch.lab, help_flags=[], version_flags=[])
    for name, part in parts.present():
        app.command(part, name=name, help_flags=[], version_flags=[])
    return app


def run(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        found = build_app()(tokens, exit_on_error=False, print_error=True, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        if "--json" in tokens:
            write_json({"error": str(error), "exit": int(Exit.USAGE), "problem": None})
        return Exit.USAGE
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGPIPE_EXIT
    return found if isinstance(found, int) else Exit.OK


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
