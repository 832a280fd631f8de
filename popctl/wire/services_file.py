"""The file of what services have been through: falls, and since when and how far they should have left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from popctl.model.announce import Announce
from popctl.model.past import Past, ServicePast
from popctl.wire.errors import UNREADABLE, WireError
from popctl.wire.sealed import checksum, dump

if TYPE_CHECKING:
    from popctl.model.instant import Instant

FORMAT: Final = 1
ABSENCE_S: Final = 300.0
"""After a longer absence of the agent a service that is bad is bad anew: nobody saw what it was meanwhile."""


def encode(past: Past, *, unix_s: float, now: Instant) -> bytes:
    """Return the file. Instants become wall time; `unix_s` and `now` are the same moment on both clocks."""

    def wall(at: Instant) -> float:
        return round(unix_s + at - now, 3)

    services = {
        name: {
            "flaps_unix_s": [wall(at) for at in one.flaps],
            "bad_since_unix_s": None if one.bad_since is None else wall(one.bad_since),
            "lowered": one.lowered,
        }
        for name, one in past.services.items()
    }
    payload = {"written_unix_s": round(unix_s, 3), "services": services}
    return dump({"format": FORMAT, "checksum": checksum(payload), "past": payload})


def decode(content: bytes, *, unix_s: float, now: Instant) -> Past:
    """Read the file. Falls always count; since when a service was bad only if the agent was not away for long.

    Raises:
        WireError: it is not what `encode` writes.
    """
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise WireError(f"format {document['format']!r}, this popctl reads {FORMAT}", found=content)
        payload = document["past"]
        if document["checksum"] != checksum(payload):
            raise WireError("the checksum does not match", found=content)
        offset_s = unix_s - now
        recent = unix_s - float(payload["written_unix_s"]) <= ABSENCE_S
        services = payload["services"].items()
        return Past({name: _service(one, offset_s, now, recent=recent) for name, one in services})
    except UNREADABLE as error:
        raise WireError(f"truncated, overwritten or edited: {error}", found=content) from error


def _service(plain: dict[str, Any], offset_s: float, now: Instant, *, recent: bool) -> ServicePast:
    def past(unix: float) -> Instant:
        # A wall clock that was set back meanwhile must not put the past into the future.
        return min(float(unix) - offset_s, now)

    bad_since, lowered = plain["bad_since_unix_s"], Announce(plain["lowered"])
    return ServicePast(
        flaps=tuple(past(at) for at in plain["flaps_unix_s"]),
        bad_since=past(bad_since) if recent and bad_since is not None else None,
        lowered=lowered if recent else Announce.NORMAL,
    )
