"""A store in memory with the semantics of etcd that the fleet relies on: revisions, leases, transactions, a watch log.

Strict: a caller that breaks the protocol gets `StoreBreachError`. Time is an argument. Values are opaque.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from popctl.model.instant import Instant

V = TypeVar("V")


class StoreBreachError(Exception):
    """The caller did what etcd would not understand; always a bug."""


@dataclass(frozen=True, slots=True)
class Stored(Generic[V]):
    """A record and its revisions."""

    value: V
    created: int
    modified: int
    lease: int


@dataclass(frozen=True, slots=True)
class LogEntry(Generic[V]):
    """One line of the watch log; `pop` None is the fence, `stored` None a deletion."""

    revision: int
    pop: str | None
    stored: Stored[V] | None = None


class MemoryStore(Generic[V]):
    """All PoPs of one fleet."""

    def __init__(self) -> None:
        self.revision = 1
        self.fence = 0
        self.records: dict[str, Stored[V]] = {}
        self.log: list[LogEntry[V]] = []
        self.commits = 0
        """Writes that changed something: what etcd would have put through its log."""
        self._leases: dict[int, tuple[float, Instant]] = {}
        self._next_lease = 1

    def grant(self, ttl_s: float, now: Instant) -> int:
        """Begin a lease."""
        lease = self._next_lease
        self._next_lease += 1
        self._leases[lease] = (ttl_s, now + ttl_s)
        return lease

    def keep_alive(self, lease: int, now: Instant) -> bool:
        """Extend a lease by its whole duration; False if it has ended."""
        self.expire(now)
        if lease not in self._leases:
            return False
        ttl_s = self._leases[lease][0]
        self._leases[lease] = (ttl_s, now + ttl_s)
        return True

    def revoke(self, lease: int) -> None:
        """End a lease and its records."""
        self._leases.pop(lease, None)
        for pop in [pop for pop, stored in self.records.items() if stored.lease == lease]:
            self.revision += 1
            del self.records[pop]
            self.log.append(LogEntry(self.revision, pop))

    def expire(self, now: Instant) -> None:
        """End the leases that nobody extended."""
        for lease in [lease for lease, (_, ends) in self._leases.items() if ends <= now]:
            self.revoke(lease)

    def commit(
        self,
        pop: str,
        value: V,
        lease: int,
        *,
        replaces: int,
        fence: int | None = None,
        renew_fence: bool = False,
        pins: Iterable[tuple[str, int]] = (),
    ) -> int | None:
        """Replace a record if all comparisons hold; return the new revision, None if one did not.

        Raises:
            KeyError: the lease has ended.
        """
        found = self.records.get(pop)
        if (found.modified if found else 0) != replaces or (fence is not None and fence != self.fence):
            return None
        if any(self.records[name].created != created if name in self.records else True for name, created in pins):
            return None
        if lease not in self._leases:
            raise KeyError(lease)
        if not pop:
            raise StoreBreachError("a record without a name")
        self.revision += 1
        self.commits += 1
        stored = Stored(value, found.created if found else self.revision, self.revision, lease)
        self.records[pop] = stored
        self.log.append(LogEntry(self.revision, pop, stored))
        if renew_fence:
            self.fence = self.revision
            self.log.append(LogEntry(self.revision, None))
        return self.revision

    def since(self, position: int) -> tuple[LogEntry[V], ...]:
        """Return the log from a position on; a position is a length of the log."""
        return tuple(self.log[position:])
