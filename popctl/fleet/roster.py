"""Who is in the fleet, as one agent has heard it. Judges nothing."""

from __future__ import annotations

from collections.abc import Mapping

from popctl.fleet.line import Change, Entry
from popctl.model.fleet import Member
from popctl.model.instant import Instant

FORGET_LOST_AFTER_S = 3600.0


class Roster:
    """All readable records, and whose have disappeared."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self._lost: dict[str, Instant] = {}

    def take(self, entries: Mapping[str, Entry], now: Instant) -> None:
        """Make `entries` all there is."""
        for name in [name for name in self.members if name not in entries]:
            self._lose(name, now)
        for name, entry in entries.items():
            self.put(name, entry, now)

    def changed(self, name: str, change: Change, now: Instant) -> None:
        """Take one event of the watch; one that is older than what is known is passed over."""
        known = self.members.get(name)
        if known is not None and known.modified >= change.revision:
            return
        if change.entry is None:
            self._lose(name, now)
        else:
            self.put(name, change.entry, now)

    def put(self, name: str, entry: Entry, now: Instant) -> None:
        """Replace one record."""
        known = self.members.get(name)
        if known is not None and known.modified == entry.modified:
            return
        if entry.record is None:
            self._lose(name, now)
            return
        self._lost.pop(name, None)
        self.members[name] = Member(record=entry.record, heard_at=now, created=entry.created, modified=entry.modified)

    def drop(self, name: str) -> None:
        """Forget a PoP without calling it lost."""
        self.members.pop(name, None)
        self._lost.pop(name, None)

    def lost_lately(self, now: Instant) -> Mapping[str, Instant]:
        """Return whose record disappeared, and when that was heard."""
        return {name: at for name, at in self._lost.items() if now - at < FORGET_LOST_AFTER_S}

    def _lose(self, name: str, now: Instant) -> None:
        if self.members.pop(name, None) is not None:
            self._lost[name] = now
