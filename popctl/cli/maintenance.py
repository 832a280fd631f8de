"""Planned work: what a withdraw would do, before it is done; and `popctl maintenance` for the orders that stand."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter

from popctl.cli.client import AgentClient, ClientError, NothingThereError, UsageError, quoted
from popctl.cli.durations import moment_of, show_duration
from popctl.cli.exits import Exit
from popctl.cli.options import (
    THE_AGENT,
    Agent,
    For,
    Reason,
    as_document,
    attempt,
    ending_after,
    printable,
    write_json,
)
from popctl.cli.render_load import landing_lines
from popctl.model.observation import IntentKind
from popctl.wire.agent_api import IntentStatus, OrderReply
from popctl.wire.preview_api import ServicePreview, WithdrawPreview

Until = Annotated[str, Parameter(name="--until")]

maintenance_app = App(name="maintenance", help="Planned work: the withdraws that stand, and when they end.")


class PlanningClient(AgentClient):
    """The part of the API that looks ahead."""

    def preview(self, service: str) -> WithdrawPreview:
        """Ask what a withdraw would do now."""
        return self._ask("GET", f"/v1/preview/withdraw/{quoted(service)}", WithdrawPreview)


@dataclass(frozen=True, slots=True)
class End:
    """When an order ends: so long after it is given, at a moment, or never."""

    after_s: float | None = None
    at_unix_s: float | None = None

    def expires_s(self) -> float | None:
        """Return how long an order has that is given now; None is without end. Raises `UsageError`."""
        if self.at_unix_s is None:
            return self.after_s
        left_s = self.at_unix_s - time.time()
        if left_s <= 0:
            raise UsageError("--until: found a moment that has passed meanwhile; remedy: name a later one")
        return left_s


def end_of(for_s: float | None, until: str) -> End:
    """Return the end that the options mean. Raises `UsageError`."""
    if for_s is not None and until:
        raise UsageError("--for and --until say the same thing; use one")
    if not until:
        return End(ending_after(for_s))
    try:
        # Naive on purpose: only the zone itself, not its difference of today, knows what a clock shows tomorrow.
        return End(at_unix_s=moment_of(until, datetime.fromtimestamp(time.time())))  # noqa: DTZ006
    except ValueError as error:
        raise UsageError(f"--until: {error}") from error


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What is known of what a withdraw will do, and whether it is to be ordered all the same."""

    preview: WithdrawPreview | None
    """None: the agent could not tell, and nobody was asked."""
    agreed: bool = True


def foresee(agent: Agent, service: str, *, force: bool, yes: bool) -> Foreseen:
    """Show what would happen, and ask if there is somebody to ask.

    Raises:
        UsageError: nothing can be asked so.
        ClientError: the agent cannot tell, and somebody was to be asked about it. Where nobody is asked that stops no
            order: the agent judges it anyway.
    """
    asks = not (yes or agent.json) and sys.stdin.isatty() and sys.stderr.isatty()
    client = agent.client_of(PlanningClient)
    try:
        found = client.preview(service)
    except UsageError:
        raise
    except ClientError as error:
        if asks:
            raise
        sys.stderr.write(f"popctl: what will follow is not known: {printable(str(error))}\n")
        return Foreseen(None)
    if not agent.json:
        lines = [_sentence(one, force=force) for one in found.services]
        if found.landing is not None:
            lines.extend(landing_lines(found.landing))
        sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))
    if not asks:
        return Foreseen(found)
    sys.stderr.write("go on? [y/N] ")
    sys.stderr.flush()
    return Foreseen(found, agreed=sys.stdin.readline().strip().lower() in ("y", "yes"))


