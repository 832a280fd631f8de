"""What the lab's BIRD routers believe: sessions and routes, read with `birdc`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lab.driver import Driver

_BIRDC = ("birdc", "-r")
_ROUTE = re.compile(r"^(?P<prefix>\S+)?\s+unicast \[(?P<session>\S+) [^\]]*\] (?P<best>\*)?")
_ATTRIBUTE = re.compile(r"^\s+BGP\.(?P<name>\w+): (?P<value>.*)$")
_COMMUNITY = re.compile(r"\((\d+),(\d+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BirdRoute:
    """One path to one prefix, as one router holds it."""

    session: str
    """The session that it came from."""
    best: bool
    as_path: tuple[int, ...]
    next_hop: str
    local_preference: int | None
    med: int | None
    communities: tuple[tuple[int, int], ...]


def established(driver: Driver, router: str) -> Mapping[str, bool]:
    """Return every BGP session of a router by name, and whether it is established."""
    return parse_sessions(driver.exec(router, [*_BIRDC, "show", "protocols"]).stdout)


def parse_sessions(output: str) -> dict[str, bool]:
    """Read the answer to `show protocols`."""
    rows = [line.split() for line in output.splitlines()]
    return {row[0]: row[-1] == "Established" for row in rows if len(row) > 1 and row[1] == "BGP"}


def routes(driver: Driver, router: str, prefix: str) -> tuple[BirdRoute, ...]:
    """Return the BGP routes of a router to exactly this prefix, the best one first."""
    return parse_routes(driver.exec(router, [*_BIRDC, "show", "route", prefix, "all"]).stdout)


def parse_routes(output: str) -> tuple[BirdRoute, ...]:
    """Read the answer to `show route ... all`."""
    return tuple(_routes(output))


def _routes(output: str) -> Iterator[BirdRoute]:
    head: re.Match[str] | None = None
    found: dict[str, str] = {}
    for line in [*output.splitlines(), "end unicast [end end]"]:
        new = _ROUTE.match(line)
        attribute = _ATTRIBUTE.match(line)
        if new or line.startswith("end"):
            if head and "as_path" in found:
                yield _route(head, found)
            head, found = new, {}
        elif attribute:
            found[attribute["name"]] = attribute["value"].strip()


def _route(head: re.Match[str], found: Mapping[str, str]) -> BirdRoute:
    communities = _COMMUNITY.findall(found.get("community", ""))
    return BirdRoute(
        session=head["session"],
        best=head["best"] == "*",
        as_path=tuple(int(asn) for asn in found["as_path"].split()),
        next_hop=found.get("next_hop", "").split(" ")[0],
        local_preference=int(found["local_pref"]) if "local_pref" in found else None,
        med=int(found["med"]) if "med" in found else None,
        communities=tuple((int(asn), int(value)) for asn, value in communities),
    )
