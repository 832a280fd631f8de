"""How fast one host may begin handshakes: each costs the event loop a signature, and probes share that loop."""

from __future__ import annotations

from typing import Final

from popctl.model.instant import Instant

RATE_PER_S: Final = 50.0
BURST: Final = 100.0
_REMEMBERED_HOSTS: Final = 1024


class HandshakePace:
    """The generic cell rate algorithm, per host: no refusals, only delays."""

    def __init__(self) -> None:
        self._due: dict[str, Instant] = {}

    def delay_s(self, host: str, now: Instant) -> float:
        """Count one handshake of `host` and return how long it has to wait."""
        due = max(self._due.pop(host, now), now) + 1.0 / RATE_PER_S
        self._due[host] = due
        if len(self._due) > _REMEMBERED_HOSTS:
            # The one that has been quiet for longest.
            del self._due[next(iter(self._due))]
        return max(due - now - BURST / RATE_PER_S, 0.0)
