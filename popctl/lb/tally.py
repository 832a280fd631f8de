"""What the balancer's rules have counted: packets and bytes by backend and reason, and what was dropped and why."""

from __future__ import annotations

import json
from dataclasses import dataclass

from popctl.lb.balancer import KernelError
from popctl.lb.libnft import listing_of
from popctl.wire.nft import TABLE

_FAMILIES = ("inet", "ip", "ip6")


@dataclass(frozen=True, slots=True)
class Tally:
    """One counter."""

    towards: str
    """`to` a backend (its id in `of`), or `drop` by a service (its name in `of`)."""
    of: str
    reason: str
    packets: int
    bytes: int


def read() -> tuple[Tally, ...]:
    """Read all counters; none when there is no balancer in the kernel. Takes about 10 ms, blocking.

    Raises:
        KernelError: nft could not say.
    """
    return tuple(
        found for family in _FAMILIES for found in parse(listing_of(["list", "counters", "table", family, TABLE]))
    )


def parse(text: str) -> tuple[Tally, ...]:
    """Read `nft -j list counters`; empty text is none.

    Raises:
        KernelError: it is not that.
    """
    if not text:
        return ()
    try:
        counters = [one["counter"] for one in json.loads(text)["nftables"] if "counter" in one]
        return tuple(
            Tally(towards, of, reason, int(one["packets"]), int(one["bytes"]))
            for one in counters
            if one["name"].startswith(("to.", "drop."))
            for towards, of, reason in (one["name"].split(".", 2),)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KernelError("nft -j list counters", f"{type(error).__name__}: {error}") from error
