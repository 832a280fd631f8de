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
    history: History,
    backend: int,
    seen: Iterable[ClientAt],
    now: Instant,
    *,
    working: AbstractSet[int],
    forget_s: float,
) -> tuple[History, tuple[Split, ...]]:
    """Take a look at the SAs of one backend; return the new history and the clients that are split, each told once.

    The silent mis-steer of an IKEv1 re-authentication: a quick mode comes up on a backend that has no L2TP tunnel of
    this client. It decrypts, no counter moves, and it never answers, while another backend did. A client that connects
    anew looks the same until its first answer: one look is no proof, two are. A client whose backend is not `working`
    (it is down, or was given up) may move, and one that was silent for `forget_s` may come back anywhere.
    """
    clients = {who: one for who, one in history.clients.items() if now - one.at <= forget_s}
    suspects = {one for one in history.suspects if one[1] != backend}
    told = {who for who in history.told if who in clients}
    found = set()
    for one in seen:
        who = (one.address, one.port)
        before = clients.get(who)
        if one.answered:
            if before is not None or len(clients) < MAX_CLIENTS:
                clients[who] = Seen(backend=backend, at=now)
        elif one.received and before is not None and before.backend != backend and before.backend in working:
            suspects.add((who, backend))
            if (who, backend) in history.suspects and who not in told:
                told.add(who)
                found.add(Split(address=one.address, port=one.port, before=before.backend, now=backend))
    after = History(clients=clients, suspects=frozenset(suspects), told=frozenset(told))
    return after, tuple(sorted(found))
