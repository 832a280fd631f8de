"""What is still missing before an order may be called done. Pure: judges one answer of the agent."""

from __future__ import annotations

from collections.abc import Iterator

from popctl.cli.durations import show_duration
from popctl.cli.options import printable
from popctl.model.observation import IntentKind
from popctl.model.pop import Announce
from popctl.wire.agent_api import RouteState, ServiceStatus, Status

_SETTLED = (RouteState.PROVEN, RouteState.SESSION_DOWN)


def not_connected(problem: str) -> str:
    """Return, as one line, that ExaBGP is not connected, and why, as far as the agent knows."""
    return f"ExaBGP is not connected{f' ({printable(problem)})' if problem else ''}"


def missing(status: Status, services: frozenset[str], *, announced: bool) -> tuple[str, ...]:
    """Return, as lines for people, what keeps `services` from being proven (un)announced; empty means proven."""
    if not status.connected:
        return (f"{not_connected(status.exabgp_problem)}: nothing can be proven",)
    lines: list[str] = []
    for service in status.services:
        if service.name in services:
            lines.extend(_missing_of(service, announced=announced))
    return tuple(lines)


def standing_against(status: Status, services: frozenset[str], *, announced: bool) -> tuple[str, ...]:
    """Return the services whose orders meanwhile say the opposite, so that waiting on is in vain."""
    ordered_out = {intent.target for intent in status.intents if intent.kind == IntentKind.WITHDRAW}
    return tuple(sorted(services & ordered_out if announced else services - ordered_out))


def _missing_of(service: ServiceStatus, *, announced: bool) -> Iterator[str]:
    if not _decided(service, announced=announced):
        until = "" if service.until_s is None else f", changes in {show_duration(service.until_s)} at the earliest"
        yield f"{service.name}: {service.announce} ({service.reason}{until})"
        return
    if announced and not any(route.state == RouteState.PROVEN for route in service.routes):
        yield f"{service.name}: no session has been sent its routes"
    for route in service.routes:
        if route.state not in _SETTLED:
            yield f"{service.name}: {route.prefix} at {route.neighbor}: {route.state}"


def _decided(service: ServiceStatus, *, announced: bool) -> bool:
    if announced:
        return service.announce in (Announce.NORMAL, Announce.DEPREFERRED)
    return service.announce == Announce.WITHDRAWN
