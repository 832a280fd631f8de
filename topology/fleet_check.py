"""From the parsed shape of a fleet file to a `Fleet`, or to the list of everything that is wrong with it."""

from __future__ import annotations

import json
import reprlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from topology.announce import Action, Announcement, LocalPref, Neighbors, Relation
from topology.bounds import MOST_BIT_S, MOST_HANDSHAKES_S, MOST_SESSIONS
from topology.demand import Profile
from topology.errors import Problem, TopologyError
from topology.fleet import Capacity, Fleet, Place, Pop, Session
from topology.generate import REGIONS
from topology.keys import MOST_PREPENDS
from topology.links import LARGEST_ASN

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import Enum

Key: TypeAlias = str | int
Path: TypeAlias = tuple[Key, ...]
_MOST = {"sessions": MOST_SESSIONS, "bit_s": MOST_BIT_S, "handshakes_s": MOST_HANDSHAKES_S}
_MOST_PROFILE = {
    "bit_s_per_session": MOST_BIT_S,
    "handshake_interval_s": 10**7,
    # As agents take it from a playbook: a day.
    "reconnect_window_s": 86_400,
}
_LARGEST_MED = 2**32 - 1
_Member = TypeVar("_Member", bound="Enum")


class Checker:
    """Reads one file, collecting problems by key path."""

    def __init__(self, source: str, text: str | None) -> None:
        self._source = source
        self._text = text
        self._problems: list[Problem] = []

    def fleet(self, value: object) -> Fleet:
        """Return the fleet. Raises `TopologyError` with all problems."""
        top = self._table(value, (), required=("asn", "pops"), optional=("name", "regions", "profile"))
        asn = self._number(top, (), "asn", least=1, most=LARGEST_ASN)
        name = self._text_of(top, (), "name") if "name" in top else ""
        regions = {
            region: place
            for region, spot in self._table(top.get("regions", {}), ("regions",), required=(), optional=None).items()
            if (place := self._place(spot, ("regions", region))) is not None
        }
        profile = self._profile(top.get("profile", {}))
        pops: list[Pop] = []
        sessions: list[Session] = []
        for index, entry in enumerate(self._list(top, (), "pops")):
            self._pop(entry, ("pops", index), pops, sessions)
        if not sessions and not self._problems:
            self._problem(("pops",), "no PoP has a session")
        self._unique(((pop.name, ("pops", index, "name")) for index, pop in enumerate(pops)), "PoP")
        self._unique(((session.name, ("pops", session.pop, "sessions")) for session in sessions), "session")
        if self._problems:
            raise TopologyError(self._problems)
        return Fleet(
            asn=asn,
            pops=tuple(pops),
            sessions=tuple(sessions),
            regions=regions or REGIONS,
            name=name,
            profile=profile,
        )

    def with_pop(self, fleet: Fleet, value: object) -> Fleet:
        """Return the fleet with one more PoP, last. Raises `TopologyError` with all problems."""
        pops, sessions = list(fleet.pops), list(fleet.sessions)
        self._pop(value, (), pops, sessions)
        self._unique(((pop.name, ("name",)) for pop in pops), "PoP")
        self._unique(((session.name, ("sessions",)) for session in sessions), "session")
        if self._problems:
            raise TopologyError(self._problems)
        return replace(fleet, pops=tuple(pops), sessions=tuple(sessions))

    def _profile(self, value: object) -> Profile:
        table = self._table(value, ("profile",), required=(), optional=tuple(_MOST_PROFILE))
        usual = asdict(Profile())
        return Profile(
            **{
                key: self._number(table, ("profile",), key, least=1, most=most, default=usual[key])
                for key, most in _MOST_PROFILE.items()
            }
        )

    def _pop(self, entry: object, path: Path, pops: list[Pop], sessions: list[Session]) -> None:
        table = self._table(entry, path, required=("name", "region", "capacity", "sessions"), optional=("place",))
        capacity = self._table(
            table.get("capacity", {}),
            (*path, "capacity"),
            required=tuple(_MOST) if "capacity" in table else (),
            optional=tuple(_MOST),
        )
        amounts = {
            key: self._number(capacity, (*path, "capacity"), key, least=1, most=most) for key, most in _MOST.items()
        }
        name = self._text_of(table, path, "name")
        place = self._place(table["place"], (*path, "place")) if "place" in table else None
        pops.append(
            Pop(name=name, region=self._text_of(table, path, "region"), capacity=Capacity(**amounts), place=place)
        )
        for index, one in enumerate(self._list(table, path, "sessions")):
            sessions.append(self._session(one, (*path, "sessions", index), len(pops) - 1, name))

    def _session(self, entry: object, path: Path, pop: int, pop_name: str) -> Session:
        optional = ("name", "relation", "prepend", "med", "no_export", "local_pref", "actions")
        table = self._table(entry, path, required=("upstream",), optional=optional)
        upstream = self._number(table, path, "upstream", least=1, most=LARGEST_ASN)
        no_export = table.get("no_export", False)
        if not isinstance(no_export, bool):
            self._problem((*path, "no_export"), f"{reprlib.repr(no_export)} is neither true nor false")
        local_pref = self._member(table, path, "local_pref", {one.name.lower(): one for one in LocalPref})
        actions = [
            self._action(one, (*path, "actions", index)) for index, one in enumerate(self._list(table, path, "actions"))
        ]
        return Session(
            name=self._text_of(table, path, "name") if "name" in table else f"{pop_name}-as{upstream}",
            pop=pop,
            upstream=upstream,
            relation=self._member(table, path, "relation", {one.value: one for one in Relation}) or Relation.TRANSIT,
            announcement=Announcement(
                prepend=self._number(table, path, "prepend", least=0, most=MOST_PREPENDS, default=0),
                med=self._number(table, path, "med", least=0, most=_LARGEST_MED, default=0),
                no_export=bool(no_export),
                local_pref=local_pref or LocalPref.CUSTOMER,
                actions=tuple(actions),
            ),
        )

    def _action(self, entry: object, path: Path) -> Action:
        table = self._table(entry, path, required=(), optional=("asn", "neighbors", "region", "prepend"))
        blocks = table.get("prepend") is None
        return Action(
            prepend=None if blocks else self._number(table, path, "prepend", least=1, most=MOST_PREPENDS),
            asn=self._number(table, path, "asn", least=1, most=LARGEST_ASN) if "asn" in table else None,
            neighbors=self._member(table, path, "neighbors", {one.value: one for one in Neighbors}),
            region=self._text_of(table, path, "region") if "region" in table else None,
        )

    def _problem(self, path: Path, text: str) -> None:
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")
        line = 0 if self._text is None else line_of(self._text, path)
        self._problems.append(Problem(file=self._source, line=line, text=f"{where}: {text}" if where else text))

    def _table(
        self, value: object, path: Path, *, required: tuple[str, ...], optional: tuple[str, ...] | None
    ) -> dict[str, Any]:
        """Return an object whose keys are known; `optional=None` takes any."""
        if not isinstance(value, dict):
            self._problem(path, "is not an object")
            return {}
        for key in required:
            if key not in value:
                self._problem(path, f"{key} is missing")
        for key in value:
            if optional is not None and key not in required and key not in optional:
                self._problem((*path, key), "is not known here")
        return value

    def _list(self, table: dict[str, Any], path: Path, key: str) -> list[Any]:
        value = table.get(key, [])
        if isinstance(value, list):
            return value
        self._problem((*path, key), "is not a list")
        return []

    def _number(
        self, table: dict[str, Any], path: Path, key: str, *, least: int, most: int, default: int | None = None
    ) -> int:
        """Return a whole number in bounds. A missing one is `default`, or was reported with the table."""
        value = table.get(key, least if default is None else default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self._problem((*path, key), f"{reprlib.repr(value)} is not a whole number of {least}..{most}")
        return least

    def _text_of(self, table: dict[str, Any], path: Path, key: str) -> str:
        value = table.get(key, "-")
        if isinstance(value, str) and value and value.isprintable():
            return value
        self._problem((*path, key), f"{reprlib.repr(value)} is not a name")
        return "-"

    def _member(self, table: dict[str, Any], path: Path, key: str, members: dict[str, _Member]) -> _Member | None:
        value = table.get(key)
        if value is None:
            return None
        if isinstance(value, str) and value in members:
            return members[value]
        self._problem((*path, key), f"{reprlib.repr(value)} is none of {', '.join(members)}")
        return None

    def _place(self, value: object, path: Path) -> Place | None:
        match value:
            case [int() | float() as latitude, int() | float() as longitude]:
                if abs(latitude) <= 90 and abs(longitude) <= 180:  # noqa: PLR2004 - degrees
                    return Place(latitude_deg=float(latitude), longitude_deg=float(longitude))
        self._problem(path, f"{reprlib.repr(value)} is not [latitude, longitude] in degrees")
        return None

    def _unique(self, names: Iterable[tuple[str, Path]], what: str) -> None:
        seen: set[str] = set()
        for name, path in names:
            if name in seen:
                self._problem(path, f"a second {what} named {name!r}")
            seen.add(name)


def line_of(text: str, path: Path) -> int:
    """Return the line where the value at a key path starts, in text that is known to be JSON."""
    place = _skip(text, 0)
    for key in path:
        found = _child(text, place, key)
        if found is None:
            break
        place = found
    return text.count("\n", 0, place) + 1


def _skip(text: str, place: int) -> int:
    while text[place] in " \t\r\n,:":
        place += 1
    return place


def _child(text: str, place: int, key: Key) -> int | None:
    """Return where a member of the object or array that starts at `place` starts."""
    decoder = json.JSONDecoder()
    closing = {"{": "}", "[": "]"}.get(text[place])
    if closing is None:
        return None
    keyed = closing == "}"
    index = 0
    place = _skip(text, place + 1)
    while text[place] != closing:
        name: Key = index
        if keyed:
            name, place = decoder.raw_decode(text, place)
            place = _skip(text, place)
        if name == key:
            return place
        _, place = decoder.raw_decode(text, place)
        place = _skip(text, place)
        index += 1
    return None
