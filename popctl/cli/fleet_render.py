"""The fleet as a table for people. Shows; judges nothing."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from popctl.cli.durations import show_duration
from popctl.cli.options import printable
from popctl.wire.fleet_api import FleetPopStatus, FleetResourceStatus, FleetServiceStatus, FleetStatus

_STYLES = {
    "normal": "green",
    "duty": "green",
    "permit": "yellow",
    "withdrawn": "red",
    "out": "red",
    "lost": "bold red",
}


def show_fleet(found: FleetStatus, out: Console) -> None:
    """Print the whole answer."""
    age = "never read" if found.age_s is None else f"proven {show_duration(found.age_s)} ago"
    line = (
        f"fleet {found.fleet} seen from {found.pop}: {len(found.pops)} PoPs, minimum {found.minimum_announcing}, {age}"
    )
    out.print(_plain(line))
    if not found.connected:
        out.print(Text(printable(f"no connection to the store: {found.problem}"), style="bold red"))
    elif found.age_s is None or found.age_s > found.age_bound_s:
        out.print(Text("the view is older than its bound: it says nothing about the others", style="bold red"))
    out.print(_pops(found.pops))
    for permit in found.permits:
        reason = f" ({permit.reason})" if permit.reason else ""
        out.print(_plain(f"permit for {permit.service}: {permit.state}{reason} for {show_duration(permit.for_s)}"))


def _pops(pops: Iterable[FleetPopStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("PoP", "region", "service", "announce", "stance", "backends", "load", "reason", "age"):
        table.add_column(column, overflow="fold")
    for pop in pops:
        name, age = _plain(f"{pop.name}{' *' if pop.own else ''}"), show_duration(pop.age_s)
        if pop.lost:
            table.add_row(name, "", "", _styled("lost"), "", "", "", "", age)
        for service in pop.services:
            table.add_row(
                name,
                _plain(pop.region),
                _plain(service.name),
                _styled(service.announce),
                _styled(service.stance),
                f"{service.healthy}/{service.needed}",
                _plain(_load(pop.resources) + (f", level {pop.level}" if pop.level else "")),
                _plain(_reason(service)),
                age,
            )
    return table


def _load(resources: Iterable[FleetResourceStatus]) -> str:
    """Return the tightest resource; an unknown one cannot be looser than what is known, so it is said."""
    limited = [one for one in resources if one.capacity]
    known = [(one.used / one.capacity, one.name) for one in limited if one.used is not None and one.capacity]
    if not known:
        return "unknown"
    share, name = max(known)
    return f"{name} {share:.0%}{'' if len(known) == len(limited) else ' or more'}"


def _reason(service: FleetServiceStatus) -> str:
    parts = [service.reason]
    if service.stage and not service.good:
        parts.append(f"{service.stage} fails")
    if service.bad_for_s is not None:
        parts.append(f"for {show_duration(service.bad_for_s)}")
    if service.asking:
        parts.append("asks for a permit")
    return ", ".join(parts)


def _styled(word: str) -> Text:
    return Text(printable(word), style=_STYLES.get(word, "yellow"))


def _plain(text: str) -> Text:
    return Text(printable(text))
