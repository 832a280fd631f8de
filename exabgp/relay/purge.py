"""The end of a lease: every route goes, and what is not proven gone takes ExaBGP with it."""

from __future__ import annotations

import ipaddress
import json
import signal
from typing import TYPE_CHECKING

from console import log
from daemon import Command, Exabgp, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from allowlist import Config

RESEND_S = 0.1
"""A withdraw without echo goes out again: the first batch of a session swallows withdraws."""
TERM_AFTER_S, KILL_AFTER_S = 0.5, 0.7
"""After the lease ran out: end ExaBGP when the withdraw is not proven by then. All is gone at lease + 1 s."""


class Purge:
    """Withdraw everything, believe only echoes, and end ExaBGP when they do not come in time."""

    def __init__(self, config: Config, exabgp: Exabgp, started: float) -> None:
        self.done = False
        self._config = config
        self._exabgp = exabgp
        self._started = started
        self._resend_at = started
        self._families: dict[str, list[str]] = {}
        self._rib: dict[tuple[str, str], str] = {}
        self._unanswered = 2
        self._signalled = 0
        exabgp.forget_agent()
        exabgp.order(Command("show neighbor json", self._read_neighbors))
        exabgp.order(Command("show adj-rib out json", self._read_rib))

    def deadline(self) -> float:
        """When `tick` has something to do for time alone."""
        steps = (self._started + TERM_AFTER_S, self._started + KILL_AFTER_S, float("inf"))
        return min(steps[self._signalled], self._resend_at if self._unanswered == 0 else float("inf"))

    def tick(self, now: float) -> None:
        """Look at what is left."""
        if self._unanswered == 0 and not self._left():
            self.done = True
            log("lease expired: all routes are withdrawn")
        elif now >= self._started + KILL_AFTER_S and self._signalled < 2:  # noqa: PLR2004 - the last step
            self._signalled = 2
            log("lease expired: ExaBGP is killed")
            self._exabgp.signal(signal.SIGKILL)
        elif now >= self._started + TERM_AFTER_S and self._signalled < 1:
            self._signalled = 1
            log("lease expired: withdraw not proven, ExaBGP is ended")
            self._exabgp.signal(signal.SIGTERM)
        elif self._unanswered == 0 and now >= self._resend_at:
            self._resend_at = now + RESEND_S
            self._withdraw(self._left())

    def _left(self) -> dict[tuple[str, str], str]:
        """What is not proven gone: still in ExaBGP's table, or still told to a peer."""
        left = dict(self._rib)
        for peer, session in self._exabgp.sessions.items():
            left.update({(peer, prefix): told["next_hop"] for prefix, told in session.sent.items()})
        return left

    def _read_neighbors(self, _: str, lines: list[str]) -> None:
        self._unanswered -= 1
        for neighbor in json.loads("".join(lines) or "[]"):
            if neighbor.get("fsm") == "ESTABLISHED":
                self._families[neighbor["peer"]["address"]] = neighbor["families"]

    def _read_rib(self, _: str, lines: list[str]) -> None:
        self._unanswered -= 1
        for line in lines:
            entry = json.loads(line)
            nlri = entry["route"]["nlri"]
            self._rib[entry["peer"]["address"], nlri["prefix"]] = nlri["nexthop"]
        for peer, families in self._families.items():
            self._assume_told(peer, families)

    def _assume_told(self, peer: str, families: list[str]) -> None:
        """A session that began before this process may carry anything on the allowlist, in its negotiated families.

        Of another family there is no echo to wait for, and that would end ExaBGP for nothing.
        """
        session = self._exabgp.sessions.setdefault(peer, Session(watched=False))
        if session.watched:
            return
        held = {prefix: hop for (holder, prefix), hop in self._rib.items() if holder == peer}
        for prefix in (self._config.prefixes - session.withdrawn) | held.keys():
            version = ipaddress.ip_network(prefix).version
            if f"ipv{version} unicast" in families:
                hop = held.get(prefix, "0.0.0.0" if version == 4 else "::")  # noqa: S104, PLR2004 - no binding; IPv4
                session.sent.setdefault(prefix, {"next_hop": hop, "attribute": {}})

    def _withdraw(self, left: dict[tuple[str, str], str]) -> None:
        self._unanswered += len(left)
        for (peer, prefix), next_hop in left.items():
            line = f"neighbor {peer} withdraw route {prefix} next-hop {next_hop}"
            self._exabgp.order(Command(line, self._withdrawn(peer, prefix)))

    def _withdrawn(self, peer: str, prefix: str) -> Callable[[str, list[str]], None]:
        def finish(result: str, _: list[str]) -> None:
            self._unanswered -= 1
            if result == "done":
                self._rib.pop((peer, prefix), None)

        return finish
