"""One backend's meter: all sources of a host put together into a snapshot.

It measures; it judges nothing but the plain symptoms of overload that need no knowledge of capacities.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from popctl.model.load import LoadSample, Resource
from popctl.model.meter import Conntrack, Cpu, Ike, L2tpCount, Link, Snapshot, Symptom, Unread
from popctl.model.reason import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.model.instant import Instant
    from popctl.model.meter import Daemon
    from popctl.senses.meter_host import HostMeter
    from popctl.senses.meter_l2tp import L2tpMeter
    from popctl.senses.meter_vici import ViciMeter

_SOFTIRQ_FULL: Final = 0.95
_CONNTRACK_FULL: Final = 0.95

NOT_METERED: Final = Unread(reason=Reason.NO_SOURCE, detail="not configured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What one look found."""

    cpu: Cpu | Unread
    links: tuple[Link, ...] | Unread
    conntrack: Conntrack | Unread
    ike: Ike | Unread = NOT_METERED
    l2tp: L2tpCount | Unread = NOT_METERED


class Meter:
    """Reads every source at once. `walk_sas` adds child SAs and traffic classes."""

    def __init__(
        self,
        host: HostMeter,
        *,
        clock: Callable[[], Instant],
        vici: ViciMeter | None = None,
        l2tp: L2tpMeter | None = None,
        daemons: Callable[[], tuple[Daemon, ...]] = tuple,
        between: HostMeter | None = None,
    ) -> None:
        """Prepare. `between` looks at the same host in `glance`, so that its rates are its own."""
        self._host = host
        self._between = between
        self._glanced: frozenset[Symptom] = frozenset()
        self._told: frozenset[Symptom] = frozenset()
        self._clock = clock
        self._vici = vici
        self._l2tp = l2tp
        self._daemons = daemons

    async def read(self) -> Snapshot:
        """Look once."""
        vici, l2tp = self._vici, self._l2tp
        async with asyncio.TaskGroup() as group:
            ike = None if vici is None else group.create_task(vici.read())
            tunnels = None if l2tp is None else group.create_task(l2tp.read())
        now = self._clock()
        sources = Sources(
            cpu=self._host.cpu(now),
            links=self._host.links(now),
            conntrack=self._host.conntrack(now),
            ike=NOT_METERED if ike is None else ike.result(),
            l2tp=NOT_METERED if tunnels is None else tunnels.result(),
        )
        used, unknown = amounts(sources)
        # What was there for a moment since the last look was there, even if it is too short for the rates of this one.
        self._told, self._glanced = self._glanced.union(symptoms(sources)), frozenset()
        return Snapshot(
            used=used,
            unknown={resource.value: reason for resource, reason in unknown.items()},
            cpu=sources.cpu,
            links=sources.links,
            conntrack=sources.conntrack,
            ike=sources.ike,
            l2tp=sources.l2tp,
            classes=None if vici is None else vici.classes,
            symptoms=tuple(sorted(self._told)),
            daemons=self._daemons(),
            refused_ike=None if vici is None else vici.refused,
            refused_esp=self._host.refused_esp(),
        )

    def glance(self) -> bool:
        """Return whether the host shows a symptom of overload that the last snapshot does not have: look at once.

        Reads small files only; the IKE daemon is not asked more often for being overloaded.
        """
        if self._between is None:
            return False
        now, host = self._clock(), self._between
        found = symptoms(Sources(cpu=host.cpu(now), links=host.links(now), conntrack=host.conntrack(now)))
        self._glanced = self._glanced.union(found)
        return not self._glanced <= self._told

    async def walk_sas(self) -> float:
        """Walk the SAs once; return how many seconds to wait before the next time. The caller does it beside `read`."""
        return math.inf if self._vici is None else await self._vici.walk()

    def close(self) -> None:
        """Close what is held open."""
        if self._vici is not None:
            self._vici.close()


def amounts(sources: Sources) -> tuple[dict[Resource, float], dict[Resource, Reason]]:
    """Return what is used, and why the rest is unknown."""
    used: dict[Resource, float] = {}
    unknown: dict[Resource, Reason] = {}
    _sessions(sources, used, unknown)
    match sources.ike:
        case Ike() as ike:
            used[Resource.HANDSHAKES] = ike.handshakes_s
            if ike.leases is not None:
                used[Resource.ADDRESSES] = float(ike.leases)
            else:
                unknown[Resource.ADDRESSES] = Reason.NO_SOURCE
        case Unread(reason=reason):
            unknown[Resource.HANDSHAKES] = unknown[Resource.ADDRESSES] = reason
    match sources.links:
        case Unread(reason=reason):
            unknown[Resource.BITS] = unknown[Resource.PACKETS] = reason
        case links:
            # A gateway sends on what it receives, so either direction alone is what a full-duplex link carries.
            used[Resource.BITS] = max(sum(link.rx_bit_s for link in links), sum(link.tx_bit_s for link in links))
            used[Resource.PACKETS] = sum(link.rx_packet_s + link.tx_packet_s for link in links)
    match sources.cpu:
        case Cpu() as cpu:
            used[Resource.CPU] = cpu.busy_cores
        case Unread(reason=reason):
            unknown[Resource.CPU] = reason
    return used, unknown


def _sessions(sources: Sources, used: dict[Resource, float], unknown: dict[Resource, Reason]) -> None:
    """Count users by the source that knows of more; a configured source that does not tell leaves them unknown."""
    counts = []
    for source in (sources.ike, sources.l2tp):
        match source:
            case Ike(sas=count) | L2tpCount(sessions=count):
                counts.append(float(count))
            case Unread(reason=reason) if source is not NOT_METERED:
                unknown[Resource.SESSIONS] = reason
                return
    if counts:
        used[Resource.SESSIONS] = max(counts)
    else:
        unknown[Resource.SESSIONS] = NOT_METERED.reason


def symptoms(sources: Sources) -> tuple[Symptom, ...]:
    """Return what looks like overload whatever the capacities are."""
    found = []
    if isinstance(sources.ike, Ike):
        if sources.ike.workers_idle == 0:
            found.append(Symptom.NO_IDLE_WORKER)
        if sources.ike.jobs_queued > 0:
            found.append(Symptom.JOBS_QUEUED)
    if isinstance(sources.conntrack, Conntrack):
        tracked = sources.conntrack
        full = tracked.limit > 0 and tracked.entries >= _CONNTRACK_FULL * tracked.limit
        if full or tracked.insert_failed_s > 0 or tracked.drop_s > 0:
            found.append(Symptom.CONNTRACK_FULL)
    if not isinstance(sources.links, Unread) and any(link.drop_s > 0 for link in sources.links):
        found.append(Symptom.LINK_DROPS)
    if isinstance(sources.cpu, Cpu) and sources.cpu.busiest_softirq >= _SOFTIRQ_FULL:
        found.append(Symptom.SOFTIRQ_SATURATED)
    return tuple(found)


def sample(backend: int, snapshot: Snapshot, at: Instant) -> LoadSample:
    """Return what a snapshot says of one backend's load."""
    known = {resource.value: resource for resource in Resource}
    return LoadSample(
        backend=backend,
        at=at,
        used=snapshot.used,
        unknown={known[name]: reason for name, reason in snapshot.unknown.items() if name in known},
        classes=snapshot.classes,
        symptoms=snapshot.symptoms,
        refused_ike=snapshot.refused_ike,
        refused_esp=snapshot.refused_esp,
    )
