"""The balancer's truth metrics: nft counters by backend and reason, and by service and reason of a drop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from popctl.model.reason import Reason
from popctl.wire.errors import WireError


class Count(NamedTuple):
    """What one rule has seen."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """All of the balancer's counters at one moment; they outlive the agent and start at zero with the table."""

    forwarded: Mapping[tuple[int, Reason], Count] = field(default_factory=dict)
    """(Backend id, reason) -> count; `Reason.REPLICATED` is copies of ICMP errors."""
    dropped: Mapping[tuple[str, Reason], Count] = field(default_factory=dict)
    """(Service, reason) -> count."""
    copies_over_limit: int = 0
    """ICMP errors that were not copied because of the rate limit."""


def parse_counters(counted: Iterable[tuple[str, int, int]]) -> Counters:
    """Sort the counters of our tables, each as name, packets and bytes.

    Raises:
        WireError: a counter is none of ours.
    """
    forwarded: dict[tuple[int, Reason], Count] = {}
    dropped: dict[tuple[str, Reason], Count] = {}
    over = 0
    for name, packets, size in counted:
        count = Count(packets, size)
        match name.split(".", 2):
            case ["to", backend, reason]:
                key = (_number(backend), _reason(reason))
                forwarded[key] = _sum(forwarded.get(key), count)
            case ["drop", _, *_]:
                service, _, reason = name.removeprefix("drop.").rpartition(".")
                dropped[service, _reason(reason)] = count
            case ["replicated", "over-limit"]:
                over += packets
            case _:
                raise WireError("a counter that is none of ours", found=name)
    return Counters(forwarded=forwarded, dropped=dropped, copies_over_limit=over)


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError as error:
        raise WireError("a counter of no known reason", found=text) from error


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise WireError("a counter of no backend", found=text)
    return int(text)


def _sum(one: Count | None, other: Count) -> Count:
    # A backend has a counter of copies in each address family.
    return other if one is None else Count(one.packets + other.packets, one.bytes + other.bytes)
