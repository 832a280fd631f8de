"""The system lint: facts of a host in, findings out. Each says what is wrong, why it matters and what mends it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from popctl.core.balance import warnings
from popctl.core.doctor_timers import timers
from popctl.model.finding import Finding, Severity

if TYPE_CHECKING:
    from popctl.model.balancer import BalancedService
    from popctl.model.host import Facts

CONNTRACK_FULL = 0.8
LEAST_FRAGMENT_BYTES = 4 << 20
MOST_FRAGMENT_S = 30
ESP_IN_UDP_OVERHEAD = 120
"""Room that L2TP over IPsec needs around an inner packet: IP 20, UDP 8, ESP 40, L2TP and PPP 16, rounded up."""
_WEAK = re.compile(r"(?<![A-Z0-9])(3DES|DES|MD5|MODP_768|MODP_1024|MODP_1536|NULL)(?![A-Z0-9])", re.IGNORECASE)
_SHA1 = re.compile(r"SHA1", re.IGNORECASE)


def findings(facts: Facts, services: Iterable[BalancedService] = ()) -> tuple[Finding, ...]:
    """Return everything worth mending, of the host and of how `services` are spread, worst first."""
    found = [
        *_hash_keys(services),
        *_forwarding(facts),
        *_return_path(facts),
        *_conntrack(facts),
        *_fragments(facts),
        *_sizes(facts),
        *timers(facts),
        *_proposals(facts),
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda f: order.index(f.severity)))


def _hash_keys(services: Iterable[BalancedService]) -> Iterator[Finding]:
    for service in services:
        for one in warnings(service):
            text = f"service {service.name} is spread by {service.key}"
            yield Finding(name="hash-key", severity=Severity.WARNING, text=text, why=one.text, command=one.remedy)


def _forwarding(facts: Facts) -> Iterator[Finding]:
    keys = ["net.ipv4.ip_forward"] + (["net.ipv6.conf.all.forwarding"] if facts.ipv6 else [])
    for key in keys:
        if facts.sysctls.get(key) == 0:
            yield Finding(
                name="forwarding",
                severity=Severity.ERROR,
                text=f"{key} is 0",
                why="steered packets are dropped instead of forwarded to a backend",
                command=f"sysctl -w {key}=1",
                safe=True,
            )


def _return_path(facts: Facts) -> Iterator[Finding]:
    everywhere = facts.sysctls.get("net.ipv4.conf.all.rp_filter", 0)
    for interface in sorted(facts.mtus):
        key = f"net.ipv4.conf.{interface}.rp_filter"
        own = facts.sysctls.get(key)
        if own is not None and max(everywhere, own) == 1:
            yield Finding(
                name="rp-filter",
                severity=Severity.ERROR,
                text=f"rp_filter is strict on {interface}: the larger of all={everywhere} and its own {own} counts",
                why="with direct return, packets and replies take different links; strict filtering drops one way",
                command=f"sysctl -w {_settable(interface)}=2",
                safe=True,
            )


def _settable(interface: str) -> str:
    """Return the name that sysctl takes: where the interface's own holds a dot (a VLAN), slashes separate."""
    separator = "/" if "." in interface else "."
    return shlex.quote(separator.join(("net", "ipv4", "conf", interface, "rp_filter")))


def _conntrack(facts: Facts) -> Iterator[Finding]:
    largest = facts.sysctls.get("net.netfilter.nf_conntrack_max")
    used = facts.sysctls.get("net.netfilter.nf_conntrack_count")
    if largest is None or used is None:
        return
    # 0 is no limit.
    if largest and used > CONNTRACK_FULL * largest:
        yield Finding(
            name="conntrack-full",
            severity=Severity.ERROR,
            text=f"{used} of {largest} conntrack entries are in use",
            why="a full table drops new flows of everybody, BGP and management included",
            command=f"sysctl -w net.netfilter.nf_conntrack_max={largest * 4}",
            safe=True,
        )
    if facts.tracked_vip_flows:
        yield Finding(
            name="conntrack-in-path",
            severity=Severity.WARNING,
            text=f"{facts.tracked_vip_flows} flows of VIPs are tracked",
            why="the balancer needs no state; an entry that expires or fills the table is a way to lose clients",
            command="nft list ruleset  # find the rule that tracks before priority -300, or a NAT on VIP traffic",
        )


