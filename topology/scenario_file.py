"""Scenarios in TOML.

    name = "flash-crowd"
    seed = 1
    duration = "2h"
    tick = "60s"

    [internet]                  # or: file = "internet.txt.gz"
    ases = 60006

    [fleet]                     # or: file = "fleet.json", and demand = "demand.csv", or users; and measured = "m.csv"
    pops = 200
    users = 1000000

    [[crowd]]
    region = "africa"
    from = "10m"
    until = "80m"
    rise = 1.2                  # +120 %

    [[event]]
    kind = "pop-failure"        # see `topology.scenario.EventKind`
    at = "30m"
    until = "60m"
    pops = ["pop001"]           # or: largest = 5, or: region = "europe"

    [[event]]
    kind = "upstream-failure"
    at = "40m"
    upstream = 1299             # of all PoPs that have it, or of those that pops, largest or region select

Files are named relative to the scenario. Demand and what was measured are the CSV files that `popctl plan` takes; a
fleet of one's own without demand or users is taken to have half as much again capacity as it needs.

`[network]`, `[telemetry]`, `[playbook]` and `[diurnal]` take the fields of `topology.scenario` without their `_s`. All
problems of a file are reported together, with line and key path, and nothing is built from it.
"""

from __future__ import annotations

import math
import re
import reprlib
import tomllib
from typing import TYPE_CHECKING, Any, Final

from topology.errors import Problem, TopologyError
from topology.generate import FEWEST_ASES, REGIONS
from topology.keys import MOST_ASES, MOST_PREPENDS
from topology.links import LARGEST_ASN
from topology.scenario import (
    Book,
    Crowd,
    Diurnal,
    Event,
    EventKind,
    Internet,
    Network,
    Scenario,
    Sites,
    Telemetry,
)
from topology.scenario_fields import Fields, KeyPath
from topology.scenario_sites import sites, uncounted

if TYPE_CHECKING:
    from pathlib import Path

    from topology.fleet import Fleet

_SELECTORS: Final = ("pops", "largest", "region")
MOST_TICKS: Final = 1_000_000
_LARGEST_SEED: Final = 2**40


