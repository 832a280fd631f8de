"""What may be said to ExaBGP: a whitelist of forms, and of what they name. The agent has checked before."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_LIMIT = 1 << 16
"""Bytes of a line, of a command and of a message."""


class RefusedError(Exception):
    """A command is not one of the few accepted forms, or names something outside the allowlist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The file that popctl renders next to exabgp.conf."""

    socket: str
    lease_s: float
    hold: bool
    asn: int
    neighbors: frozenset[str]
    prefixes: frozenset[str]
    next_hops: frozenset[str]
    communities: frozenset[str]
    large_communities: frozenset[str]

    @classmethod
    def load(cls, path: str) -> Config:
        """Read the file. Raises `ValueError`, `KeyError` or `OSError`: without an allowlist nothing may run."""
        data = json.loads(Path(path).read_text(encoding="ascii"))
        if data["on_expiry"] not in ("withdraw", "hold") or not data["lease_s"] > 0:
            raise ValueError("on_expiry is withdraw or hold, lease_s is positive")
        names = ("neighbors", "prefixes", "next_hops", "communities", "large_communities")
        allow = {name: frozenset(map(str, data["allow"][name])) for name in names}
        return cls(
            socket=data["socket"],
            lease_s=float(data["lease_s"]),
            hold=data["on_expiry"] == "hold",
            asn=int(data["asn"]),
            **allow,
        )


SHOW = frozenset({"show adj-rib out json", "show adj-rib out extensive json", "show neighbor json", "version"})


def check(config: Config, line: str) -> None:
    """Accept `line`, or raise `RefusedError`. A whitelist of forms: what is not understood is not sent."""
    if len(line) > LINE_LIMIT or not (line.isascii() and line.isprintable()):
        raise RefusedError("not one printable ASCII line")
    if line in SHOW:
        return
    match line.split(" "):
        # Any neighbour and prefix: taking a route back is safe, and a leftover of an older allowlist must be removable.
        case ["neighbor", peer, "teardown", "2" | "3" | "4"]:
            _canonical(peer, ipaddress.ip_address)
        case ["neighbor", peer, "withdraw", "route", prefix, "next-hop", next_hop]:
            _canonical(peer, ipaddress.ip_address)
            _canonical(prefix, ipaddress.ip_network)
            _canonical(next_hop, ipaddress.ip_address)
        case ["neighbor", peer, "announce", "route", prefix, "next-hop", next_hop, *attributes]:
            _listed("neighbor", peer, config.neighbors)
            _listed("prefix", prefix, config.prefixes)
            _listed("next-hop", next_hop, config.next_hops)
            if ipaddress.ip_network(prefix).version != ipaddress.ip_address(next_hop).version:
                raise RefusedError("prefix and next-hop are of different families")
            _attributes(config, attributes)
        case _:
            raise RefusedError("not an accepted command")


def _attributes(config: Config, words: list[str]) -> None:
    """Accept `as-path [ .. ]`, `med N`, `local-preference N`, `community [ .. ]`, `large-community [ .. ]` in order."""
    lists = {
        "as-path": frozenset({str(config.asn)}),
        "community": config.communities,
        "large-community": config.large_communities,
    }
    rest = deque(words)
    for name in ("as-path", "med", "local-preference", "community", "large-community"):
        if not rest or rest[0] != name:
            continue
        rest.popleft()
        if name in lists:
            for value in _bracketed(rest):
                _listed(name, value, lists[name])
        else:
            _number(rest)
    if rest:
        raise RefusedError(f"unexpected {rest[0]!r}")


def _bracketed(rest: deque[str]) -> list[str]:
    if not rest or rest.popleft() != "[":
        raise RefusedError("'[' expected")
    values = []
    while rest and rest[0] != "]":
        values.append(rest.popleft())
    if not rest or not values:
        raise RefusedError("']' expected after at least one value")
    rest.popleft()
    return values


def _number(rest: deque[str]) -> None:
    word = rest.popleft() if rest else ""
    # The length first: Python reads no number of thousands of digits.
    if len(word) > 10 or not word.isdigit() or str(int(word)) != word or int(word) > 0xFFFF_FFFF:  # noqa: PLR2004 - 32 bits
        raise RefusedError(f"{word!r} is not a 32-bit number")


def _listed(what: str, word: str, allowed: frozenset[str]) -> None:
    if word not in allowed:
        raise RefusedError(f"{what} {word} is not in the allowlist")


def _canonical(word: str, parse: Callable[[str], object]) -> None:
    with contextlib.suppress(ValueError):
        if str(parse(word)) == word:
            return
    raise RefusedError(f"{word!r} is not in canonical form")
