"""Questions on one netlink socket, numbered: an answer that came too late is not taken for that to the next one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Protocol

from popctl.wire.netlink import answering, numbered


class Netlink(Protocol):
    """What is used of a netlink socket; the time limit is the socket's own."""

    def send(self, data: bytes, /) -> int:
        """Send one datagram. Raises `OSError`."""

    def recv(self, size: int, /) -> bytes:
        """Return one datagram. Raises `OSError`; `TimeoutError` when none comes."""

    def close(self) -> None:
        """Close it."""


class Questions:
    """Asks one question after another, each read for as long as whoever asked wants to."""

    def __init__(self, netlink: Netlink, buffer_bytes: int) -> None:
        """Take over the socket; no answer is longer than `buffer_bytes`."""
        self._netlink = netlink
        self._buffer_bytes = buffer_bytes
        self._numbers = count(1)

    def ask(self, messages: bytes) -> Iterator[bytes]:
        """Send; yield what answers it, for ever: the messages say which is the last. Raises `OSError`, `WireError`."""
        number = next(self._numbers) & 0xFFFFFFFF
        self._netlink.send(numbered(messages, number))
        while True:
            answer = answering(self._netlink.recv(self._buffer_bytes), number)
            if answer:
                yield answer

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()
