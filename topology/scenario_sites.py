"""The `[fleet]` of a scenario: a made fleet and its users, or a file, and where its users are and were seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from topology import fleet_file
from topology.bounds import MOST_AT_PEAK, MOST_SESSIONS
from topology.demand import HEADROOM_PERCENT
from topology.errors import TopologyError
from topology.scenario import Scenario, Sites

if TYPE_CHECKING:
    from topology.fleet import Fleet
    from topology.scenario_fields import Fields

_PATH: Final = ("fleet",)
_MOST_POPS: Final = 5000
_MOST_UPSTREAMS: Final = 64


def sites(fields: Fields, top: dict[str, Any]) -> tuple[Sites, Fleet | None]:
    """Return the fleet as a scenario names it, and what is in its file, if it names one that can be read."""
    table, usual = fields.table(top, "fleet"), Sites()
    fields.known(table, _PATH, optional=("pops", "upstreams", "users", "file", "demand", "measured"))
    _contradictions(fields, table)
    file = fields.file(table, _PATH)
    fleet = None
    if file is not None:
        try:
            fleet = fleet_file.load(file)
        except TopologyError as error:
            fields.problems += error.problems
    return Sites(
        pops=fields.whole(table, _PATH, "pops", 1, _MOST_POPS, default=usual.pops),
        upstreams=fields.whole(table, _PATH, "upstreams", 1, _MOST_UPSTREAMS, default=usual.upstreams),
        users=_users(fields, table, fleet, usual.users),
        file=file,
        demand=fields.file(table, _PATH, "demand"),
        measured=fields.file(table, _PATH, "measured"),
    ), fleet


def _contradictions(fields: Fields, table: dict[str, Any]) -> None:
    """Note keys that mean nothing beside others."""
    if "file" in table:
        for key in ("pops", "upstreams"):
            if key in table:
                fields.problem((*_PATH, key), "says nothing beside a file")
        if "demand" in table and "users" in table:
            fields.problem((*_PATH, "users"), "says nothing beside a demand")
    else:
        for key in ("demand", "measured"):
            if key in table:
                text = "goes with the file of a fleet; one that is made is made for its own users"
                fields.problem((*_PATH, key), text)


def _users(fields: Fields, table: dict[str, Any], fleet: Fleet | None, usual: int) -> int:
    """Return how many users are spread where no file says where they are."""
    if fleet is None or "users" in table or "demand" in table:
        return fields.whole(table, _PATH, "users", 1, MOST_SESSIONS, default=usual)
    capacity = sum(pop.capacity.sessions for pop in fleet.pops)
    found = max(1, capacity * 100 // HEADROOM_PERCENT)
    if found > MOST_SESSIONS:
        text = f"has room for {capacity} sessions, and the model counts up to {MOST_SESSIONS}: give users"
        fields.problem((*_PATH, "file"), text)
    return found


def uncounted(scenario: Scenario, users: int) -> list[tuple[int, str]]:
    """Return the first crowd of each region that takes the demand beyond what can be counted, and what to say."""
    found = []
    sun = 1.0 if scenario.diurnal is None else 1.0 + scenario.diurnal.amplitude
    here = dict.fromkeys((one.region for one in scenario.crowds), users * sun)
    for index, one in enumerate(scenario.crowds):
        before = here[one.region]
        after = here[one.region] = before * (1.0 + max(one.rise, 0.0))
        if before <= MOST_AT_PEAK < after:
            text = f"brings up to {after:.3g} users, more than the {MOST_AT_PEAK:.3g} that are counted"
            found.append((index, text))
    return found
