"""Hears of every change to nftables on this host, and tells ours from other people's."""

from __future__ import annotations

import errno
import socket

from popctl.lb.balancer import KernelError
from popctl.wire.errors import WireError
from popctl.wire.nfnetlink import MULTICAST_GROUP, Change, Generation, generation_request, messages

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_BUFFER = 1 << 20
_TIMEOUT_S = 5.0


class Watch:
    """Two netlink sockets of the namespace of the thread that made it: one hears changes, one asks for generations."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._ours: set[int] = set()
        self._touched = False
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._events.settimeout(0)
        self._events.bind((0, 0))
        self._events.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, MULTICAST_GROUP)
        self._questions = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._questions.settimeout(_TIMEOUT_S)
        self._questions.bind((0, 0))

    def fileno(self) -> int:
        """Return what becomes readable when something changed."""
        return self._events.fileno()

    def generation(self) -> int:
        """Return the number of the last transaction on this host.

        Raises:
            KernelError: no answer.
        """
        try:
            self._questions.send(generation_request())
            answer = next(iter(messages(self._questions.recv(_BUFFER))), None)
        except (OSError, WireError) as error:
            raise KernelError("nftables generation", str(error)) from error
        if not isinstance(answer, Generation):
            raise KernelError("nftables generation", f"unexpected answer {answer!r}")
        return answer.number

    def expect(self, before: int) -> None:
        """Announce a transaction of ours; said before it is made, because the event loop may hear of it at once."""
        self._ours.add(before + 1)

    def alone(self, before: int, after: int) -> bool:
        """Return whether nobody else's transaction came between; if somebody's did, which is whose is not known."""
        if after == before:
            self._ours.discard(before + 1)
        return after in (before, before + 1)

    def foreign_change(self) -> bool:
        """Read what was heard; True when somebody else changed our table, or when too much was said to be sure."""
        foreign = False
        while True:
            try:
                datagram = self._events.recv(_BUFFER)
            except BlockingIOError:
                return foreign
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError("nftables events", str(error)) from error
                foreign = True
                continue
            foreign |= self._hear(datagram)

    def _hear(self, datagram: bytes) -> bool:
        foreign = False
        try:
            for message in messages(datagram):
                match message:
                    case Change(table):
                        self._touched |= table == self._table
                    case Generation(number):
                        foreign |= self._touched and number not in self._ours
                        self._ours.discard(number)
                        self._touched = False
        except WireError:
            return True
        return foreign

    def close(self) -> None:
        """Close both sockets."""
        self._events.close()
        self._questions.close()
