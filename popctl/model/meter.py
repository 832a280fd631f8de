"""What a backend's meter reads, as values: raw counters of one moment, and the snapshot of rates made of two.

A source that cannot be read is `Unread` with a reason; it is never a row of zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from popctl.model.instant import Instant
from popctl.model.load import Amounts, LoadSample, TrafficClasses
from popctl.model.load import Symptom as Symptom  # noqa: PLC0414 - marks the re-export
from popctl.model.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A source that told nothing."""

    reason: Reason
    detail: str = ""
    """For people."""


# Raw counters.


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTicks:
    """Time of all cores, or of one, since boot, in clock ticks (proc_stat(5))."""

    user: int
    """With nice."""
    system: int
    irq: int
    softirq: int
    """Network and, for IPsec in the kernel, cryptography."""
    idle: int
    """With iowait."""
    steal: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.user + self.system + self.irq + self.softirq + self.idle + self.steal


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTicks:
    """All cores together and each."""

    all: CpuTicks
    cores: tuple[CpuTicks, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCounters:
    """One line of /proc/net/dev."""

    rx_bytes: int
    rx_packets: int
    rx_drops: int
    tx_bytes: int
    tx_packets: int
    tx_drops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConntrackCounters:
    """Connection tracking of one network namespace, over all cores."""

    entries: int
    limit: int
    insert_failed: int
    drops: int
    early_drops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeCounters:
    """What charon says of itself (VICI `stats`, `get-counters`, `get-pools`)."""

    uptime_s: float
    """How coarse it is depends on charon: seconds, then minutes, hours, days."""
    sas: int
    """IKE SAs, half-open ones included."""
    half_open: int
    workers_idle: int
    jobs_queued: int
    handshakes: int
    """IKE_SA_INIT requests and rekeys of IKE SAs answered. IKEv1 exchanges are not counted by charon."""
    rekeys: int
    """Of IKE SAs and child SAs, either side."""
    invalid_spi: int
    """Messages for SAs that charon does not have: mis-steered, or of clients that outlived a restart."""
    invalid: int
    leases: int | None
    """Addresses in use; None: charon has no pools."""
    addresses: int | None
    """Addresses of all pools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaBytes:
    """One established IKE SA: how many child SAs, and the bytes that these moved so far."""

    children: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class L2tpCount:
    """Tunnels and sessions now."""

    tunnels: int
    sessions: int


# The snapshot.


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Shares of all cores' time, 0 to 1."""

    cores: int
    user: float
    system: float
    softirq: float
    """With hard interrupts."""
    steal: float
    busiest_softirq: float
    """Of the core with most of it: one flow's packets land on one core."""

    @property
    def busy_cores(self) -> float:
        """Cores that do something; stolen time counts, for it cannot be used."""
        return self.cores * (self.user + self.system + self.softirq + self.steal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One network interface, per second."""

    name: str
    rx_bit_s: float
    tx_bit_s: float
    rx_packet_s: float
    tx_packet_s: float
    drop_s: float
    """Both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conntrack:
    """Connection tracking."""

    entries: int
    limit: int
    insert_failed_s: float
    drop_s: float
    """With early drops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ike:
    """The IKE daemon."""

    uptime_s: float
    sas: int
    """Established."""
    half_open: int
    children: int | None
    """Child SAs; None while the SAs have not been walked."""
    handshakes_s: float
    rekeys_min: float
    invalid_spi_s: float
    workers_idle: int
    jobs_queued: int
    leases: int | None
    addresses: int | None


class DaemonState(StrEnum):
    """What is known of a watched daemon."""

    ABSENT = "absent"
    """Not found since the watch began."""
    RUNNING = "running"
    DIED = "died"
    """Seen running, and the kernel said that it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One watched daemon."""

    name: str
    state: DaemonState
    pid: int | None = None
    life: str = ""
    """Names this very process: start time and pid. Another life means that it was restarted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonWatch:
    """How to find a daemon. At least one of `pid_file` and `executable`."""

    name: str
    pid_file: Path | None = None
    executable: Path | None = None
    """What /proc/PID/exe must point to; without a pid file the process is looked for by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at one backend: what it uses, and everything that this was made of."""

    used: Amounts
    unknown: Mapping[str, Reason]
    """Why a resource is absent from `used`, by the resource's value."""
    cpu: Cpu | Unread
    links: tuple[Link, ...] | Unread
    conntrack: Conntrack | Unread
    ike: Ike | Unread
    l2tp: L2tpCount | Unread
    classes: TrafficClasses | None = None
    symptoms: tuple[Symptom, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    refused_ike: int | None = None
    """`LoadSample.refused_ike`."""
    refused_esp: int | None = None
    """`LoadSample.refused_esp`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The latest snapshot of a backend, as the agent holds it."""

    snapshot: Snapshot
    at: Instant
    """When it was taken."""


# What the agent hears of a backend between probes.


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonDied:
    """A watched VPN daemon of a backend ended. Makes all its probes count as failed at once."""

    backend: int
    daemon: str
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted:
    """It runs again. Says nothing about health: that comes back through probes."""

    backend: int
    daemon: str
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Overloaded:
    """The meter sees symptoms of overload that were not there before."""

    backend: int
    symptoms: tuple[Symptom, ...]
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterLost:
    """The meter cannot be heard. Its figures go stale by themselves; this says why."""

    backend: int
    reason: Reason
    at: Instant
    detail: str = ""


MeterEvent: TypeAlias = LoadSample | DaemonDied | DaemonStarted | Overloaded | MeterLost
"""All that a meter's client tells the agent."""


# Where a backend's meter is.


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixMeter:
    """A meter on this host."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMeter:
    """A meter behind mutual TLS."""

    host: str
    """Name or address; its certificate must be for this."""
    port: int
    certificate: Path
    key: Path
    authority: Path


MeterAddress: TypeAlias = UnixMeter | TlsMeter