def _sentence(one: ServicePreview, *, force: bool) -> str:
    load = "sessions unknown" if one.sessions is None else f"{one.sessions:.0f} sessions"
    others = "no fleet: nobody else is asked" if one.pops_left is None else f"{one.pops_left} other PoPs go on serving"
    text = f"{one.name}: {one.announce} now, {load}; {others}"
    if not one.held:
        return f"{text}; {one.verdict}"
    if force:
        return f"{text}; against it: {one.verdict}, overridden by force"
    return f"{text}; would be held at the lowest preference: {one.verdict}"


@maintenance_app.command(name="list")
def list_orders(*, agent: Agent = THE_AGENT) -> int:
    """List the withdraws that stand: who, why, how far, until when."""

    def work() -> int:
        found = _standing(agent)
        if agent.json:
            write_json({"orders": [as_document(one) for one in found]})
        else:
            sys.stdout.write("".join(f"{printable(_line(one))}\n" for one in found) or "no planned work\n")
        return Exit.OK

    return attempt(work, as_json=agent.json)


@maintenance_app.command
def show(service: str, /, *, agent: Agent = THE_AGENT) -> int:
    """Show one of them.

    Parameters
    ----------
    service
        Name of the service.
    """

    def work() -> int:
        one = _of(_standing(agent), service)
        if agent.json:
            write_json(as_document(one))
        else:
            sys.stdout.write(f"{printable(_line(one))}\n")
        return Exit.OK

    return attempt(work, as_json=agent.json)


@maintenance_app.command
def extend(service: str, /, *, reason: Reason, for_s: For = None, until: Until = "", agent: Agent = THE_AGENT) -> int:
    """Give planned work another end, counted from now; without one it stands until it is cancelled.

    Parameters
    ----------
    service
        Name of the service.
    reason
        Why; goes to the audit file. The order keeps its own reason, and its owner.
    for_s
        How long from now, such as 2h.
    until
        Until when instead, such as 06:00.
    """

    def work() -> int:
        end = end_of(for_s, until)
        return _ordered(agent, agent.client().extend(service, end.expires_s(), reason), service)

    return attempt(work, as_json=agent.json)


@maintenance_app.command
def cancel(service: str, /, *, reason: Reason, agent: Agent = THE_AGENT) -> int:
    """End planned work now. The service comes back as after any absence: by health, through warm-up.

    Parameters
    ----------
    service
        Name of the service.
    reason
        Why; goes to the audit file.
    """

    def work() -> int:
        _of(_standing(agent), service)
        return _ordered(agent, agent.client().lift(IntentKind.WITHDRAW, service, reason), service)

    return attempt(work, as_json=agent.json)


def _standing(agent: Agent) -> tuple[IntentStatus, ...]:
    return tuple(one for one in agent.client().intents().intents if one.kind == IntentKind.WITHDRAW)


def _of(found: Iterable[IntentStatus], service: str) -> IntentStatus:
    for one in found:
        if one.target == service:
            return one
    raise NothingThereError(f"no planned work for {service}")


def _ordered(agent: Agent, reply: OrderReply, service: str) -> int:
    if agent.json:
        write_json({"ordered": True, "reply": as_document(reply)})
    else:
        one = next((one for one in reply.intents if one.target == service and one.kind == IntentKind.WITHDRAW), None)
        sys.stdout.write(f"{printable(_line(one)) if one else 'the order is lifted'}\n")
    return Exit.OK if reply.decided else Exit.UNPROVEN


def _line(one: IntentStatus) -> str:
    end = "until it is cancelled" if one.expires_in_s is None else f"for another {show_duration(one.expires_in_s)}"
    parts = [f"{one.target}: {one.stage or 'ordered'} {end}", f"by {one.owner}", one.reason]
    if one.drain_left_s:
        left = "unknown" if one.sessions_left is None else f"{one.sessions_left:.0f}"
        parts.append(f"sessions left: {left}, drain ends in {show_duration(one.drain_left_s)}")
    if one.forced:
        parts.append("forced")
    if one.refuse_new:
        parts.append("refuses new SAs")
    return "; ".join(parts)
