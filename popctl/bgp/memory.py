"""The Speaker without a router: for tests and timelines of everything that uses one.

Strict: a caller that breaks the protocol gets `ProtocolBreachError` at once. By default every change is proven before
`set` returns; with `prove=False` changes stay pending until `prove()`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from popctl.bgp import allowlist
from popctl.bgp.speaker import SpeakerError
from popctl.model.desired import Actual
from popctl.model.route import Address, Route, RouteKey, RouteTable, route_table

if TYPE_CHECKING:
    from popctl.bgp.speaker import OnActual
    from popctl.model.pop import Pop


class ProtocolBreachError(SpeakerError):
    """The caller did what the protocol forbids; always a bug."""


class MemorySpeaker:
    """Implements `Speaker`; sessions and inherited routes are in the hands of the test."""

    def __init__(self, pop: Pop, *, inherited: RouteTable | None = None, prove: bool = True) -> None:
        self._pop = pop
        self._prove_at_once = prove
        self._replay: dict[RouteKey, Route] = dict(inherited or {})
        self._sessions = {neighbor.address: True for neighbor in pop.neighbors}
        self._wanted: RouteTable | None = None
        self._on_actual: OnActual | None = None
        self._last: Actual | None = None
        self._ended = asyncio.Event()
        self.released = False
        self.updates = 0
        """UPDATEs that peers would have received."""

    # ---------------------------------------------------------------------------------------------------- Speaker

    async def set(self, routes: RouteTable) -> None:
        """Make `routes` the wanted table."""
        if self.released:
            raise ProtocolBreachError("set() after release()")
        allowlist.check(routes, self._pop)
        self._wanted = route_table(routes.items())
        self._apply()

    async def run(self, on_actual: OnActual) -> None:
        """Report until cancelled or released."""
        if self._on_actual is not None:
            raise ProtocolBreachError("run() while run() is running")
        if self.released:
            raise ProtocolBreachError("run() after release()")
        self._on_actual = on_actual
        try:
            on_actual(Actual(sessions=dict.fromkeys(self._sessions, False)))
            self._apply()
            await self._ended.wait()
        finally:
            self._on_actual = None

    async def release(self) -> None:
        """Leave; the routes stay."""
        self.released = True
        self._ended.set()

    # ------------------------------------------------------------------------------------------------ for the test

    def session(self, neighbor: Address, *, up: bool) -> None:
        """Let a session come or go. A new session gets everything replayed."""
        if neighbor not in self._sessions:
            raise ProtocolBreachError(f"{neighbor} is no neighbour of this PoP")
        if up and not self._sessions[neighbor]:
            self.updates += sum(key.neighbor == neighbor for key in self._replay)
        self._sessions[neighbor] = up
        self._report()

    def prove(self) -> None:
        """Prove everything that is pending."""
        for key in self._pending():
            if self._wanted is not None and key in self._wanted:
                self._replay[key] = self._wanted[key]
            else:
                self._replay.pop(key, None)
            self.updates += self._sessions[key.neighbor]
        self._report()

    def at_peer(self, neighbor: Address) -> RouteTable:
        """Return what a neighbour holds now."""
        if not self._sessions[neighbor]:
            return route_table()
        return route_table((key, route) for key, route in self._replay.items() if key.neighbor == neighbor)

    # -------------------------------------------------------------------------------------------------------- inside

    def _apply(self) -> None:
        # Without a connection nothing moves, as with the real one.
        if self._on_actual is not None and self._prove_at_once:
            self._report()
            self.prove()
        self._report()

    def _pending(self) -> frozenset[RouteKey]:
        if self._wanted is None:
            return frozenset()
        keys = {*self._wanted, *self._replay}
        return frozenset(key for key in keys if self._wanted.get(key) != self._replay.get(key))

    def _report(self) -> None:
        if self._on_actual is None:
            return
        actual = Actual(
            connected=True,
            inherited=True,
            sessions=dict(self._sessions),
            routes=route_table(self._replay.items()),
            pending=self._pending(),
        )
        if actual != self._last:
            self._last = actual
            self._on_actual(actual)
