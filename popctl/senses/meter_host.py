"""The host's own load: cores, links, connection tracking, as the kernel tells them in /proc."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from popctl.model.meter import Conntrack, ConntrackCounters, Cpu, HostTicks, Link, LinkCounters, Unread
from popctl.model.reason import Reason
from popctl.senses import meter_rates
from popctl.senses.meter_failure import unread
from popctl.senses.meter_rates import FIRST, Before
from popctl.wire import proc_text
from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Collection

    from popctl.model.instant import Instant


class HostMeter:
    """Reads small files of /proc, which never block. Every method may be called as often as one likes."""

    def __init__(
        self, *, interfaces: Collection[str] | None = None, proc: Path = Path("/proc"), sys: Path = Path("/sys")
    ) -> None:
        """Prepare. `interfaces` None means every one with a device behind it, or all but lo where none has one."""
        self._interfaces = None if interfaces is None else frozenset(interfaces)
        self._proc = proc
        self._sys = sys
        self._cpu: Before[HostTicks] = Before()
        self._links: Before[dict[str, LinkCounters]] = Before()
        self._conntrack: Before[ConntrackCounters] = Before()

    def cpu(self, now: Instant) -> Cpu | Unread:
        """Return how busy the cores were since the last call."""
        try:
            ticks = proc_text.cpu((self._proc / "stat").read_text())
        except Exception as error:  # noqa: BLE001 - the boundary: whatever is raised says that nothing was read
            self._cpu.forget()
            return unread(error)
        before = self._cpu.swap(now, ticks)
        return FIRST if before is None else meter_rates.cpu(ticks, before[1])

    def refused_esp(self) -> int | None:
        """Return how much ESP came for no SA of this host, since boot; None: this kernel has no IPsec, or none here."""
        try:
            return proc_text.no_state((self._proc / "net/xfrm_stat").read_text())
        except (OSError, ValueError, WireError):
            return None

    def links(self, now: Instant) -> tuple[Link, ...] | Unread:
        """Return what the interfaces carried since the last call."""
        try:
            every = proc_text.links((self._proc / "net/dev").read_text())
            wanted = self._wanted(every)
        except Exception as error:  # noqa: BLE001 - as above
            self._links.forget()
            return unread(error)
        missing = (self._interfaces or frozenset()) - every.keys()
        if missing or not wanted:
            self._links.forget()
            return Unread(reason=Reason.NO_SOURCE, detail=f"no interface {', '.join(sorted(missing))}".rstrip())
        counters = {name: every[name] for name in wanted}
        before = self._links.swap(now, counters)
        return FIRST if before is None else meter_rates.links(counters, before[1], before[0])

    def _wanted(self, every: Collection[str]) -> list[str]:
        if self._interfaces is not None:
            return [name for name in every if name in self._interfaces]
        real = [name for name in every if (self._sys / "class/net" / name / "device").exists()]
        return real or [name for name in every if name != "lo"]

    def conntrack(self, now: Instant) -> Conntrack | Unread:
        """Return what is tracked, and what failed since the last call."""
        sysctl = self._proc / "sys/net/netfilter"
        try:
            counters = proc_text.conntrack(
                (self._proc / "net/stat/nf_conntrack").read_text(),
                (sysctl / "nf_conntrack_count").read_text(),
                (sysctl / "nf_conntrack_max").read_text(),
            )
        except Exception as error:  # noqa: BLE001 - as above
            self._conntrack.forget()
            return unread(error)
        before = self._conntrack.swap(now, counters)
        return FIRST if before is None else meter_rates.conntrack(counters, before[1], before[0])
