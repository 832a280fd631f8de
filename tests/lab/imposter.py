"""Stands in the place of a backend's IKE daemon and answers wrongly: `python3 imposter.py MODE OWN REAL`.

OWN is its address, REAL that of a real gateway: it asks that one, so that what it makes of the answers is as close to
right as wrong answers get. Standard library only: it runs on a backend node.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
from collections.abc import Callable

_MARKER = bytes(4)
"""In front of IKE on port 4500 (RFC 3948 section 2.2)."""
_COOKIE_BYTES = 8
_MOST = 65000


class Imposter:
    """One way to be wrong."""

    def __init__(self, own: str, gateway: str) -> None:
        self._own = own
        self._gateway = gateway
        self._first: dict[int, bytes] = {}
        self.modes: dict[str, Callable[[bytes, int], bytes | None]] = {
            "noise": self.noise,
            "truncated": self.truncated,
            "oversized": self.oversized,
            "replayed": self.replayed,
            "of-another": self.of_another,
        }

    def noise(self, question: bytes, _: int) -> bytes:
        """Bytes that nobody means."""
        return os.urandom(len(question))

    def truncated(self, question: bytes, port: int) -> bytes | None:
        """The right answer without its end."""
        answer = self._ask(question, port)
        return answer and answer[:-3]

    def oversized(self, question: bytes, port: int) -> bytes | None:
        """The right answer in a datagram that is far too long for it."""
        answer = self._ask(question, port)
        return answer and answer + bytes(_MOST - len(answer))

    def replayed(self, question: bytes, port: int) -> bytes | None:
        """The answer to the first question, whatever is asked."""
        if port not in self._first:
            answer = self._ask(question, port)
            if answer is None:
                return None
            # The first question itself gets no answer: that one would be right.
            self._first[port] = answer
            return None
        return self._first[port]

    def of_another(self, question: bytes, port: int) -> bytes | None:
        """What the gateway answers to the same question of somebody else."""
        at = len(_MARKER) if port == 4500 else 0
        return self._ask(question[:at] + os.urandom(_COOKIE_BYTES) + question[at + _COOKIE_BYTES :], port)

    def _ask(self, question: bytes, port: int) -> bytes | None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            # Without it the VIP would be the source, which the gateway has itself.
            sock.bind((self._own, 0))
            sock.connect((self._gateway, port))
            try:
                sock.send(question)
                return sock.recv(_MOST)
            except OSError:
                return None


def main(mode: str, own: str, gateway: str) -> None:
    """Answer until killed."""
    answer_of = Imposter(own, gateway).modes[mode]
    selector = selectors.DefaultSelector()
    for port in (500, 4500):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", port))  # noqa: S104 - a node of the lab
        selector.register(sock, selectors.EVENT_READ, port)
    while True:
        for key, _ in selector.select():
            sock = key.fileobj
            question, peer = sock.recvfrom(_MOST)
            answer = answer_of(question, key.data)
            if answer is not None:
                sock.sendto(answer, peer)


if __name__ == "__main__":
    main(*sys.argv[1:])
