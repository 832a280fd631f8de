"""The commands that only ask: status, why, health and whoami."""

from __future__ import annotations

import sys

from popctl.cli.exits import Exit
from popctl.cli.options import THE_AGENT, Agent, as_document, attempt, printable, write_json
from popctl.cli.progress import not_connected


def status(*, agent: Agent = THE_AGENT) -> int:
    """Show the PoP: services and why they are announced or not, routes, sessions, backends, orders."""

    def work() -> int:
        found = agent.client().status()
        if agent.json:
            write_json(as_document(found))
        else:
            # Rich takes a tenth of the time of a command; scripts that read JSON need not pay it.
            from popctl.cli.render import console, show_status  # noqa: PLC0415

            show_status(found, console())
        return Exit.OK

    return attempt(work, as_json=agent.json)


def why(prefix: str, /, *, agent: Agent = THE_AGENT) -> int:
    """Show the chain from a prefix to the decision, the backends, and the last answer of every probe.

    Parameters
    ----------
    prefix
        A service's prefix, or an address inside it.
    """

    def work() -> int:
        found = agent.client().why(prefix)
        if agent.json:
            write_json(as_document(found))
        else:
            from popctl.cli.render import console, show_why  # noqa: PLC0415 - as in `status`

            show_why(found, console())
        return Exit.OK

    return attempt(work, as_json=agent.json)


def health(*, agent: Agent = THE_AGENT) -> int:
    """Say whether the agent does its work: exit 0 if its loop turns and ExaBGP is connected, else 1."""

    def work() -> int:
        found = agent.client().check()
        if agent.json:
            write_json(as_document(found))
        else:
            loop = "the loop turns" if found.turning else f"the loop hangs for {found.turned_s:.1f} s"
            exabgp = "ExaBGP is connected" if found.connected else not_connected(found.exabgp_problem)
            sys.stdout.write(f"{'healthy' if found.healthy else 'NOT healthy'}: {loop}, {exabgp}\n")
        return Exit.OK if found.healthy else Exit.PROBLEMS

    return attempt(work, as_json=agent.json)


def whoami(*, agent: Agent = THE_AGENT) -> int:
    """Show whom the agent takes you for, what you may do, and which PoP answers."""

    def work() -> int:
        found = agent.client().whoami()
        if agent.json:
            write_json(as_document(found))
        else:
            sys.stdout.write(f"{printable(found.name)} may {printable(found.role)} at PoP {printable(found.pop)}\n")
        return Exit.OK

    return attempt(work, as_json=agent.json)
