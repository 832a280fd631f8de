"""From counters to rates. A first reading and a counter that went backwards give no rate, and no zero either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from popctl.model.instant import Instant
from popctl.model.meter import (
    Conntrack,
    ConntrackCounters,
    Cpu,
    CpuTicks,
    HostTicks,
    Ike,
    IkeCounters,
    Link,
    LinkCounters,
    Unread,
)
from popctl.model.reason import Reason

T = TypeVar("T")

_TICKS_MIN = 5
"""Fewer ticks of all cores (of 10 ms) between two readings make no share."""


class Before(Generic[T]):
    """The reading before this one."""

    def __init__(self) -> None:
        self._held: tuple[Instant, T] | None = None

    def swap(self, now: Instant, value: T) -> tuple[float, T] | None:
        """Keep `value`; return how long ago the one before was read, and it, if there was one."""
        held, self._held = self._held, (now, value)
        return None if held is None or now <= held[0] else (now - held[0], held[1])

    def forget(self) -> None:
        """The source was not readable in between."""
        self._held = None


class _WentBackError(Exception):
    """A counter is smaller than it was."""


def _rate(after: int, before: int, gap_s: float) -> float:
    if after < before:
        raise _WentBackError
    return (after - before) / gap_s


FIRST = Unread(reason=Reason.NOT_YET_KNOWN, detail="rates need two readings")
_RESET = Unread(reason=Reason.COUNTER_RESET)


def cpu(after: HostTicks, before: HostTicks) -> Cpu | Unread:
    """Return the shares of the time between two readings."""
    if len(after.cores) != len(before.cores):
        return Unread(reason=Reason.COUNTER_RESET, detail="cores came or went")
    spent = after.all.total - before.all.total
    if spent < _TICKS_MIN:
        return Unread(reason=Reason.NOT_YET_KNOWN, detail="no time has passed")
    pairs = zip(after.cores, before.cores, strict=True)
    return Cpu(
        cores=len(after.cores),
        user=_share(after.all.user - before.all.user, spent),
        system=_share(after.all.system - before.all.system, spent),
        softirq=_share(_interrupts(after.all) - _interrupts(before.all), spent),
        steal=_share(after.all.steal - before.all.steal, spent),
        busiest_softirq=max(_share(_interrupts(a) - _interrupts(b), a.total - b.total) for a, b in pairs),
    )


def _interrupts(ticks: CpuTicks) -> int:
    return ticks.irq + ticks.softirq


def _share(part: int, whole: int) -> float:
    # iowait and steal may go backwards a little (proc_stat(5)).
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 0.0


def links(
    after: Mapping[str, LinkCounters], before: Mapping[str, LinkCounters], gap_s: float
) -> tuple[Link, ...] | Unread:
    """Return the rates of every interface that was there both times."""
    try:
        return tuple(_link(name, after[name], before[name], gap_s) for name in after if name in before)
    except _WentBackError:
        return _RESET


def _link(name: str, after: LinkCounters, before: LinkCounters, gap_s: float) -> Link:
    return Link(
        name=name,
        rx_bit_s=8 * _rate(after.rx_bytes, before.rx_bytes, gap_s),
        tx_bit_s=8 * _rate(after.tx_bytes, before.tx_bytes, gap_s),
        rx_packet_s=_rate(after.rx_packets, before.rx_packets, gap_s),
        tx_packet_s=_rate(after.tx_packets, before.tx_packets, gap_s),
        drop_s=_rate(after.rx_drops + after.tx_drops, before.rx_drops + before.tx_drops, gap_s),
    )


def conntrack(after: ConntrackCounters, before: ConntrackCounters, gap_s: float) -> Conntrack | Unread:
    """Return what is tracked now, and failures per second."""
    try:
        return Conntrack(
            entries=after.entries,
            limit=after.limit,
            insert_failed_s=_rate(after.insert_failed, before.insert_failed, gap_s),
            drop_s=_rate(after.drops + after.early_drops, before.drops + before.early_drops, gap_s),
        )
    except _WentBackError:
        return _RESET


def ike(after: IkeCounters, before: IkeCounters, gap_s: float, children: int | None) -> Ike | Unread:
    """Return what charon holds now, and what it did per second."""
    try:
        return Ike(
            uptime_s=after.uptime_s,
            sas=max(after.sas - after.half_open, 0),
            half_open=after.half_open,
            children=children,
            handshakes_s=_rate(after.handshakes, before.handshakes, gap_s),
            rekeys_min=60 * _rate(after.rekeys, before.rekeys, gap_s),
            invalid_spi_s=_rate(after.invalid_spi, before.invalid_spi, gap_s),
            workers_idle=after.workers_idle,
            jobs_queued=after.jobs_queued,
            leases=after.leases,
            addresses=after.addresses,
        )
    except _WentBackError:
        return _RESET
