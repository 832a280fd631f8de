"""JSON lines between the agent and the relay, both directions of the agent's end. Sans-IO.

Agent to relay: hello, renew, command, stop, release. Relay to agent: the values below.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from popctl.model.route import Address, Family, Prefix, Route
from popctl.wire import exabgp_api
from popctl.wire.addresses import address_of, prefix_of
from popctl.wire.errors import WireError
from popctl.wire.exabgp_api import Json

PROTOCOL = 1


def hello() -> bytes:
    """Ask to be the one agent."""
    return _line(op="hello", protocol=PROTOCOL)


def renew() -> bytes:
    """Extend the lease by its whole duration from now."""
    return _line(op="renew")


def command(number: int, line: str) -> bytes:
    """Send one API command; its `Answer` carries the same number."""
    return _line(op="command", id=number, line=line)


def stop() -> bytes:
    """End ExaBGP: the closed sessions withdraw what could not be withdrawn otherwise."""
    return _line(op="stop")


def release() -> bytes:
    """Leave in good order: a successor has one whole lease to appear."""
    return _line(op="release")


def _line(**message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


class Result(StrEnum):
    """How a command ended."""

    DONE = "done"
    """Accepted and queued. Not: sent."""
    ERROR = "error"
    SHUTDOWN = "shutdown"
    REFUSED = "refused"
    """By the relay's allowlist; it never reached ExaBGP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A session that the relay saw from its first message."""

    told: Mapping[Prefix, Route]
    """What the peer was told last, complete."""
    finished: frozenset[Family]
    """Families whose first batch is through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The lease is ours."""

    exabgp: str
    """Version of ExaBGP."""
    lease_s: float
    sessions: Mapping[Address, Watched]
    withdrawn: Mapping[Address, frozenset[Prefix]] = field(default_factory=dict)
    """Of a session that the relay did not see begin: what it heard withdrawn, and not announced again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The relay does not take us; it closes the connection."""

    reason: str
    """`fenced`, `busy`, `credentials`, `exabgp-version` or `protocol`."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A command ended."""

    number: int
    result: Result
    lines: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """ExaBGP said something."""

    event: exabgp_api.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """We were too slow: events were dropped, so everything must be read back."""

    count: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """The lease was extended."""


@dataclass(frozen=True, slots=True)
class Released:
    """The lease was given back."""


Message: TypeAlias = Welcome | Refused | Answer | Event | Lost | Renewed | Released


def message(line: bytes) -> Message:
    """Read one line from the relay. Raises `WireError`."""
    with exabgp_api.reading(line[:64].decode("ascii", "replace")):
        data = json.loads(line)
        return _READERS[data["type"]](data)


def _answer(data: Json) -> Answer:
    return Answer(
        number=int(data["id"]),
        result=Result(data["result"]),
        lines=tuple(str(one) for one in data["lines"]),
        detail=str(data.get("detail", "")),
    )


def _welcome(data: Json) -> Welcome:
    if data["protocol"] != PROTOCOL:
        raise WireError(f"the relay speaks protocol {data['protocol']!r}, not {PROTOCOL}")
    return Welcome(
        exabgp=str(data["exabgp"]),
        lease_s=float(data["lease_s"]),
        sessions={address_of(peer): _watched(session) for peer, session in data["sessions"].items()},
        # An older relay, which goes on running while the agent is replaced, does not tell it.
        withdrawn={
            address_of(peer): frozenset(map(prefix_of, prefixes))
            for peer, prefixes in data.get("withdrawn", {}).items()
        },
    )


def _watched(session: Json) -> Watched:
    routes = [
        exabgp_api.route_of(prefix, told["next_hop"], told["attribute"]) for prefix, told in session["sent"].items()
    ]
    return Watched(
        told={route.prefix: route for route in routes},
        finished=frozenset(Family(name) for name in session["eor"] if name in set(Family)),
    )


_READERS: Mapping[str, Callable[[Json], Message]] = {
    "event": lambda data: Event(event=exabgp_api.event_of(data["event"])),
    "answer": _answer,
    "renewed": lambda _: Renewed(),
    "released": lambda _: Released(),
    "lost": lambda data: Lost(count=int(data["count"])),
    "refused": lambda data: Refused(reason=str(data["reason"]), detail=str(data["detail"])),
    "welcome": _welcome,
}
