"""The text API of ExaBGP 5: commands out, answers and JSON events in. Sans-IO; one adapter for one version.

Commands are built from values only and are always exactly one printable ASCII line. The field names come from
captures of ExaBGP 5.0.15, kept in tests/data/exabgp.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from popctl.model.route import Address, Community, Family, LargeCommunity, Prefix, Route, RouteKey
from popctl.wire.addresses import address_of, prefix_of
from popctl.wire.errors import UNREADABLE, WireError

SHOW_ROUTES = "show adj-rib out json"
"""What ExaBGP would replay to a new session: its intent, not what is on the wire."""
SHOW_NEIGHBORS = "show neighbor json"

Json: TypeAlias = Any


# ----------------------------------------------------------------------------------------------------------- commands


def announce(neighbor: Address, route: Route) -> str:
    """Encode an announcement, which replaces an earlier one of the same prefix. Order as in the relay's grammar."""
    words = [f"neighbor {neighbor} announce route {route.prefix} next-hop {route.next_hop}"]
    if route.as_path:
        words.append(f"as-path {_list(route.as_path)}")
    if route.med is not None:
        words.append(f"med {route.med:d}")
    if route.local_preference is not None:
        words.append(f"local-preference {route.local_preference:d}")
    if route.communities:
        words.append(f"community {_list(route.communities)}")
    if route.large_communities:
        words.append(f"large-community {_list(route.large_communities)}")
    return _one_line(words)


def withdraw(neighbor: Address, prefix: Prefix, next_hop: Address) -> str:
    """Encode a withdraw. ExaBGP never suppresses it: it always costs an UPDATE."""
    return _one_line([f"neighbor {neighbor} withdraw route {prefix} next-hop {next_hop}"])


def teardown(neighbor: Address) -> str:
    """Encode a session reset; the peer hears Cease, Administrative Shutdown (RFC 4486 section 4, subcode 2)."""
    return _one_line([f"neighbor {neighbor} teardown 2"])


def _list(values: Sequence[object]) -> str:
    return f"[ {' '.join(map(str, values))} ]"


def _one_line(words: list[str]) -> str:
    """Join to exactly one line, whatever the words contain.

    Raises:
        WireError: a control or non-ASCII character, such as in the scope of an IPv6 address.
    """
    line = " ".join(words)
    if not (line.isascii() and line.isprintable()):
        raise WireError("an API command is one line of printable ASCII", found=line)
    return line


# ------------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUp:
    """A session is established. Everything ExaBGP knows is about to be sent to it, withdraws excepted."""

    neighbor: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDown:
    """A session ended, or an attempt failed: this can come without an earlier `SessionUp`."""

    neighbor: Address
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An UPDATE was handed to TCP for this session."""

    neighbor: Address
    announced: tuple[Route, ...] = ()
    withdrawn: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOfRib:
    """The End-of-RIB marker was sent (RFC 4724 section 2): the first batch of this family is through."""

    neighbor: Address
    family: Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """ExaBGP is stopping; its sessions are already closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A well-formed event that says nothing about routes or sessions."""

    kind: str


Event: TypeAlias = SessionUp | SessionDown | Sent | EndOfRib | Shutdown | Other


def event(line: str) -> Event:
    """Read one JSON event line. Raises `WireError`."""
    with reading(line):
        return event_of(json.loads(line))


def event_of(data: Json) -> Event:
    """Read one event that was parsed as JSON already. Raises `WireError`."""
    with reading(str(data)[:64]):
        kind = str(data["type"])
        if kind == "notification" and data.get("notification") == "shutdown":
            return Shutdown()
        if kind == "state":
            return _state(data["neighbor"])
        if kind == "update" and data["neighbor"]["direction"] == "send":
            return _sent(data["neighbor"])
        return Other(kind=kind)


def _state(neighbor: Json) -> Event:
    peer = address_of(neighbor["address"]["peer"])
    match neighbor["state"]:
        case "up":
            return SessionUp(neighbor=peer)
        case "down":
            return SessionDown(neighbor=peer, reason=str(neighbor.get("reason", "")))
        case _:
            return Other(kind="state")


def _sent(neighbor: Json) -> Event:
    peer = address_of(neighbor["address"]["peer"])
    message = neighbor["message"]
    if "eor" in message:
        name = f"{message['eor']['afi']} {message['eor']['safi']}"
        return EndOfRib(neighbor=peer, family=Family(name)) if name in set(Family) else Other(kind="eor")
    update = message["update"]
    attributes = update.get("attribute", {})
    return Sent(
        neighbor=peer,
        announced=tuple(
            route_of(nlri["nlri"], next_hop, attributes)
            for by_next_hop in update.get("announce", {}).values()
            for next_hop, nlris in by_next_hop.items()
            for nlri in nlris
        ),
        withdrawn=tuple(prefix_of(nlri["nlri"]) for nlris in update.get("withdraw", {}).values() for nlri in nlris),
    )


# ------------------------------------------------------------------------------------------------ answers with content


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborState:
    """One entry of `show neighbor json`."""

    established: bool
    """From the FSM: the field `state` stays "down" for ever once a session was lost."""
    families: frozenset[Family]
    """Negotiated; without a session what is configured."""


def neighbors(lines: Sequence[str]) -> Mapping[Address, NeighborState]:
    """Read the answer to `SHOW_NEIGHBORS`. Raises `WireError`."""
    text = "".join(lines)
    with reading(text):
        return {
            address_of(entry["peer"]["address"]): NeighborState(
                established=entry["fsm"] == "ESTABLISHED",
                families=frozenset(Family(name) for name in entry["families"] if name in set(Family)),
            )
            for entry in json.loads(text)
        }


def rib_line(line: str) -> tuple[RouteKey, Route]:
    """Read one line of the answer to `SHOW_ROUTES` in format v2. Raises `WireError`."""
    with reading(line):
        data = json.loads(line)
        nlri = data["route"]["nlri"]
        route = route_of(nlri["prefix"], nlri["nexthop"], data["route"]["attributes"])
        return RouteKey(address_of(data["peer"]["address"]), route.prefix), route


def route_of(prefix: Json, next_hop: Json, attributes: Json) -> Route:
    """Build a route from what an echo or a RIB line says. Raises `WireError`."""
    with reading(str(prefix)):
        return Route(
            prefix=prefix_of(prefix),
            next_hop=address_of(next_hop),
            as_path=_as_path(attributes.get("as-path", {})),
            med=_number(attributes.get("med")),
            local_preference=_number(attributes.get("local-preference")),
            communities=tuple(sorted(Community.parse(_text(one)) for one in attributes.get("community", ()))),
            large_communities=tuple(
                sorted(LargeCommunity.parse(_text(one)) for one in attributes.get("large-community", ()))
            ),
        )


def _as_path(segments: Json) -> tuple[int, ...]:
    path: list[int] = []
    for _, segment in sorted(segments.items()):
        if segment["element"] != "as-sequence":
            raise WireError("only AS_SEQUENCE is ever announced", found=str(segment))
        path += [int(asn) for asn in segment["value"]]
    return tuple(path)


def _number(value: Json) -> int | None:
    return None if value is None else int(value)


def _text(community: Json) -> str:
    """Echoes have lists of numbers, RIB lines have text."""
    return community if isinstance(community, str) else ":".join(str(part) for part in community)


@contextmanager
def reading(found: str) -> Iterator[None]:
    """Turn every complaint about foreign data into `WireError`."""
    try:
        yield
    except UNREADABLE as error:
        raise WireError(f"not what ExaBGP writes: {error!r}", found=found) from error
