"""The file of what load has done: where the PoP stands on its ladder, and the penalties of its routes.

Levels are known by name, so that a ladder that was changed meanwhile does not turn one into another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from popctl.model.capacity import CALM, Distrust, LoadMemory, LoadPolicy, LoadState
from popctl.model.damping import Ledger, Penalty
from popctl.model.reason import Reason
from popctl.model.route import RouteKey
from popctl.wire.addresses import address_of, prefix_of
from popctl.wire.errors import UNREADABLE, WireError
from popctl.wire.sealed import checksum, dump

if TYPE_CHECKING:
    from popctl.model.instant import Instant
    from popctl.model.playbook import Level

FORMAT: Final = 1


def encode(memory: LoadMemory, ladder: tuple[Level, ...], *, unix_s: float, now: Instant) -> bytes:
    """Return the file. Instants become wall time; what waits for verification is forgotten."""
    state = memory.state

    def wall(at: Instant) -> float:
        return round(unix_s + at - now, 3)

    payload = {
        "level": ladder[state.level].name,
        "since_unix_s": wall(state.since),
        "reason": state.reason,
        "distrusted": [
            [ladder[one.before].name, ladder[one.after].name, wall(one.until), one.times] for one in state.distrusted
        ],
        "ungated_unix_s": [wall(at) for at in state.ungated],
        "penalties": [
            [str(key.neighbor), str(key.prefix), penalty.value, wall(penalty.at)]
            for key, penalty in memory.ledger.items()
        ],
    }
    return dump({"format": FORMAT, "checksum": checksum(payload), "load": payload})


def decode(content: bytes, ladder: tuple[Level, ...], policy: LoadPolicy, *, unix_s: float, now: Instant) -> LoadMemory:
    """Read the file. A level that the ladder does not have any more is level 0.

    A wall clock that was wrong, then or now, neither puts the past into the future nor lets distrust last longer than
    `policy` lets any.

    Raises:
        WireError: it is not what `encode` writes.
    """
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise WireError(f"format {document['format']!r}, this popctl reads {FORMAT}", found=content)
        if document["checksum"] != checksum(document["load"]):
            raise WireError("the checksum does not match", found=content)
        return _Reader(ladder, policy, unix_s=unix_s, now=now).memory(document["load"])
    except UNREADABLE as error:
        raise WireError(f"truncated, overwritten or edited: {error}", found=content) from error


class _Reader:
    """Turns wall time into instants and names into levels."""

    def __init__(self, ladder: tuple[Level, ...], policy: LoadPolicy, *, unix_s: float, now: Instant) -> None:
        self._numbers = {level.name: number for number, level in enumerate(ladder)}
        self._offset_s = unix_s - now
        self._now = now
        self._latest = now + policy.backoff_max_s

    def memory(self, payload: dict[str, Any]) -> LoadMemory:
        level = self._numbers.get(payload["level"], 0)
        if not level:
            state = CALM
        else:
            reason = None if payload["reason"] is None else Reason(payload["reason"])
            state = LoadState(level=level, since=self._past(payload["since_unix_s"]), reason=reason)
        state = replace(
            state,
            distrusted=tuple(self._distrusted(payload["distrusted"])),
            ungated=tuple(self._past(at) for at in payload["ungated_unix_s"]),
        )
        return LoadMemory(state=state, ledger=self._ledger(payload["penalties"]))

    def _past(self, unix: float) -> Instant:
        # A wall clock that was set back meanwhile must not put the past into the future.
        return min(float(unix) - self._offset_s, self._now)

    def _distrusted(self, rows: list[list[Any]]) -> Iterable[Distrust]:
        for before, after, until, times in rows:
            if before in self._numbers and after in self._numbers:
                yield Distrust(
                    before=self._numbers[before],
                    after=self._numbers[after],
                    until=min(float(until) - self._offset_s, self._latest),
                    times=int(times),
                )

    def _ledger(self, rows: list[list[Any]]) -> Ledger:
        return {
            RouteKey(address_of(neighbor), prefix_of(prefix)): Penalty(float(value), self._past(at))
            for neighbor, prefix, value, at in rows
        }
