"""Facts of this host for the system lint: read from /proc, /sys and nft, and from VICI of backends. Judges nothing."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from popctl.model.balancer import Forward
from popctl.model.host import Facts, Lifetimes
from popctl.model.pop import ViciEndpoint
from popctl.model.route import Address
from popctl.vici.connection import asking
from popctl.vici.errors import ViciError
from popctl.wire.proc_text import flows_of
from popctl.wire.vici_values import number, sections, text

_TIMEOUT_S = 5.0
_VICI_S = 10.0
_PLAIN = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.ipfrag_high_thresh",
    "net.ipv4.ipfrag_time",
    "net.ipv6.ip6frag_high_thresh",
    "net.ipv6.ip6frag_time",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_udp_timeout",
    "net.netfilter.nf_conntrack_udp_timeout_stream",
    "net.netfilter.nf_conntrack_generic_timeout",
)


def facts(
    *,
    uplinks: Iterable[str] = (),
    backend_links: Iterable[str] = (),
    backends: Iterable[Forward] = (),
    lifetimes: Iterable[Lifetimes] = (),
    affinity_timeout_s: int | None = None,
    longest_sa_s: float | None = None,
    vips: Iterable[Address] = (),
    ipv6: bool = False,
    conntrack: Path = Path("/proc/thread-self/net/nf_conntrack"),
    proc: Path = Path("/proc/sys"),
    links: Path = Path("/sys/class/net"),
) -> Facts:
    """Read this host; what cannot be read is left out."""
    interfaces = sorted(path.name for path in links.iterdir() if path.name != "lo") if links.is_dir() else []
    names = [*_PLAIN, *(f"net.ipv4.conf.{i}.rp_filter" for i in ["all", *interfaces])]
    mtus = {i: value for i in interfaces if (value := _number(links / i / "mtu")) is not None}
    hops = [(one.name, hop) for one in backends for hop in (one.ipv4, one.ipv6) if hop is not None]
    ways = _ways(hops) if hops else {}
    return Facts(
        sysctls={name: value for name in names if (value := _sysctl(proc, name)) is not None},
        mtus=mtus,
        backend_links=frozenset(backend_links).union(link for link in ways.values() if link),
        no_neighbours=tuple(who for who, link in ways.items() if link is None),
        uplinks=frozenset(uplinks),
        mss_clamped=_mss_clamped(),
        tracked_vip_flows=_tracked(frozenset(vips), conntrack),
        affinity_timeout_s=affinity_timeout_s,
        longest_sa_s=longest_sa_s,
        lifetimes=tuple(lifetimes),
        ipv6=ipv6,
    )


def read_lifetimes(
    endpoints: Mapping[str, ViciEndpoint], *, within_s: float = _VICI_S
) -> tuple[list[Lifetimes], dict[str, str]]:
    """Ask each strongSwan for its timers and the algorithms of its SAs, all at once.

    Returns what backends say, and by name why others said nothing within `within_s` seconds, or nothing to be read.
    """
    return asyncio.run(_all_lifetimes(endpoints, within_s))


async def _all_lifetimes(
    endpoints: Mapping[str, ViciEndpoint], within_s: float
) -> tuple[list[Lifetimes], dict[str, str]]:
    asked = (_lifetimes(name, endpoint, within_s) for name, endpoint in endpoints.items())
    answers = await asyncio.gather(*asked)
    told = [one for one in answers if isinstance(one, Lifetimes)]
    silent = {name: str(one) for name, one in zip(endpoints, answers, strict=True) if isinstance(one, ViciError)}
    return told, silent


async def _lifetimes(backend: str, endpoint: ViciEndpoint, within_s: float) -> Lifetimes | ViciError:
    try:
        async with asking(endpoint, within_s) as charon:
            async with aclosing(charon.stream("list-conns", "list-conn")) as events:
                connections = [one async for body in events for one in sections(body, "children")]
            async with aclosing(charon.sas()) as found:
                algorithms = {name async for sa in found for name in _algorithms(sa)}
            children = [child for c in connections for child in c.get("children", {}).values()]
            return Lifetimes(
                backend=backend,
                ike_rekey_s=_longest(min(_set(c, "rekey_time", "reauth_time"), default=0) for c in connections),
                esp_rekey_s=_longest(number(child, "rekey_time", 0) for child in children),
                dpd_s=_longest(number(c, "dpd_delay", 0) for c in connections),
                algorithms=tuple(sorted(algorithms)),
            )
    except ViciError as error:
        return error


def _algorithms(sa: Mapping[str, Any]) -> Iterable[str]:
    for entry in (sa, *sa.get("child-sas", {}).values()):
        for key in ("encr-alg", "integ-alg", "prf-alg", "dh-group"):
            if key in entry:
                yield text(entry, key)


def _set(entry: Mapping[str, Any], *keys: str) -> list[int]:
    """Return the timers that are not off."""
    return [value for key in keys if (value := number(entry, key, 0))]


def _longest(seconds: Iterable[int]) -> int:
    """Return the longest; 0, which is off, lasts longer than any."""
    found = list(seconds)
    return max(found, default=0) if all(found) else 0


def _sysctl(proc: Path, name: str) -> int | None:
    parts = name.split(".")
    if parts[2] == "conf":
        # An interface's name may hold dots (a VLAN): it is everything between `conf` and the last part.
        parts = [*parts[:3], ".".join(parts[3:-1]), parts[-1]]
    return _number(proc.joinpath(*parts))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _ways(hops: Iterable[tuple[str, Address]]) -> dict[str, str | None]:
    """Return by backend and address the link it is on; None: it is no neighbour."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - large, and mostly not needed

    found: dict[str, str | None] = {}
    with IPRoute() as kernel:
        for name, hop in hops:
            try:
                (route,) = kernel.route("get", dst=str(hop))
            except (OSError, NetlinkError):
                found[f"{name} ({hop})"] = None
                continue
            near = route.get_attr("RTA_GATEWAY") is None
            found[f"{name} ({hop})"] = socket.if_indextoname(route.get_attr("RTA_OIF")) if near else None
    return found