def load(path: Path) -> Scenario:
    """Read a scenario.

    Raises:
        TopologyError: with every problem, by line and key path.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise TopologyError([Problem(file=str(path), line=0, text=f"cannot be read: {error}")]) from error
    except RecursionError as error:
        raise TopologyError([Problem(file=str(path), line=0, text="is nested too deeply")]) from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else 0
        raise TopologyError([Problem(file=str(path), line=line, text=f"is no TOML: {error}")]) from error
    except ValueError as error:  # an integer of more digits than Python converts, or no such date
        text = f"is no TOML that can be read: {error}"
        raise TopologyError([Problem(file=str(path), line=0, text=text)]) from error
    return _Reader(path, text).scenario(document)


class _Reader(Fields):
    """Reads one file."""

    def scenario(self, top: dict[str, Any]) -> Scenario:
        """Return the scenario. Raises `TopologyError` with all problems."""
        optional = ("seed", "internet", "network", "telemetry", "playbook", "diurnal", "crowd", "event")
        self.known(top, (), required=("name", "duration", "tick", "fleet"), optional=optional)
        duration_s = self.duration(top, (), "duration", least_s=1.0)
        tick_s = self.duration(top, (), "tick", least_s=1.0)
        if not self.problems and not 1 <= duration_s / tick_s <= MOST_TICKS:
            self.problem(("tick",), f"gives not between 1 and {MOST_TICKS} ticks")
        found, fleet = sites(self, top)
        # Those of a file are compared when it is read.
        regions = () if "file" in self.table(top, "internet") else tuple(REGIONS)
        scenario = Scenario(
            name=self.string(top, (), "name"),
            seed=self.whole(top, (), "seed", 0, _LARGEST_SEED, default=1),
            duration_s=duration_s,
            tick_s=tick_s,
            internet=self._internet(top),
            sites=found,
            network=self._network(top),
            telemetry=self._telemetry(top),
            book=self._book(top),
            diurnal=self._diurnal(top),
            crowds=tuple(
                self._crowd(one, ("crowd", index), regions, duration_s) for index, one in self.tables(top, "crowd")
            ),
            file=self._path,
            events=tuple(
                self._event(one, ("event", index), (found, fleet), duration_s)
                for index, one in self.tables(top, "event")
            ),
        )
        if found.demand is None:
            for index, text in uncounted(scenario, found.users):
                self.problem(("crowd", index, "rise"), text)
        if self.problems:
            raise TopologyError(sorted(self.problems, key=lambda one: one.line))
        return scenario

    def _internet(self, top: dict[str, Any]) -> Internet:
        table, path = self.table(top, "internet"), ("internet",)
        self.known(table, path, optional=("ases", "peerings_per_as", "file"))
        if "file" in table and "ases" in table:
            self.problem((*path, "ases"), "says nothing beside a file")
        return Internet(
            ases=self.whole(table, path, "ases", FEWEST_ASES, MOST_ASES, default=60_006),
            peerings_per_as=self.real(table, path, "peerings_per_as", 0.0, 100.0)
            if "peerings_per_as" in table
            else None,
            file=self.file(table, path),
        )

    def _network(self, top: dict[str, Any]) -> Network:
        table, path, usual = self.table(top, "network"), ("network",), Network()
        keys = ("announce", "withdraw", "hold_time", "damping_share", "damping_suppress", "damping_reuse")
        self.known(table, path, optional=keys)
        found = Network(
            announce_s=self.range(table, path, "announce", usual.announce_s),
            withdraw_s=self.range(table, path, "withdraw", usual.withdraw_s),
            hold_time_s=self.duration(table, path, "hold_time", default_s=usual.hold_time_s),
            damping_share=self.real(table, path, "damping_share", 0.0, 1.0, default=usual.damping_share),
            damping_suppress=self.real(table, path, "damping_suppress", 1.0, 1e6, default=usual.damping_suppress),
            damping_reuse=self.real(table, path, "damping_reuse", 1.0, 1e6, default=usual.damping_reuse),
        )
        if found.damping_reuse >= found.damping_suppress:
            self.problem((*path, "damping_reuse"), "is not below damping_suppress")
        return found

    def _telemetry(self, top: dict[str, Any]) -> Telemetry:
        table, path, usual = self.table(top, "telemetry"), ("telemetry",), Telemetry()
        self.known(table, path, optional=("noise", "loss", "store_delay"))
        return Telemetry(
            noise=self.real(table, path, "noise", 0.0, 0.5, default=usual.noise),
            loss=self.real(table, path, "loss", 0.0, 1.0, default=usual.loss),
            store_delay_s=self.duration(table, path, "store_delay", default_s=usual.store_delay_s),
        )

    def _book(self, top: dict[str, Any]) -> Book:
        table, path, usual = self.table(top, "playbook"), ("playbook",), Book()
        self.known(table, path, optional=("refresh", "error", "prepend"))
        return Book(
            refresh_s=self.duration(table, path, "refresh", default_s=usual.refresh_s),
            error=self.real(table, path, "error", 0.0, 1.0, default=usual.error),
            prepend=self.whole(table, path, "prepend", 1, MOST_PREPENDS, default=usual.prepend),
        )

    def _diurnal(self, top: dict[str, Any]) -> Diurnal | None:
        if "diurnal" not in top:
            return None
        table = self.table(top, "diurnal")
        self.known(table, ("diurnal",), required=("amplitude",))
        return Diurnal(amplitude=self.real(table, ("diurnal",), "amplitude", 0.0, 1.0))

    def _crowd(self, table: dict[str, Any], path: KeyPath, regions: tuple[str, ...], duration_s: float) -> Crowd:
        self.known(table, path, required=("region", "from", "until", "rise"), optional=("ramp",))
        region = self.string(table, path, "region")
        if regions and region not in regions:
            self.problem((*path, "region"), f"{region!r} is none of {', '.join(regions)}")
        from_s, until_s = self._span(table, path, "from", duration_s)
        return Crowd(
            region=region,
            from_s=from_s,
            until_s=until_s,
            rise=self.real(table, path, "rise", -1.0, 100.0),
            ramp_s=self.duration(table, path, "ramp", default_s=0.0),
        )

    def _event(
        self, table: dict[str, Any], path: KeyPath, sites: tuple[Sites, Fleet | None], duration_s: float
    ) -> Event:
        self.known(table, path, required=("kind", "at"), optional=("until", "share", "upstream", *_SELECTORS))
        kinds = {one.value: one for one in EventKind}
        kind = self.string(table, path, "kind")
        if kind not in kinds:
            self.problem((*path, "kind"), f"{kind!r} is none of {', '.join(kinds)}")
        at_s, until_s = self._span(table, path, "at", duration_s)
        self._selected(table, path)
        if ("upstream" in table) != (kind == EventKind.UPSTREAM_FAILURE):
            self.problem(path, "an upstream goes with upstream-failure, and that with an upstream")
        count, fleet = sites[0].pops, sites[1]
        names = self._names(table, path, sites)
        region = self.string(table, path, "region") if "region" in table else None
        known = tuple(REGIONS) if fleet is None else tuple(sorted({pop.region for pop in fleet.pops}))
        if region is not None and region not in known:
            self.problem((*path, "region"), f"{region!r} is none of {', '.join(known)}")
        most = count if fleet is None else len(fleet.pops)
        return Event(
            kind=kinds.get(kind, EventKind.POP_FAILURE),
            at_s=at_s,
            until_s=until_s,
            pops=names,
            largest=self.whole(table, path, "largest", 1, most, default=0),
            region=region,
            share=self.real(table, path, "share", 0.0, 1.0, default=1.0),
            upstream=self.whole(table, path, "upstream", 1, LARGEST_ASN) if "upstream" in table else None,
        )

    def _selected(self, table: dict[str, Any], path: KeyPath) -> None:
        """Note an event that does not say, or says twice, whom it befalls. An upstream may narrow the choice."""
        given = [key for key in _SELECTORS if key in table]
        if len(given) > 1:
            self.problem(path, f"says twice whom it befalls: {', '.join(given)}")
        elif table.get("pops") == []:
            self.problem((*path, "pops"), "befalls nobody: name a PoP")
        elif not given and "upstream" not in table:
            self.problem(path, f"befalls nobody: give one of {', '.join((*_SELECTORS, 'upstream'))}")

    def _names(self, table: dict[str, Any], path: KeyPath, sites: tuple[Sites, Fleet | None]) -> tuple[str, ...]:
        value = table.get("pops", [])
        if not isinstance(value, list):
            self.problem((*path, "pops"), "is not a list")
            return ()
        fleet = sites[1]
        made = {f"pop{number + 1:03}" for number in range(sites[0].pops)}
        known = made if fleet is None else {pop.name for pop in fleet.pops}
        for name in value:
            if not isinstance(name, str) or name not in known:
                self.problem((*path, "pops"), f"no PoP is named {reprlib.repr(name)}")
        return tuple(str(name) for name in value)

    def _span(self, table: dict[str, Any], path: KeyPath, begin: str, duration_s: float) -> tuple[float, float]:
        from_s = self.duration(table, path, begin, least_s=-math.inf)
        until_s = self.duration(table, path, "until", default_s=duration_s)
        if from_s < 0:
            self.problem((*path, begin), "is in the past: the scenario begins at 0s")
        elif from_s >= duration_s > 0:
            self.problem((*path, begin), "is after the end of the scenario")
        if "until" in table and until_s <= from_s:
            self.problem((*path, "until"), f"is not after {begin!r}")
        return from_s, until_s
