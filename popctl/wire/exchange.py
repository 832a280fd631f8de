"""The shape of every datagram probe: a short conversation without I/O, without a clock, without randomness of its own.

The engine in `popctl.senses.udp` owns sockets, time and entropy; an exchange owns the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from popctl.model.observation import Outcome
from popctl.model.reason import Reason

Entropy: TypeAlias = Callable[[int], bytes]
"""Returns that many random bytes; `os.urandom` in the engine, a seeded generator in tests."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a conversation ended."""

    outcome: Outcome
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """What to do after a datagram: send these, and stop when there is a verdict.

    An empty turn means "not for this exchange, or more is needed": keep waiting. Datagrams sent along with a verdict
    are the clean-up (StopCCN, Delete) and are sent even so.
    """

    send: tuple[bytes, ...] = ()
    verdict: Verdict | None = None


IGNORED = Turn()


class Exchange(Protocol):
    """One probe conversation. Made fresh for each run, from entropy that the caller passes in."""

    def start(self) -> bytes:
        """Return the first datagram. A retransmission sends the same bytes again, never a fresh SPI."""

    def receive(self, datagram: bytes) -> Turn:
        """Take one datagram from the peer.

        Raises:
            WireError: it is garbage, truncated or oversized. The exchange is unharmed and may go on.
        """

    def abandon(self) -> tuple[bytes, ...]:
        """Return what must still be sent so that nothing half-open stays behind when time is up."""