def _fragments(facts: Facts) -> Iterator[Finding]:
    for family in ("ipv4.ipfrag", "ipv6.ip6frag"):
        high, time = f"net.{family}_high_thresh", f"net.{family}_time"
        if facts.sysctls.get(high, LEAST_FRAGMENT_BYTES) < LEAST_FRAGMENT_BYTES:
            yield Finding(
                name="fragment-memory",
                severity=Severity.WARNING,
                text=f"{high} is {facts.sysctls[high]} bytes",
                why="IKE with certificates comes in fragments; too little memory loses sign-ons under load",
                command=f"sysctl -w {high}={LEAST_FRAGMENT_BYTES}",
                safe=True,
            )
        if facts.sysctls.get(time, 0) > MOST_FRAGMENT_S:
            yield Finding(
                name="fragment-time",
                severity=Severity.WARNING,
                text=f"{time} is {facts.sysctls[time]} s",
                why="unfinished fragments hold memory that long: a cheap way to starve reassembly",
                command=f"sysctl -w {time}={MOST_FRAGMENT_S}",
                safe=True,
            )


def _sizes(facts: Facts) -> Iterator[Finding]:
    for backend in facts.no_neighbours:
        yield Finding(
            name="no-neighbour",
            severity=Severity.ERROR,
            text=f"{backend} is no neighbour of this host",
            why="with direct return packets go to the backend's own link layer address; its way is refused otherwise",
            command="ip route  # bring the link up, give this host an address on it, or mend backends[].forward",
        )
    uplink = max((facts.mtus[i] for i in facts.uplinks if i in facts.mtus), default=1500)
    for interface in sorted(facts.backend_links & facts.mtus.keys()):
        if facts.mtus[interface] < uplink:
            yield Finding(
                name="mtu",
                severity=Severity.ERROR,
                text=f"{interface} towards backends has MTU {facts.mtus[interface]}, less than {uplink} of the uplink",
                why="ESP in UDP comes full-sized; it would be fragmented or answered with packet-too-big",
                command=f"ip link set {interface} mtu {uplink}",
            )
    if facts.mss_clamped is False:
        yield Finding(
            name="mss",
            severity=Severity.WARNING,
            text="no rule clamps the TCP MSS of tunnel traffic",
            why=f"L2TP over IPsec takes up to {ESP_IN_UDP_OVERHEAD} bytes; where ICMP is filtered, TCP then hangs",
            command="nft add rule inet filter forward oifname ppp* tcp flags syn tcp option maxseg size set rt mtu",
        )
    if facts.mss_clamped is None:
        yield Finding(
            name="mss",
            severity=Severity.UNKNOWN,
            text="whether TCP MSS is clamped could not be seen",
            why="see docs/balancer.md",
            command="nft list ruleset | grep maxseg",
        )


def _proposals(facts: Facts) -> Iterator[Finding]:
    for each in facts.lifetimes:
        weak = sorted({name for name in each.algorithms if _WEAK.search(name)})
        sha1 = sorted({name for name in each.algorithms if _SHA1.search(name)})
        why = "DH below 2048 bits, 3DES, MD5 and SHA-1 alone are within reach of an attacker with means"
        if weak or sha1:
            yield Finding(
                name="weak-proposal",
                severity=Severity.WARNING,
                text=f"{each.backend} has SAs with {', '.join(weak + sha1)}",
                why=why,
                command="offer aes256-sha256-modp2048 or better first in `proposals` and `esp_proposals`",
            )
        if not each.algorithms:
            yield Finding(
                name="weak-proposal",
                severity=Severity.UNKNOWN,
                text=f"{each.backend} has no SA to judge its proposals by: strongSwan tells only what was agreed on",
                why=why,
                command="look again when clients are connected, or read `proposals` and `esp_proposals` there",
            )
