"""The commands that only ask: status and why."""

from __future__ import annotations

from popctl.cli.exits import Exit
from popctl.cli.options import THE_AGENT, Agent, as_document, attempt, write_json


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
