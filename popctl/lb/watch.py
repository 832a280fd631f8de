"""Hears of every change to nftables on this host, tells ours from other people's, and reads the bones of a table."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from popctl.lb.balancer import KernelError
from popctl.lb.netlink import Questions
from popctl.wire.errors import WireError
from popctl.wire.nfnetlink import (
    MULTICAST_GROUP,
    Change,
    End,
    Entry,
    Generation,
    Interrupted,
    Kind,
    bones,
    counted,
    dump_request,
    dumped,
    generation_request,
    messages,
)
from popctl.wire.nft_load import load_answers, load_request
from popctl.wire.nft_text import SeenTable

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2
_BUFFER = 1 << 20
_SEND_BUFFER_FORCE = 32
"""SO_SNDBUFFORCE: a transaction is one datagram, and rows are 2 MB."""
_TIMEOUT_S = 5.0
_TRIES = 5

T = TypeVar("T")


def _netlink() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    made.bind((0, 0))
    return made


@dataclass(frozen=True, slots=True)
class Touched:
    """What other people did to our tables since somebody last asked."""

    table: bool = False
    """They changed something, or may have."""
    sets: frozenset[str] = frozenset()
    """Sets of which they changed the elements, or which they made anew."""
    unsure: bool = False
    """Too much was said to hear it all."""


class Watch:
    """Two netlink sockets of the namespace of the thread that made it: one hears changes, one asks questions.

    The event loop listens, the worker asks; what was heard is shared between them.
    """

    def __init__(self, table: str, *, netlink: Callable[[], socket.socket] = _netlink) -> None:
        self._table = table
        self._lock = Lock()
        self._ours: set[int] = set()
        self._now: set[str] | None = None
        """Names of sets in the transaction that is being heard of; None: it is not about our table."""
        self._touched = Touched()
        self._events = _netlink()
        self._events.settimeout(0)
        self._events.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, MULTICAST_GROUP)
        self._asking = netlink()
        self._asking.settimeout(_TIMEOUT_S)
        self._questions = Questions(self._asking, _BUFFER)

    def fileno(self) -> int:
        """Return what becomes readable when something changed."""
        return self._events.fileno()

    def generation(self) -> int:
        """Return the number of the last transaction on this host.

        Raises:
            KernelError: no answer.
        """

        def ask() -> int:
            answer = next(messages(next(self._questions.ask(generation_request()))), None)
            if not isinstance(answer, Generation):
                raise WireError(f"unexpected answer {answer!r}")
            return answer.number

        return _told("nftables generation", ask)

    def bones(self, families: tuple[str, ...]) -> dict[str, SeenTable | None]:
        """Return our table in each family, sets without elements; None where there is none.

        Raises:
            KernelError: no answer, or others change the rules faster than they can be read.
        """
        entries = self._at_rest(Kind)
        found = {family: bones(entries, family, self._table) for family in families}
        return {family: seen if seen.chains else None for family, seen in found.items()}

    def counters(self) -> list[tuple[str, int, int]]:
        """Return name, packets and bytes of every counter of our tables.

        Raises:
            KernelError: no answer, or others change the rules faster than they can be read.
        """
        return list(counted(self._at_rest((Kind.OBJECTS,)), self._table))

    def _at_rest(self, kinds: Iterable[Kind]) -> list[Entry]:
        """Dump these kinds as they were at one generation."""
        for _ in range(_TRIES):
            before = self.generation()
            entries = _told("nftables dump", lambda: self._dumps(kinds))
            if entries is not None and self.generation() == before:
                return entries
        raise KernelError("nftables dump", "the rule set changes all the time")

    def _dumps(self, kinds: Iterable[Kind]) -> list[Entry] | None:
        found = []
        for kind in kinds:
            entries = self._dump(kind)
            if entries is None:
                return None
            found += entries
        return found

    def _dump(self, kind: Kind) -> list[Entry] | None:
        """Return None when it was interrupted. Reads to the end either way: the kernel begins no other one before."""
        entries: list[Entry] = []
        interrupted = False
        for datagram in self._questions.ask(dump_request(kind)):
            for one in dumped(datagram, kind):
                match one:
                    case Entry():
                        entries.append(one)
                    case Interrupted():
                        interrupted = True
                    case End(0):
                        return None if interrupted else entries
                    case End(error):
                        raise OSError(error, "refused")
        return None

    def load(self, name: str, elements: Iterable[tuple[int, int]], generation: int) -> None:
        """Add elements (mark -> mark) to a map of our `inet` table, all or none.

        Raises:
            KernelError: nothing was changed; also when the rule set is of another generation by now.
        """
        request = load_request("inet", self._table, name, elements, generation)

        def ask() -> list[int]:
            self._asking.setsockopt(socket.SOL_SOCKET, _SEND_BUFFER_FORCE, len(request) + _BUFFER)
            # One datagram for each message that failed, or one for the last; the first of them tells enough.
            return load_answers(next(self._questions.ask(request)))

        # 65,536 notices of our own would overflow what we listen with, and nobody could say whose the lost ones were.
        self._events.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, MULTICAST_GROUP)
        try:
            errors = _told("nftables load", ask)
        finally:
            self._events.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, MULTICAST_GROUP)
            missed = self.generation() not in (generation, generation + 1)
            with self._lock:
                self._ours.discard(generation + 1)
                if missed:
                    self._touched = Touched(table=True, unsure=True)
        if any(errors):
            raise KernelError("nftables load", os.strerror(max(errors)))

    def expect(self, before: int) -> None:
        """Announce a transaction of ours; said before it is made, because the event loop may hear of it at once."""
        with self._lock:
            self._ours.add(before + 1)

    def forget(self, before: int) -> None:
        """Take that back: nothing was changed, and the next transaction may be anybody's."""
        with self._lock:
            self._ours.discard(before + 1)

    def alone(self, before: int, after: int) -> bool:
        """Return whether nobody else's transaction came between; if somebody's did, which is whose is not known."""
        if after == before:
            self.forget(before)
        return after in (before, before + 1)

    def foreign_change(self) -> bool:
        """Read what was heard; True when somebody else changed our table, or when too much was said to be sure."""
        with self._lock:
            self._hear()
            return self._touched.table

    def take(self) -> Touched:
        """Read what was heard and return all of it since the last time."""
        with self._lock:
            self._hear()
            touched, self._touched = self._touched, Touched()
            return touched

    def _hear(self) -> None:
        while True:
            try:
                heard = list(messages(self._events.recv(_BUFFER)))
            except BlockingIOError:
                return
            except (OSError, WireError) as error:
                if isinstance(error, OSError) and error.errno != errno.ENOBUFS:
                    raise KernelError("nftables events", str(error)) from error
                self._touched = Touched(table=True, unsure=True)
                continue
            for message in heard:
                self._note(message)

    def _note(self, message: Change | Generation) -> None:
        match message:
            case Change(table, name) if table == self._table:
                self._now = (self._now or set()) | ({name} if name else set())
            case Generation(number):
                if self._now is not None and number not in self._ours:
                    before = self._touched
                    self._touched = Touched(table=True, sets=before.sets | self._now, unsure=before.unsure)
                self._ours.discard(number)
                self._now = None

    def close(self) -> None:
        """Close both sockets."""
        self._events.close()
        self._questions.close()


def _told(what: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except (OSError, WireError) as error:
        raise KernelError(what, str(error)) from error
