"""`popctl`: what it can do, and how a run ends. Every command lives in a module of its own."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError

from popctl.cli import audit, check, launch, maintenance, orders, parts, status
from popctl.cli.exits import MEANINGS, Exit
from popctl.cli.options import fail

_SIGPIPE_EXIT = 141
_DEBUG = "POPCTL_DEBUG"
_MOST_TOLD = 300
"""Characters of an error that nobody foresaw."""

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
    as_json = "--json" in tokens
    try:
        found = build_app()(tokens, exit_on_error=False, print_error=True, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        # It is on standard error already.
        return fail(str(error), Exit.USAGE, as_json=True) if as_json else Exit.USAGE
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGPIPE_EXIT
    except KeyboardInterrupt:
        return fail("interrupted", Exit.INTERRUPTED, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last boundary: whatever is left is a bug
        return _bug(error, as_json=as_json)
    return found if isinstance(found, int) else Exit.OK


def _bug(error: Exception, *, as_json: bool) -> Exit:
    """Say in one line what no command foresaw: a traceback helps nobody at 3 a.m., and its exit code 1 is a finding."""
    if os.environ.get(_DEBUG):
        sys.stderr.write("".join(traceback.format_exception(error)))
    what = " ".join(f"{type(error).__name__}: {error}".split())[:_MOST_TOLD]
    remedy = f"report it, with what {_DEBUG}=1 in the environment shows"
    return fail(f"a bug of popctl: {what}; remedy: {remedy}", Exit.REFUSED, as_json=as_json)


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
