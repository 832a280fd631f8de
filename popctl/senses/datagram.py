"""The prober of IKE, L2TP and ICMP echo: picks the exchange, keeps the channels, leaves the talking to the engine."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Protocol

from popctl.model.probe import Icmp, IkeDeep, IkeLiveness, L2tp
from popctl.senses.channel import Channel, open_channel
from popctl.senses.failure import result_of
from popctl.senses.udp import DatagramEngine
from popctl.wire.icmp import EchoExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.model.instant import Instant
    from popctl.model.probe import ProbeKey
    from popctl.model.route import Address
    from popctl.senses.prober import Result, Target
    from popctl.senses.udp import Run
    from popctl.wire.exchange import Entropy, Exchange


class ExchangeFactory(Protocol):
    """Makes the conversation for one run of an IKE or L2TP method."""

    def __call__(
        self,
        method: IkeLiveness | IkeDeep | L2tp,
        *,
        local: Address,
        remote: Address,
        entropy: Entropy,
    ) -> Exchange:
        """Return a fresh exchange; `entropy(n)` gives n random bytes."""


class DatagramProber:
    """A `Prober`, and the same without a task: `begin`."""

    def __init__(self, exchange_for: ExchangeFactory, *, clock: Callable[[], Instant], entropy: Entropy) -> None:
        """Use `entropy` for SPIs, nonces and payloads; the methods' secrets stay with the exchanges."""
        self._exchange_for = exchange_for
        self._entropy = entropy
        self._channels: dict[ProbeKey, tuple[Target, Channel]] = {}
        self.engine = DatagramEngine(clock=clock)

    async def run(self, target: Target, *, deadline: Instant) -> Result:
        """Ask once; cancellation sends what must be sent so that nothing stays half-open."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        run = self.begin(target, deadline=deadline, done=answer.set_result)
        try:
            return await answer
        finally:
            if run is not None:
                self.engine.abandon(run)

    def begin(self, target: Target, *, deadline: Instant, done: Callable[[Result], None]) -> Run | None:
        """Start one run; `done` is called exactly once, unless the run is abandoned.

        Returns None when the run has ended already: it could not even start.
        """
        try:
            channel = self._channel(target)
            exchange = self._exchange(target, channel)
            try:
                return self.engine.begin(channel, exchange, deadline=deadline, done=done)
            except OSError as error:
                channel.note(error)
                raise
        except Exception as error:  # noqa: BLE001 - the boundary of popctl.senses.run, for probes without a task
            result = result_of(error)
        done(result)
        return None

    def forget(self, key: ProbeKey) -> None:
        """Close the channel of a probe that is no longer wanted; its run ends without a result."""
        _, channel = self._channels.pop(key, (None, None))
        if channel is not None:
            self.engine.remove(channel)

    def close(self) -> None:
        """End all runs without results, leave nothing half-open, close everything."""
        self._channels.clear()
        self.engine.close()

    def _channel(self, target: Target) -> Channel:
        """Return the idle channel of this probe, a new one where needed."""
        known, channel = self._channels.get(target.key, (None, None))
        if channel is not None:
            if channel.run is not None:
                raise RuntimeError("this probe is running already")
            channel.drain()
            if known == target and not channel.broken:
                return channel
            self.forget(target.key)
        channel = open_channel(target)
        self.engine.add(channel)
        self._channels[target.key] = (target, channel)
        return channel

    def _exchange(self, target: Target, channel: Channel) -> Exchange:
        method = target.method
        if isinstance(method, Icmp):
            version = 6 if isinstance(target.address, IPv6Address) else 4
            return EchoExchange(ip_version=version, entropy=self._entropy, ip_header=channel.ip_header)
        if isinstance(method, IkeLiveness | IkeDeep | L2tp):
            return self._exchange_for(method, local=channel.local, remote=channel.remote, entropy=self._entropy)
        raise TypeError(f"{type(method).__name__} does not speak in datagrams")