def _tracked(vips: frozenset[Address], path: Path) -> int | None:
    """Count conntrack entries of VIPs; None when no VIP is known, or nobody tells."""
    if not vips:
        return None
    try:
        # As the kernel writes them: IPv6 in full.
        return flows_of(path.read_text(encoding="ascii"), {vip.exploded for vip in vips})
    except (OSError, ValueError):
        return _tracked_by_netlink(vips)


def _tracked_by_netlink(vips: frozenset[Address]) -> int | None:
    """Ask ctnetlink: the file is an option of the kernel that some leave out."""
    from pyroute2 import NFCTSocket  # noqa: PLC0415 - large, and mostly not needed

    found = 0
    try:
        for version in {vip.version for vip in vips}:
            family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP version
            with NFCTSocket(nfgen_family=family) as conntrack:
                found += sum(any(end in vips for end in _ends(entry)) for entry in conntrack.dump())
    except (OSError, NetlinkError):
        return None
    return found


def _ends(entry: Any) -> Iterable[Address]:  # noqa: ANN401 - pyroute2 has no types
    for direction in ("CTA_TUPLE_ORIG", "CTA_TUPLE_REPLY"):
        addresses = entry.get_attr(direction).get_attr("CTA_TUPLE_IP")
        for name in ("CTA_IP_V4_SRC", "CTA_IP_V4_DST", "CTA_IP_V6_SRC", "CTA_IP_V6_DST"):
            found = addresses.get_attr(name)
            if found is not None:
                yield ip_address(found)


def _mss_clamped() -> bool | None:
    words = ["nft", "list", "ruleset"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return "maxseg size set" in done.stdout
