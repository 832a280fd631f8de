"""The system lint: a good host is silent; each bad setting is one finding with its command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from popctl.core.doctor import Severity, findings
from popctl.model.host import Facts, Lifetimes

GOOD = Facts(
    sysctls={
        "net.ipv4.ip_forward": 1,
        "net.ipv6.conf.all.forwarding": 1,
        "net.ipv4.conf.all.rp_filter": 2,
        "net.ipv4.conf.eth0.rp_filter": 1,
        "net.netfilter.nf_conntrack_max": 1000,
        "net.netfilter.nf_conntrack_count": 1,
        "net.netfilter.nf_conntrack_udp_timeout_stream": 120,
        "net.netfilter.nf_conntrack_generic_timeout": 600,
        "net.ipv4.ipfrag_high_thresh": 4 << 20,
        "net.ipv4.ipfrag_time": 30,
    },
    mtus={"eth0": 1500, "eth1": 1600},
    backend_links=frozenset({"eth1"}),
    uplinks=frozenset({"eth0"}),
    mss_clamped=True,
    affinity_timeout_s=600,
    lifetimes=(Lifetimes(backend="b0", esp_rekey_s=3600, dpd_s=30, algorithms=("AES_CBC", "MODP_2048")),),
    ipv6=True,
)


def test_a_good_host_has_no_finding() -> None:
    assert findings(GOOD) == ()


@pytest.mark.parametrize(
    ("setting", "value", "name", "command"),
    [
        ("net.ipv4.ip_forward", 0, "forwarding", "sysctl -w net.ipv4.ip_forward=1"),
        ("net.ipv6.conf.all.forwarding", 0, "forwarding", "sysctl -w net.ipv6.conf.all.forwarding=1"),
        ("net.ipv4.conf.all.rp_filter", 0, "rp-filter", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"),
        (
            "net.netfilter.nf_conntrack_count",
            900,
            "conntrack-full",
            "sysctl -w net.netfilter.nf_conntrack_max=4000",
        ),
        ("net.ipv4.ipfrag_high_thresh", 1 << 18, "fragment-memory", "sysctl -w net.ipv4.ipfrag_high_thresh=4194304"),
        ("net.ipv4.ipfrag_time", 60, "fragment-time", "sysctl -w net.ipv4.ipfrag_time=30"),
    ],
)
def test_a_bad_setting_is_one_finding_with_a_safe_command(setting: str, value: int, name: str, command: str) -> None:
    (finding,) = findings(replace(GOOD, sysctls={**GOOD.sysctls, setting: value}))
    assert (finding.name, finding.command, finding.safe) == (name, command, True)


def test_the_name_of_a_vlan_holds_a_dot_that_sysctl_does_not_take_for_a_slash() -> None:
    sysctls = {**GOOD.sysctls, "net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.eth1.100.rp_filter": 1}
    (finding,) = findings(replace(GOOD, sysctls=sysctls, mtus={"eth1.100": 1500}))
    assert (finding.command, finding.safe) == ("sysctl -w net/ipv4/conf/eth1.100/rp_filter=2", True)


def test_conntrack_without_a_limit_is_never_full() -> None:
    unlimited = {**GOOD.sysctls, "net.netfilter.nf_conntrack_max": 0, "net.netfilter.nf_conntrack_count": 5}
    assert findings(replace(GOOD, sysctls=unlimited)) == ()


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        (replace(GOOD, mtus={"eth0": 1500, "eth1": 1400}), "mtu"),
        (replace(GOOD, mss_clamped=False), "mss"),
        (replace(GOOD, affinity_timeout_s=50), "affinity-timeout"),
        (replace(GOOD, tracked_vip_flows=3), "conntrack-in-path"),
        (replace(GOOD, lifetimes=(Lifetimes(backend="b0", algorithms=("3DES_CBC",)),)), "weak-proposal"),
        (replace(GOOD, lifetimes=(Lifetimes(backend="b0", algorithms=("MODP_1024",)),)), "weak-proposal"),
        (replace(GOOD, lifetimes=(Lifetimes(backend="b0", algorithms=("HMAC_SHA1_96",)),)), "weak-proposal"),
    ],
)
def test_what_no_command_mends_safely_is_only_told(facts: Facts, name: str) -> None:
    (finding,) = findings(facts)
    assert (finding.name, finding.safe) == (name, False)


def test_a_conntrack_entry_must_outlive_the_silence_between_packets() -> None:
    short = {**GOOD.sysctls, "net.netfilter.nf_conntrack_udp_timeout_stream": 10}
    names = [f.name for f in findings(replace(GOOD, sysctls=short, tracked_vip_flows=1))]
    assert names == ["conntrack-timeout", "conntrack-in-path"]


def test_what_cannot_be_seen_is_said_and_comes_last() -> None:
    found = findings(replace(GOOD, mss_clamped=None, affinity_timeout_s=1))
    assert [f.severity for f in found] == [Severity.ERROR, Severity.UNKNOWN]
