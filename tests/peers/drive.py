"""Carry out one probe conversation over a blocking socket: what the engine does, in its simplest form."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from popctl.wire.errors import WireError

if TYPE_CHECKING:
    import socket

    from popctl.wire.exchange import Exchange, Verdict

_MAX_DATAGRAM = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a conversation went."""

    verdict: Verdict | None
    """None: no verdict in time."""
    refused: bool
    """ICMP port unreachable came."""
    sent: tuple[bytes, ...]
    received: tuple[bytes, ...]
    garbage: int
    """Datagrams that could not be read or did not belong here."""


def drive(exchange: Exchange, sock: socket.socket, *, within_s: float = 3.0, resend_s: float = 1.0) -> Ended:
    """Run `exchange` on a connected socket until it has a verdict, is refused, or time is up.

    The last request is sent again after `resend_s` without an answer that moves things on.
    """
    sent, received, garbage = [exchange.start()], [], 0
    last = sent[0]
    verdict: Verdict | None = None
    end = time.monotonic() + within_s
    resend = time.monotonic() + resend_s
    try:
        sock.send(last)
        while verdict is None and time.monotonic() < end:
            sock.settimeout(max(0.001, min(end, resend) - time.monotonic()))
            try:
                datagram = sock.recv(_MAX_DATAGRAM)
            except TimeoutError:
                if time.monotonic() >= resend and time.monotonic() < end:
                    sock.send(last)
                    resend = end
                continue
            received.append(datagram)
            try:
                turn = exchange.receive(datagram)
            except WireError:
                garbage += 1
                continue
            for out in turn.send:
                sock.send(out)
                last = out
            sent += turn.send
            verdict = turn.verdict
        if verdict is None:
            for out in exchange.abandon():
                sock.send(out)
                sent.append(out)
    except ConnectionRefusedError:
        return Ended(verdict=verdict, refused=True, sent=tuple(sent), received=tuple(received), garbage=garbage)
    return Ended(verdict=verdict, refused=False, sent=tuple(sent), received=tuple(received), garbage=garbage)
