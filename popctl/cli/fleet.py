"""`popctl fleet`: the PoPs of the fleet, as the agent here sees them."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from popctl.cli.client import AgentClient
from popctl.cli.exits import Exit
from popctl.cli.options import THE_AGENT, Agent, Duration, as_document, attempt, write_json
from popctl.wire.fleet_api import FleetStatus

if TYPE_CHECKING:
    from collections.abc import Callable

fleet_app = App(name="fleet", help="Look at the fleet.")


class FleetClient(AgentClient):
    """The part of the API that is about the fleet."""

    def fleet(self) -> FleetStatus:
        """Ask for the fleet as the agent sees it."""
        return self._ask("GET", "/v1/fleet", FleetStatus)


@fleet_app.command
def status(*, agent: Agent = THE_AGENT) -> int:
    """Show every PoP: state, load, reason, age. Exit code 0 also says that the view is current."""

    def work() -> int:
        found = agent.client_of(FleetClient).fleet()
        if agent.json:
            write_json(as_document(found))
        else:
            _printer()(found)
        return Exit.OK if current(found) else Exit.UNPROVEN

    return attempt(work, as_json=agent.json)


@fleet_app.command
def watch(
    *,
    every: Duration = 2.0,
    count: Annotated[int, Parameter(name="--count")] = 0,
    agent: Agent = THE_AGENT,
) -> int:
    """Show it again and again until interrupted.

    Parameters
    ----------
    every
        How often to ask.
    count
        How often to ask in all; 0 is without end. With --json each answer is one line.
    """

    def work() -> int:
        client = agent.client_of(FleetClient)
        show = _write_line if agent.json else _printer(clear=True)
        asked = 0
        while True:
            show(client.fleet())
            asked += 1
            if asked == count:
                return Exit.OK
            time.sleep(every)

    return attempt(work, as_json=agent.json)


def current(found: FleetStatus) -> bool:
    """Say whether the view may be relied on."""
    return found.connected and found.age_s is not None and found.age_s <= found.age_bound_s


def _write_line(found: FleetStatus) -> None:
    sys.stdout.write(json.dumps(as_document(found)) + "\n")
    sys.stdout.flush()


def _printer(*, clear: bool = False) -> Callable[[FleetStatus], None]:
    # Rich takes a tenth of the time of a command; scripts that read JSON need not pay it.
    from popctl.cli.fleet_render import show_fleet  # noqa: PLC0415
    from popctl.cli.render import console  # noqa: PLC0415 - same

    out = console()

    def show(found: FleetStatus) -> None:
        if clear and out.is_terminal:
            out.clear()
        show_fleet(found, out)

    return show
