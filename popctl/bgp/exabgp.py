"""The Speaker over a real ExaBGP: one unix socket to the relay, the lease, and the clock. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, assert_never, cast

import structlog

from popctl.bgp import allowlist
from popctl.bgp.control import Control
from popctl.bgp.errors import RelayGoneError, RelayRefusedError
from popctl.bgp.flight import Announce, Order, Patience, ReadNeighbors, ReadRoutes, Stop, Teardown, Withdraw
from popctl.bgp.speaker import SpeakerError
from popctl.model.desired import Actual
from popctl.model.instant import NEVER, Instant
from popctl.model.route import Address, Family
from popctl.wire import exabgp_api, relay_api
from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from popctl.bgp.speaker import OnActual
    from popctl.model.pop import Pop
    from popctl.model.route import RouteTable

_LOG = structlog.get_logger(__name__)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0
_SHORTEST_WAIT_S = 0.005
"""Between two alarms, so that a deadline that stays in the past cannot spin."""
_RELEASE_S = 1.0
_UNUSED_NEXT_HOP: dict[Family, Address] = {Family.IPV4_UNICAST: IPv4Address(0), Family.IPV6_UNICAST: IPv6Address(0)}
"""ExaBGP wants one in a withdraw, and sends none (RFC 4271 section 4.3)."""


class ExaBgpSpeaker:
    """Implements `Speaker`. One `run` at a time."""

    def __init__(
        self,
        pop: Pop,
        *,
        clock: Callable[[], Instant] = time.monotonic,
        alive: Callable[[], bool] = lambda: True,
        patience: Patience | None = None,
    ) -> None:
        """`alive` is asked before a lease is taken or renewed: an agent that no longer decides must lose its lease."""
        self._pop = pop
        self._clock = clock
        self._alive = alive
        self._control = Control(pop, patience)
        self._wire: _Wire | None = None
        self._on_actual: OnActual | None = None
        self._actual: Actual | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lease_s = pop.lease.duration_s
        self._renew_at: Instant = NEVER
        self._heard_at: Instant = 0.0
        self._listened_at: Instant = 0.0
        """All that had come by then was read."""
        self._welcomed = False
        """The latest connection got as far as the lease."""
        self._released = False
        self.renewals = 0
        """Lease renewals that the relay confirmed."""
        self._problem = ""
        """Why there is no connection, if there is none."""

    async def set(self, routes: RouteTable) -> None:
        """Make `routes` the wanted table; what has to change leaves in this very call.

        Raises:
            RefusedRouteError: a route is outside the allowlist; the earlier table stays in force.
        """
        allowlist.check(routes, self._pop)
        self._control.set(routes)
        self._turn()

    async def run(self, on_actual: OnActual) -> None:
        """Hold the connection and the lease until cancelled or released."""
        if self._on_actual is not None:
            raise RuntimeError("run() is already running")
        self._on_actual = on_actual
        wait_s = _FIRST_WAIT_S
        try:
            while not self._released:
                self._actual = None
                self._report()
                self._welcomed = False
                try:
                    await self._session()
                except (OSError, SpeakerError, WireError) as error:
                    self._complain(error)
                # Below the lease: a successor of whoever holds it has to be there in time.
                wait_s = _FIRST_WAIT_S if self._welcomed else min(wait_s * 2, _LONGEST_WAIT_S, self._lease_s / 3)
                await asyncio.sleep(wait_s)
        finally:
            self._on_actual = None

    def _complain(self, error: Exception) -> None:
        if str(error) != self._problem:
            _LOG.warning("no connection to the relay", error=str(error))
        self._problem = str(error)
        self._report()

    async def release(self) -> None:
        """Give the lease back; `run` then returns. Waits shortly for the relay to confirm."""
        self._released = True
        with contextlib.suppress(OSError, SpeakerError, WireError, TimeoutError):
            async with asyncio.timeout(_RELEASE_S):
                if self._wire is None:
                    # A session of its own: the relay hears hello, and the release with the welcome.
                    await self._session()
                else:
                    self._wire.send(relay_api.release())
                    await asyncio.shield(self._wire.ended)

    # ------------------------------------------------------------------------------------------------- connection

    async def _session(self) -> None:
        """Connect and stay until the connection ends. Raises what ended it, or why there is none."""
        if not self._released and not self._alive():
            # Whoever says hello gets the whole lease again, and what was wanted last would be announced for it.
            raise RelayGoneError("this agent no longer decides: it takes no lease")
        loop = asyncio.get_running_loop()
        wire = _Wire(self._take, self._turn, loop.create_future())
        path = self._pop.paths.relay_socket
        try:
            await loop.create_unix_connection(lambda: wire, str(path))
        except OSError as error:
            nobody = isinstance(error, FileNotFoundError | ConnectionRefusedError)
            hint = "; does ExaBGP run?" if nobody else ""
            raise RelayGoneError(f"no relay at {path}: {error.strerror or error}{hint}") from error
        self._wire = wire
        try:
            wire.send(relay_api.hello())
            self._heard_at = self._clock()
            self._renew_at = self._heard_at + self._lease_s / 3
            self._arm()
            await wire.ended
        finally:
            self._wire = None
            wire.close()
            if self._timer is not None:
                self._timer.cancel()
            self._control.disconnected()
            self._report()

    def _take(self, line: bytes) -> None:
        now = self._clock()
        self._heard_at = now
        match relay_api.message(line):
            case relay_api.Welcome() as welcome:
                self._welcome(welcome, now)
            case relay_api.Event(event=event):
                self._control.event(event, now)
            case relay_api.Answer() as answer:
                self._note(answer)
                self._control.answer(answer, now)
            case relay_api.Renewed():
                self.renewals += 1
            case relay_api.Refused(reason=reason, detail=detail):
                raise RelayRefusedError(reason, detail)
            case relay_api.Lost(count=number):
                raise RelayGoneError(f"{number} events were lost: all is read again")
            case relay_api.Released():
                raise RelayGoneError("released")
            case other:
                assert_never(other)

    def _welcome(self, welcome: relay_api.Welcome, now: Instant) -> None:
        if self._released:
            self._send(relay_api.release())
            return
        _LOG.info("connected to the relay", exabgp=welcome.exabgp, lease_s=welcome.lease_s)
        self._problem = ""
        self._welcomed = True
        self._lease_s = welcome.lease_s
        self._renew_at = now + welcome.lease_s / 3
        self._control.connected(welcome, now)

    def _note(self, answer: relay_api.Answer) -> None:
        if answer.result is not relay_api.Result.DONE:
            _LOG.error("command not accepted", result=str(answer.result), detail=answer.detail)

    # ------------------------------------------------------------------------------------------------------- turn

    def _turn(self) -> None:
        """Send what is to be ordered now, report what changed, and set the next alarm."""
        if self._wire is None:
            return
        now = self._clock()
        # Here too: turns that follow each other closely put the alarm off again and again.
        self._keep_lease(now)
        for number, order in self._control.orders(now, heard=self._listened_at):
            self._send(self._encode(number, order))
        self._report()
        self._arm()

    def _alarm(self) -> None:
        now = self._clock()
        wire = self._wire
        if wire is None:
            return
        if now - self._heard_at > self._lease_s:
            wire.end(RelayGoneError(f"nothing heard for {self._lease_s} s"))
            return
        # In the loop's next round, whose timers come after its reading: then all that had come by now was read.
        asyncio.get_running_loop().call_later(0, self._listened, wire, now)

    def _listened(self, wire: _Wire, until: Instant) -> None:
        self._listened_at = until
        if wire is self._wire:
            wire.guarded(self._turn)

    def _keep_lease(self, now: Instant) -> None:
        if now < self._renew_at:
            return
        self._renew_at = now + self._lease_s / 3
        if self._alive():
            self._send(relay_api.renew())

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = min(self._control.next_deadline(), self._renew_at)
        self._timer = asyncio.get_running_loop().call_later(max(_SHORTEST_WAIT_S, at - self._clock()), self._alarm)

    def _send(self, data: bytes) -> None:
        if self._wire is not None:
            self._wire.send(data)

    def _encode(self, number: int, order: Order) -> bytes:
        match order:
            case Announce(key=key, route=route):
                line = exabgp_api.announce(key.neighbor, route)
            case Withdraw(key=key):
                family = Family.of(key.prefix)
                next_hop = _UNUSED_NEXT_HOP[family]
                line = exabgp_api.withdraw(key.neighbor, key.prefix, next_hop)
            case Teardown(neighbor=neighbor):
                _LOG.error("withdraw not proven: resetting the session", neighbor=str(neighbor))
                line = exabgp_api.teardown(neighbor)
            case Stop():
                _LOG.critical("withdraw not proven: ending ExaBGP")
                return relay_api.stop()
            case ReadRoutes():
                line = exabgp_api.SHOW_ROUTES
            case ReadNeighbors():
                line = exabgp_api.SHOW_NEIGHBORS
            case other:
                assert_never(other)
        return relay_api.command(number, line)

    def _report(self) -> None:
        actual = self._control.actual()
        if not actual.connected:
            actual = replace(actual, problem=self._problem)
        if actual != self._actual and self._on_actual is not None:
            self._actual = actual
            self._on_actual(actual)


class _Wire(asyncio.Protocol):
    """Bytes to lines, and one future that tells how it ended."""

    def __init__(self, take: Callable[[bytes], None], taken: Callable[[], None], ended: asyncio.Future[None]) -> None:
        self.ended = ended
        self._take = take
        self._taken = taken
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.guarded(partial(self._take, line))
        # Once, after all of it: a line judged before the next one was read would find answers missing that are there.
        self.guarded(self._taken)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(RelayGoneError(f"the relay closed the connection{f': {exc}' if exc else ''}"))

    def guarded(self, call: Callable[[], None]) -> None:
        """Run a callback of the loop so that its failure ends the connection, and a bug ends `run`."""
        if self.ended.done():
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001 - re-raised by whoever awaits `ended`
            self.end(error)

    def end(self, error: Exception) -> None:
        """End with `error`, unless it ended before."""
        if not self.ended.done():
            self.ended.set_exception(error)
        self.close()

    def send(self, data: bytes) -> None:
        """Write; a broken connection says so through `ended`."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()
