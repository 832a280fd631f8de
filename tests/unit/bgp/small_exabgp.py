"""A second, tiny ExaBGP with one session: the same traps as the real one, without I/O, for many random lives."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from popctl.bgp.flight import Announce, Order, ReadNeighbors, ReadRoutes, Stop, Teardown, Withdraw
from popctl.model.route import Family, Prefix, Route
from popctl.wire import relay_api
from popctl.wire.exabgp_api import EndOfRib, Event, Sent, SessionDown, SessionUp

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

Said = relay_api.Answer | relay_api.Event


class SmallExaBgp:
    """Commands in, answers and events out, in the order of one pipe; `peer` is what the router holds."""

    def __init__(self, neighbor: IPv4Address | IPv6Address) -> None:
        self.neighbor = neighbor
        self.said: deque[Said] = deque()
        self.cache: dict[Prefix, Route] = {}
        self.peer: dict[Prefix, Route] = {}
        self.up = False
        self.stopped = False
        self.updates = 0
        self._queue: list[tuple[object, Prefix, Route | None]] = []
        self._first_batch = True

    def command(self, number: int, order: Order) -> None:
        """Take one order, as the relay would pass it on."""
        lines: tuple[str, ...] = ()
        match order:
            case Announce(key=key, route=route):
                if self.cache.get(key.prefix) != route:
                    self._enqueue(key.prefix, route)
                    self.cache[key.prefix] = route
            case Withdraw(key=key):
                self._enqueue(key.prefix, None)
                self.cache.pop(key.prefix, None)
            case Teardown():
                self.session(up=False)
                self.session(up=True)
            case Stop():
                self.stopped = True
                self.peer.clear()
                return
            case ReadNeighbors():
                lines = (self._neighbors(),)
            case ReadRoutes():
                lines = tuple(self._rib_line(route) for route in self.cache.values())
        self.said.append(relay_api.Answer(number=number, result=relay_api.Result.DONE, lines=lines))

    def session(self, *, up: bool) -> None:
        """Let the session come or go."""
        if up == self.up:
            return
        self.up = up
        if up:
            self._first_batch = True
            self._say(SessionUp(neighbor=self.neighbor))
            for prefix, route in self.cache.items():
                self._enqueue(prefix, route)
        else:
            self.peer.clear()
            self._say(SessionDown(neighbor=self.neighbor))

    def forget_queue(self) -> None:
        """A failed attempt to connect empties the queue; the cache stays."""
        if not self.up:
            self._queue.clear()

    def flush(self) -> None:
        """Send one batch: by bucket of attributes, and without withdraws when it is the first of the session."""
        if not self.up:
            return
        for _, prefix, route in self._queue:
            if route is not None:
                self.peer[prefix] = route
                self._say(Sent(neighbor=self.neighbor, announced=(route,)))
            elif not self._first_batch:
                self.peer.pop(prefix, None)
                self._say(Sent(neighbor=self.neighbor, withdrawn=(prefix,)))
            else:
                continue
            self.updates += 1
        if self._first_batch:
            self._say(EndOfRib(neighbor=self.neighbor, family=Family.IPV4_UNICAST))
        # Without anything to send, the first batch is still to come: the next one drops withdraws as well.
        self._first_batch = self._first_batch and not self._queue
        self._queue.clear()

    def _enqueue(self, prefix: Prefix, route: Route | None) -> None:
        bucket = (prefix, None if route is None else (route.med, route.communities))
        for index, (known, _, _) in enumerate(self._queue):
            if known == bucket:
                self._queue[index] = (bucket, prefix, route)
                return
        self._queue.append((bucket, prefix, route))

    def _say(self, event: Event) -> None:
        self.said.append(relay_api.Event(event=event))

    def _neighbors(self) -> str:
        fsm = "ESTABLISHED" if self.up else "ACTIVE"
        return f'[{{"peer": {{"address": "{self.neighbor}"}}, "fsm": "{fsm}", "families": ["ipv4 unicast"]}}]'

    def _rib_line(self, route: Route) -> str:
        med = "" if route.med is None else f'"med": {route.med}'
        nlri = f'{{"prefix": "{route.prefix}", "nexthop": "{route.next_hop}"}}'
        return f'{{"peer": {{"address": "{self.neighbor}"}}, "route": {{"nlri": {nlri}, "attributes": {{{med}}}}}}}'
