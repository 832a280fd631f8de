"""Small PoPs for tests: complete values, changed only where a test needs it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

from popctl.model.balancer import BalancedService, Forward, Rows, SpiPlan, Tables
from popctl.model.pop import (
    Allowlist,
    Announce,
    Backend,
    Lease,
    Neighbor,
    Paths,
    Pop,
    Service,
    Timing,
)
from popctl.model.probe import Cadence, IkeLiveness, L2tp, ProbeSpec, Thresholds
from popctl.model.route import GRACEFUL_SHUTDOWN, Address, Attributes, Family
from popctl.wire.spi import labels

ROUTER = ip_address("192.0.2.1")
SECOND_ROUTER = ip_address("2001:db8::1")
VIP4 = ip_network("198.51.100.0/24")
VIP6 = ip_network("2001:db8:100::/48")

TIMING = Timing(
    warm_up_s=10.0, unknown_hold_s=30.0, hold_down_s=15.0, hold_down_max_s=600.0, flap_window_s=900.0, stop_drain_s=0.0
)
CADENCE = Cadence(interval_s=1.0, jitter=0.0, timeout_s=0.5, retry_s=0.0)
THRESHOLDS = Thresholds(rise=3, fall=3, fall_refused=1, stale_after_s=5.0)


def ike(thresholds: Thresholds = THRESHOLDS) -> ProbeSpec:
    return ProbeSpec(name="ike", method=IkeLiveness(version=2, port=500), cadence=CADENCE, thresholds=thresholds)


def l2tp(thresholds: Thresholds = THRESHOLDS) -> ProbeSpec:
    return ProbeSpec(name="l2tp", method=L2tp(port=1701, secret=None), cadence=CADENCE, thresholds=thresholds)


def backend(number: int, *probes: ProbeSpec) -> Backend:
    return Backend(
        id=number,
        name=f"b{number}",
        address=ip_address(f"127.0.1.{number}"),
        weight=100,
        probes=probes or (ike(), l2tp()),
    )


def neighbor(address: Address = ROUTER, asn: int = 65000) -> Neighbor:
    normal = Attributes(med=10)
    depreferred = Attributes(med=100, prepend=3)
    shutdown = Attributes(med=100, prepend=3, communities=(GRACEFUL_SHUTDOWN,))
    return Neighbor(
        address=address,
        local_address=ip_address("192.0.2.10" if address.version == 4 else "2001:db8::10"),
        asn=asn,
        hold_time_s=9,
        families=frozenset(Family),
        next_hops={Family.IPV4_UNICAST: ip_address("192.0.2.10"), Family.IPV6_UNICAST: ip_address("2001:db8::10")},
        attributes={
            Announce.NORMAL: normal,
            Announce.DEPREFERRED: depreferred,
            Announce.GRACEFUL_SHUTDOWN: shutdown,
        },
    )


def pop(
    *,
    backends: tuple[Backend, ...] | None = None,
    services: tuple[Service, ...] | None = None,
    neighbors: tuple[Neighbor, ...] | None = None,
    timing: Timing = TIMING,
    minimum_healthy: int = 1,
    start_without_state: bool = False,
    run_dir: Path = Path("run"),
) -> Pop:
    backends = backends or (backend(1), backend(2))
    services = services or (
        Service(
            name="vpn",
            prefixes=(VIP4, VIP6),
            backends=tuple(one.id for one in backends),
            minimum_healthy=minimum_healthy,
        ),
    )
    return Pop(
        id=1,
        name="pop1",
        location="Testville",
        asn=65010,
        router_id=ip_address("192.0.2.10"),
        neighbors=neighbors or (neighbor(),),
        services=services,
        backends={one.id: one for one in backends},
        allowlist=Allowlist(
            prefixes=frozenset(prefix for service in services for prefix in service.prefixes),
            next_hops=frozenset((ip_address("192.0.2.10"), ip_address("2001:db8::10"))),
            communities=frozenset((GRACEFUL_SHUTDOWN,)),
            large_communities=frozenset(),
        ),
        timing=timing,
        lease=Lease(duration_s=3.0),
        paths=Paths(
            relay_socket=run_dir / "relay.sock",
            api_socket=run_dir / "api.sock",
            state_file=run_dir / "state.json",
            journal=None,
        ),
        start_without_state=start_without_state,
    )


VIP = ip_address("198.51.100.1")
PLAN = SpiPlan(site="example.net")


def balanced(bare: Pop) -> Pop:
    """Return the same PoP with a balancer for its first service, as the configuration would make it."""
    service, *_ = bare.services
    members = sorted(service.backends)
    tables = Tables(
        services=(
            BalancedService(
                name=service.name,
                vips=(VIP,),
                rows=Rows(width=len(members), order=bytes(number + 1 for number in members)),
                labels=labels(PLAN, bare.id, members),
                seed=0,
            ),
        ),
        backends={
            number: Forward(name=bare.backends[number].name, ipv4=IPv4Address("10.77.0.10") + number)
            for number in members
        },
    )
    return replace(bare, tables=tables, spi_plans=(PLAN,))
