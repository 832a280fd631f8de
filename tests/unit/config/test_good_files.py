"""What good files become."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest

from popctl.config.load import parse
from popctl.model.balancer import Forward, HashKey, SpiPlan
from popctl.model.capacity import Policies
from popctl.model.load import Resource
from popctl.model.playbook import DEFAULT_LADDER
from popctl.model.pop import Announce, Lease, Paths, Secret, Timing
from popctl.model.probe import Cadence, Exec, Http, Icmp, IkeDeep, IkeLiveness, L2tp, Tcp, Thresholds
from popctl.model.route import GRACEFUL_SHUTDOWN, Attributes, Community, Family, LargeCommunity
from popctl.wire.spi import Identity, label
from tests.unit.config.samples import EXAMPLE, GOOD, parse_file, parse_minimal

DEFAULT = (
    Cadence(interval_s=1.0, jitter=0.2, timeout_s=0.5, retry_s=0.0),
    Thresholds(rise=3, fall=3, fall_refused=1, stale_after_s=5.0),
)
FAST = (
    Cadence(interval_s=0.1, jitter=0.2, timeout_s=0.1, retry_s=0.0),
    Thresholds(rise=5, fall=3, fall_refused=1, stale_after_s=1.0),
)
DEEP = (
    Cadence(interval_s=30.0, jitter=0.2, timeout_s=3.0, retry_s=0.0),
    Thresholds(rise=1, fall=3, fall_refused=1, stale_after_s=120.0),
)


@pytest.mark.parametrize("path", [EXAMPLE, *sorted(GOOD.glob("*.yaml"))], ids=lambda path: path.name)
def test_a_good_file_is_read_twice_to_the_same_value(path: Path) -> None:
    assert parse_file(path) == parse_file(path)


def test_the_minimal_file_gets_every_default() -> None:
    pop = parse_minimal()
    (neighbor,) = pop.neighbors
    assert (neighbor.hold_time_s, neighbor.port, neighbor.passive) == (9, 179, False)
    assert (neighbor.md5, neighbor.ttl_security_hops) == (None, None)
    assert neighbor.attributes == {
        Announce.NORMAL: Attributes(),
        Announce.DEPREFERRED: Attributes(med=100, prepend=3),
        Announce.GRACEFUL_SHUTDOWN: Attributes(med=100, prepend=3, communities=(GRACEFUL_SHUTDOWN,)),
    }
    (service,) = pop.services
    assert (service.name, service.backends, service.minimum_healthy) == ("vpn", (1, 2), 1)
    assert pop.backends[1].weight == 100
    assert pop.timing == Timing(
        warm_up_s=10.0,
        unknown_hold_s=30.0,
        hold_down_s=15.0,
        hold_down_max_s=600.0,
        flap_window_s=900.0,
        stop_drain_s=0.0,
    )
    assert pop.lease == Lease(duration_s=3.0, on_expiry_hold=False)
    assert pop.paths == Paths(
        relay_socket=Path("/run/popctl/relay.sock"),
        api_socket=Path("/run/popctl/api.sock"),
        state_file=Path("/var/lib/popctl/state.json"),
        journal=Path("/var/lib/popctl/journal.jsonl"),
    )
    assert pop.start_without_state is False
    assert pop.location == ""


def test_the_graceful_shutdown_community_is_allowed_without_being_listed() -> None:
    assert parse_minimal().allowlist.communities == {GRACEFUL_SHUTDOWN}


def test_the_example_says_what_its_comments_say() -> None:
    pop = parse_file(EXAMPLE)
    upstream, exchange = pop.neighbors
    assert (upstream.md5, upstream.ttl_security_hops) == (Secret("the md5 key"), 1)
    assert upstream.next_hops == {
        Family.IPV4_UNICAST: ip_address("192.0.2.10"),
        Family.IPV6_UNICAST: ip_address("2001:db8::10"),
    }
    own, lower, large = Community(65010, 100), Community(65000, 70), LargeCommunity(65000, 1, 70)
    assert upstream.attributes == {
        Announce.NORMAL: Attributes(communities=(own,)),
        Announce.DEPREFERRED: Attributes(med=100, prepend=3, communities=(lower, own), large_communities=(large,)),
        Announce.GRACEFUL_SHUTDOWN: Attributes(
            med=200, prepend=3, communities=(lower, own, GRACEFUL_SHUTDOWN), large_communities=(large,)
        ),
    }
    assert exchange.families == {Family.IPV6_UNICAST}
    assert [service.prefixes for service in pop.services] == [
        (ip_network("198.51.100.0/24"), ip_network("2001:db8:100::/48")),
        (ip_network("203.0.113.0/24"),),
    ]
    assert [service.backends for service in pop.services] == [(1, 2, 3), (3,)]
    assert [probe.name for probe in pop.backends[2].probes] == [
        "ike2-500",
        "ike2-4500",
        "ike1-500",
        "ike2-auth-500",
        "l2tp-1701",
    ]


def test_every_method_becomes_its_value() -> None:
    pop = parse_file(EXAMPLE)
    methods = {probe.name: probe.method for probe in (*pop.backends[1].probes, *pop.backends[3].probes)}
    assert methods == {
        "ike2-500": IkeLiveness(version=2, port=500),
        "ike2-4500": IkeLiveness(version=2, port=4500),
        "ike1-500": IkeLiveness(version=1, port=500),
        "ike2-auth-500": IkeDeep(
            version=2,
            port=500,
            identity="probe@fra1.example",
            remote_identity="vpn.example",
            psk=Secret("the probe psk"),
        ),
        "l2tp-1701": L2tp(port=1701, secret=None),
        "icmp": Icmp(),
        "tcp-443": Tcp(port=443),
        "http-8080": Http(url="http://10.0.0.3:8080/health", statuses=frozenset({200, 204})),
        "exec-check-radius": Exec(argv=("/usr/local/lib/popctl/check-radius", "10.0.0.3")),
    }


def test_the_default_profile_paces_liveness_and_deep_probes_apart() -> None:
    paces = {probe.name: (probe.cadence, probe.thresholds) for probe in parse_file(EXAMPLE).backends[1].probes}
    assert paces.pop("ike2-auth-500") == DEEP
    assert set(paces.values()) == {DEFAULT}


def test_an_own_profile_starts_from_default_and_an_entry_changes_single_keys() -> None:
    probes = {probe.name: probe for probe in parse_file(EXAMPLE).backends[3].probes}
    assert probes["tcp-443"].cadence == Cadence(interval_s=5.0, jitter=0.2, timeout_s=2.0, retry_s=0.0)
    assert probes["tcp-443"].thresholds == Thresholds(rise=3, fall=3, fall_refused=1, stale_after_s=30.0)
    assert probes["icmp"].cadence == Cadence(interval_s=2.0, jitter=0.2, timeout_s=2.0, retry_s=0.0)
    assert probes["icmp"].thresholds.stale_after_s == 10.0


def test_the_fast_profile_leaves_deep_probes_slow() -> None:
    pop = parse_minimal(
        ("address: 10.0.0.1, probes: vpn", "address: 10.0.0.1, probes: vpn, profile: fast"),
        ("- ike: {}", "- ike: {}\n    - ike_deep: {identity: probe, psk_file: /secrets/psk}"),
    )
    paces = {probe.name: (probe.cadence, probe.thresholds) for probe in pop.backends[1].probes}
    assert paces == {"ike2-500": FAST, "ike2-4500": FAST, "ike2-auth-500": DEEP}


def test_an_internal_neighbor_is_steered_by_local_preference_alone() -> None:
    first, second = parse_file(GOOD / "ibgp-fast.yaml").neighbors
    own = (LargeCommunity(4200000000, 0, 1),)
    assert first.attributes == {
        Announce.NORMAL: Attributes(local_preference=200, large_communities=own),
        Announce.DEPREFERRED: Attributes(med=100, local_preference=100, large_communities=own),
        Announce.GRACEFUL_SHUTDOWN: Attributes(
            med=100, local_preference=1, communities=(GRACEFUL_SHUTDOWN,), large_communities=own
        ),
    }
    assert second.attributes[Announce.DEPREFERRED] == Attributes(med=100, local_preference=50)
    assert second.attributes[Announce.GRACEFUL_SHUTDOWN].local_preference == 0


def test_every_optional_key_of_a_probe_is_taken_over() -> None:
    pop = parse_file(GOOD / "ibgp-fast.yaml")
    probes = {probe.name: probe for probe in pop.backends[255].probes}
    assert list(probes) == ["ike2-500", "ike2-4500", "ike1-500", "ike1-auth-4500", "l2tp-1701", "http-8080", "front"]
    assert probes["ike1-500"].cadence == Cadence(interval_s=1.0, jitter=0.0, timeout_s=0.5, retry_s=0.1)
    assert probes["ike1-500"].thresholds == Thresholds(rise=1, fall=1, fall_refused=1, stale_after_s=10.0)
    assert probes["l2tp-1701"].method == L2tp(port=1701, secret=Secret("the tunnel secret"))
    assert probes["front"].method == Http(url="https://[2001:db8:1::1]/", statuses=frozenset({200}))
    assert pop.neighbors[0].hold_time_s == 0
    assert pop.lease == Lease(duration_s=90.0, on_expiry_hold=True)
    assert pop.start_without_state is True
    assert pop.paths.journal is None


def test_no_secret_shows_in_the_repr_of_a_pop() -> None:
    shown = repr(parse_file(EXAMPLE)) + repr(parse_file(GOOD / "ibgp-fast.yaml"))
    assert "the md5 key" not in shown
    assert "the probe psk" not in shown
    assert "the tunnel secret" not in shown


def test_without_a_balancer_section_there_is_no_balancer() -> None:
    pop = parse_minimal()
    assert (pop.tables, pop.spi_plan, pop.row_key) == (None, None, None)


def test_the_example_has_a_balancer_with_a_label_a_slice_and_a_way_per_backend() -> None:
    pop = parse_file(EXAMPLE)
    assert pop.tables is not None
    assert pop.spi_plan is not None
    (service,) = pop.tables.services
    assert service.vips == (ip_address("198.51.100.1"), ip_address("2001:db8:100::1"))
    assert service.key is HashKey.SPI
    assert service.rows.row(0) == (1, 2, 3)
    assert set(service.labels.ike.values()) == set(service.labels.esp.values()) == {1, 2, 3}
    assert pop.tables.backends[2] == Forward(
        name="vpn-2", ipv4=IPv4Address("10.0.0.2"), ipv6=IPv6Address("2001:db8:0:9::2")
    )
    assert str(pop.backends[1].vici) == "tcp://10.0.0.1:4502"
    assert pop.backends[2].vici is None
    assert not pop.tables.alive


def test_plans_before_this_one_stay_in_force() -> None:
    vips = (
        "    prefixes: [198.51.100.0/24]\n",
        "    prefixes: [198.51.100.0/24]\n    balancer: {vips: [198.51.100.1]}\n",
    )
    older = "{site: example.net, previous: {site: example.org, generation: 6}}"
    pop = parse_minimal(vips, tail=f"spi_plan: {{site: example.net, generation: 1, previous: {older}}}\n")
    plans = [
        SpiPlan(site="example.net", generation=1),
        SpiPlan(site="example.net"),
        SpiPlan(site="example.org", generation=6),
    ]
    assert (pop.spi_plan, pop.spi_plans) == (plans[0], tuple(plans))
    assert pop.tables is not None
    for plan in plans:
        for backend in (1, 2):
            assert pop.tables.services[0].labels.ike[label(plan, Identity(1, backend))] == backend


def test_what_is_written_about_load_becomes_its_values() -> None:
    pop = parse_file(GOOD / "load.yaml")
    assert pop.load is not None
    assert pop.backends[1].capacity == {Resource.SESSIONS: 4000.0, Resource.BITS: 10e9}
    assert pop.backends[2].capacity == {Resource.SESSIONS: 2000.0, Resource.BITS: 2.5e9, Resource.CPU: 3.5}
    assert pop.capacity == {Resource.BITS: 8e9}
    assert pop.load.services == {"vpn"}
    assert [level.name for level in pop.load.ladder] == [
        "normal",
        "as65001 depreferred",
        "depreferred",
        "as65001 withdrawn",
        "withdrawn",
    ]
    third = pop.load.ladder[3]
    assert (third.rung(65000), third.rung(65001)) == (Announce.DEPREFERRED, Announce.WITHDRAWN)
    assert pop.load.playbook == Path("/var/lib/popctl/playbook.json")
    policies = pop.load.policies
    assert (policies.load.floor, policies.load.hot, policies.load.dwell_s) == (2, 0.8, 300.0)
    assert (policies.load.backoff_s, policies.load.backoff_max_s) == (600.0, 3600.0)
    assert (policies.gate.watermark, policies.gate.moved_sessions_max) == (0.8, 5000.0)
    assert (policies.gate.playbook_max_age_s, policies.gate.view_stale_after_s) == (72 * 3600.0, 20.0)
    assert (policies.damping.half_life_s, policies.damping.limit) == (1800.0, 1200.0)


def test_without_a_load_section_load_moves_nothing() -> None:
    pop = parse_minimal()
    assert (pop.load, pop.capacity, pop.backends[1].capacity) == (None, None, None)


def test_an_empty_load_section_gets_the_defaults_of_the_model_but_for_the_age_of_the_view() -> None:
    text = (GOOD / "load.yaml").read_text()
    begin, end = text.index("load:\n"), text.index("fleet:\n")
    pop = parse(text[:begin] + "load: {}\n" + text[end:], "pop.yaml")
    default = Policies()
    assert pop.load is not None
    assert pop.load.ladder == DEFAULT_LADDER
    assert pop.load.services == {"vpn", "lab"}
    assert pop.load.policies == replace(default, gate=replace(default.gate, view_stale_after_s=30.0))
