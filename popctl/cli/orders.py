"""The commands that change something: withdraw, announce, drain, undrain, state reset.

An order is accepted in milliseconds; a withdraw is done when the speaker proved it to every session. These commands
say "done" only then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from time import monotonic, sleep
from typing import Annotated

from cyclopts import App, Parameter

from popctl.cli.client import AgentClient, ClientError
from popctl.cli.durations import show_duration
from popctl.cli.exits import Exit
from popctl.cli.maintenance import Until, end_of, foresee
from popctl.cli.options import (
    THE_AGENT,
    Agent,
    Duration,
    For,
    Reason,
    as_document,
    attempt,
    ending_after,
    printable,
    write_json,
)
from popctl.cli.progress import missing, standing_against
from popctl.model.observation import DrainEnd, IntentKind
from popctl.wire.agent_api import OrderReply
from popctl.wire.agent_order import EVERY_SERVICE, Order

POLL_EVERY_S = 0.2
WAIT_S = 30.0

Wait = Annotated[bool, Parameter(name="--wait", negative="--no-wait")]


def withdraw(
    service: str = EVERY_SERVICE,
    /,
    *,
    reason: Reason,
    drain: Duration = 0.0,
    for_s: For = None,
    until: Until = "",
    force: bool = False,
    refuse_if_held: Annotated[bool, Parameter(negative="")] = False,
    refuse_new: Annotated[bool, Parameter(negative="")] = False,
    yes: Annotated[bool, Parameter(negative="")] = False,
    wait: Wait = True,
    timeout: Duration = WAIT_S,
    agent: Agent = THE_AGENT,
) -> int:
    """Take a service, or all of the PoP, out of BGP until it is announced again; survives restarts.

    Parameters
    ----------
    service
        Name of the service; all services when left out.
    reason
        Why; kept with the order and shown to whoever asks.
    drain
        Announce graceful shutdown (RFC 8326) for this long first, such as 15m.
    for_s
        How long the order stands, such as 2h; then the service comes back by health, through warm-up.
    until
        Until when it stands instead, such as 06:00.
    yes
        Do not ask; what will happen is shown all the same. Nobody is asked without a terminal, nor with --json, which
        has it in its answer. Where nobody is asked, an agent that cannot foresee it stops no order.
    force
        Go on although the fleet falls below its floor. Without it such a withdraw is held at the lowest preference.
    refuse_if_held
        Order nothing (exit 7) if the fleet's guard would hold the withdraw now. Without it the order stands, held.
    refuse_new
        The balancer refuses new SAs while the service drains. Without it what still comes is served.
    wait
        Wait until the withdraw is proven to every BGP session. Without it the exit code says only "ordered".
    timeout
        How long to wait beyond the drain; then exit 75.
    """

    def work() -> int:
        end = end_of(for_s, until)
        client = agent.client()
        foreseen = foresee(agent, service, force=force, yes=yes)
        if not foreseen.agreed:
            sys.stderr.write("popctl: nothing was ordered\n")
            return Exit.DECLINED
        order = Order(
            kind=IntentKind.WITHDRAW,
            target=service,
            reason=reason,
            drain_s=drain,
            # Counted from now: whoever was asked may have thought about it for a while.
            expires_s=end.expires_s(),
            force=force,
            refuse_if_held=refuse_if_held,
            refuse_new=refuse_new,
        )
        reply = client.place(order)
        waiting = _Waiting(client, _named(reply, service), announced=False, quiet=agent.json)
        preview = {"preview": None if foreseen.preview is None else as_document(foreseen.preview)}
        return _finish(agent, waiting, reply, preview, within_s=drain + timeout if wait else None)

    return attempt(work, as_json=agent.json)


def announce(
    service: str = EVERY_SERVICE,
    /,
    *,
    reason: Reason,
    wait: Wait = True,
    timeout: Duration = WAIT_S,
    agent: Agent = THE_AGENT,
) -> int:
    """Lift the withdraw of a service, or of all; health and warm-up still decide when it comes back.

    Parameters
    ----------
    service
        Name of the service; all services when left out.
    reason
        Why; goes to the audit file.
    wait
        Wait until the routes are proven to every established session.
    timeout
        How long to wait; then exit 75.
    """

    def work() -> int:
        client = agent.client()
        reply = client.lift(IntentKind.WITHDRAW, service, reason)
        if service not in (EVERY_SERVICE, *(one.name for one in reply.services)):
            return _report(agent, reply, f"the order is lifted; there is no service {service} any more")
        waiting = _Waiting(client, _named(reply, service), announced=True, quiet=agent.json)
        return _finish(agent, waiting, reply, {}, within_s=timeout if wait else None)

    return attempt(work, as_json=agent.json)


def drain(
    backend: str,
    /,
    *,
    reason: Reason,
    deadline: For = None,
    then: DrainEnd = DrainEnd.WAIT,
    force: bool = False,
    agent: Agent = THE_AGENT,
) -> int:
    """Let a backend count for nothing new until it is undrained; what it holds stays. Survives restarts.

    Parameters
    ----------
    backend
        Name of the backend.
    reason
        Why; kept with the order and shown to whoever asks.
    deadline
        How long it has, such as 4h; without it, as long as it takes.
    then
        At the deadline: `wait` goes on draining; `cut` takes it out of the balancer and ends what SAs are left.
    force
        Go on although a service loses its minimum of healthy backends or weight, and perhaps its announcement.
    """

    def work() -> int:
        drain_s = ending_after(deadline) or 0.0
        order = Order(kind=IntentKind.DRAIN, target=backend, reason=reason, drain_s=drain_s, then=then, force=force)
        return _report(agent, agent.client().place(order), f"backend {backend} drains")

    return attempt(work, as_json=agent.json)


def undrain(backend: str, /, *, reason: Reason, agent: Agent = THE_AGENT) -> int:
    """Let a drained backend count again.

    Parameters
    ----------
    backend
        Name of the backend.
    reason
        Why; goes to the audit file.
    """

    def work() -> int:
        reply = agent.client().lift(IntentKind.DRAIN, backend, reason)
        return _report(agent, reply, f"backend {backend} is not drained any more")

    return attempt(work, as_json=agent.json)


state_app = App(name="state", help="The file that keeps the orders.")


@state_app.command
def reset(*, reason: Reason, agent: Agent = THE_AGENT) -> int:
    """Begin anew with no orders after the state file was found corrupt; a copy of it is kept beside it.

    Parameters
    ----------
    reason
        Why; goes to the audit file.
    """

    def work() -> int:
        return _report(agent, agent.client().reset_state(reason), "the state file is new and holds no orders")

    return attempt(work, as_json=agent.json)


def _report(agent: Agent, reply: OrderReply, done: str) -> int:
    """Say what an order without a proof of its own led to."""
    if agent.json:
        write_json({"ordered": True, "reply": as_document(reply)})
    else:
        note = "" if reply.changed else " (already so)"
        sys.stdout.write(f"{printable(done)}{note}\n")
        for service in reply.services:
            counted = f"{service.healthy} healthy of {service.needed} needed"
            sys.stdout.write(f"{service.name}: {service.announce} ({service.reason}), {counted}\n")
    _warn(reply)
    return Exit.OK if reply.decided else Exit.UNPROVEN


def _warn(reply: OrderReply) -> None:
    if not reply.audited:
        sys.stderr.write("popctl: the order stands, but the agent could not write its audit file\n")
    if not reply.decided:
        sys.stderr.write(
            "popctl: the order is kept, but the agent has not decided upon it yet; look with popctl status\n"
        )


def _named(reply: OrderReply, target: str) -> frozenset[str]:
    return frozenset(one.name for one in reply.services) if target == EVERY_SERVICE else frozenset((target,))


def _finish(
    agent: Agent, waiting: _Waiting, reply: OrderReply, more: Mapping[str, object], *, within_s: float | None
) -> int:
    """Wait for the proof, if it was asked for, and say how it ended; `more` is part of what is said in JSON."""
    _warn(reply)
    services = waiting.services
    left = waiting.until_proven(within_s, ours_seen=reply.decided) if within_s is not None else ("not waited for",)
    verb = "announced" if waiting.announced else "withdrawn"
    if agent.json:
        document = {"ordered": True, "proven": not left, "missing": list(left), "services": sorted(services)}
        write_json({**document, **more, "reply": as_document(reply)})
    elif not left:
        sys.stdout.write(f"proven {verb} at every established session: {', '.join(sorted(services))}\n")
    elif within_s is None:
        sys.stdout.write("ordered, not waited for; popctl status shows when it is proven\n")
    else:
        sys.stderr.write(f"popctl: ordered, but not proven {verb}:\n{_lines(left)}")
    return Exit.OK if not left or within_s is None else Exit.UNPROVEN


class _Waiting:
    """Polls the agent until an order is proven."""

    def __init__(self, client: AgentClient, services: frozenset[str], *, announced: bool, quiet: bool) -> None:
        self.services = services
        self.announced = announced
        self._client = client
        self._quiet = quiet
        self._said: tuple[str, ...] = ()

    def until_proven(self, within_s: float, *, ours_seen: bool) -> tuple[str, ...]:
        """Return what is missing when time is up, or nothing as soon as nothing is."""
        deadline = monotonic() + within_s
        while True:
            last_try = monotonic() >= deadline
            left, against = self._look()
            if against and ours_seen:
                return (*left, f"the order was overruled meanwhile for: {', '.join(against)}")
            ours_seen = ours_seen or not against
            if last_try or not (left or against):
                return left or against
            self._say(left, deadline)
            sleep(POLL_EVERY_S)

    def _look(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        try:
            status = self._client.status()
        except ClientError as error:
            # The agent may be restarting; the order is on its disk.
            return (str(error),), ()
        left = missing(status, self.services, announced=self.announced)
        return left, standing_against(status, self.services, announced=self.announced)

    def _say(self, left: tuple[str, ...], deadline: float) -> None:
        # Only what changed, and not the seconds that tick inside a line.
        heads = tuple(line.split(",", 1)[0] for line in left)
        if self._quiet or heads == self._said:
            return
        self._said = heads
        sys.stderr.write(f"waiting (for {show_duration(max(deadline - monotonic(), 0.0))} at most):\n{_lines(left)}")


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"  {printable(line)}\n" for line in lines)
