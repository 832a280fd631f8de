"""One agent's line to a store: the few questions that the fleet asks, whatever the store is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from popctl.model.fleet import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record as the store holds it."""

    record: Record | None
    """None: there, but not readable by this version; never counted on."""
    created: int
    modified: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All records at one revision, read so that nothing older than the request can be in it."""

    revision: int
    fence: int
    """Revision of the fence; 0 if it was never written."""
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event of the watch."""

    revision: int
    pop: str | None
    """None: the fence."""
    entry: Entry | None = None
    """None: the record is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One transaction: compare, then replace the own record; or else return a snapshot."""

    record: Record
    replaces: int
    """Revision of the own record; 0 when there is none."""
    fence: int | None = None
    """Revision that the fence must have, for a grant."""
    renew_fence: bool = False
    pins: tuple[tuple[str, int], ...] = ()
    """PoPs that must still be there, by the revision that created their record."""


class Line(Protocol):
    """Every method is bounded in time, but for `watch`, and raises `StoreError` and nothing else."""

    async def open(self) -> None:
        """Connect, and make sure of a lease: the one from before, as long as it lasts."""

    async def close(self) -> None:
        """Drop the connection. The lease goes on by itself."""

    async def read(self) -> Snapshot:
        """Read everything, not older than the call."""

    async def commit(self, write: Write) -> int | Snapshot:
        """Do one write: the new revision, or what stands there instead.

        Raises:
            StoreUnreachableError: it is not known whether it was done, or will be.
        """

    async def keep_alive(self) -> None:
        """Extend the lease by its whole duration."""

    async def revoke(self) -> None:
        """End the lease, and with it the own record."""

    def watch(self, after: int) -> AsyncIterator[tuple[Change, ...]]:
        """Yield all that changes after a revision, in order, revisions whole."""
