"""The truth about mis-steers: what backends say they could not use, and the form that no counter of theirs shows."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from popctl.model.instant import Instant
from popctl.model.missteer import ClientAt, History, Seen, Split

MAX_CLIENTS = 50_000
"""Of a history: some 10 MB. Clients beyond it are not watched for the silent form."""


def grown(past: int | None, current: int) -> int:
    """Return how far a counter has come: what was there before the first look counts nothing, a restart starts at 0."""
    if past is None:
        return 0
    return current - past if current >= past else current


def follow(
    history: History, seen: Iterable[ClientAt], now: Instant, *, working: AbstractSet[int], forget_s: float
) -> tuple[History, tuple[Split, ...]]:
    """Take one look at the SAs of backends; return the new history and the clients that were split since the last.

    The silent mis-steer of an IKEv1 re-authentication: SAs come up on a backend that never had data of this client
    while the one that had works. No counter moves, and data stop at the next quick mode. A client whose backend is not
    `working` (down, draining, taken out) may move; one that is silent for `forget_s` may come back anywhere.
    """
    clients = {who: one for who, one in history.clients.items() if now - one.at <= forget_s}
    found: set[Split] = set()
    told = {who for who in history.split if who in clients}
    for one in sorted(seen, key=lambda client: not client.esp_in):
        who = (one.address, one.port)
        before = clients.get(who)
        if before is not None and before.backend != one.backend and before.backend in working and who not in told:
            found.add(Split(address=one.address, port=one.port, before=before.backend, now=one.backend))
            told.add(who)
        if one.esp_in and (before is not None or len(clients) < MAX_CLIENTS) and who not in told:
            clients[who] = Seen(backend=one.backend, at=now)
    return History(clients=clients, split=frozenset(told)), tuple(sorted(found))
