"""The system lint: a good host is silent; each bad setting is one finding with its command."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from popctl.core.doctor import findings
from popctl.model.finding import Severity
from popctl.model.host import Facts, Lifetimes

GOOD = Facts(
    sysctls={
        "net.ipv4.ip_forward": 1,
        "net.ipv6.conf.all.forwarding": 1,
        "net.ipv4.conf.all.rp_filter": 2,
        "net.ipv4.conf.eth0.rp_filter": 1,
        "net.netfilter.nf_conntrack_max": 1000,
        "net.netfilter.nf_conntrack_count": 1,
        "net.netfilter.nf_conntrack_udp_timeout": 120,
        "net.netfilter.nf_conntrack_udp_timeout_stream": 120,
        "net.netfilter.nf_conntrack_generic_timeout": 7200,
        "net.ipv4.ipfrag_high_thresh": 4 << 20,
        "net.ipv4.ipfrag_time": 30,
    },
    mtus={"eth0": 1500, "eth1": 1600},
    backend_links=frozenset({"eth1"}),
    uplinks=frozenset({"eth0"}),
    mss_clamped=True,
    affinity_timeout_s=600,
    longest_sa_s=86400.0,
    lifetimes=(
        Lifetimes(backend="b0", ike_rekey_s=14400, esp_rekey_s=3600, dpd_s=30, algorithms=("AES_CBC", "MODP_2048")),
    ),
    ipv6=True,
)
TRACKED = replace(GOOD, tracked_vip_flows=1)


def backend(**changed: Any) -> tuple[Lifetimes, ...]:  # noqa: ANN401 - fields of the lifetimes
    """Return the good backend with something different."""
    return (replace(GOOD.lifetimes[0], **changed),)


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
        (replace(GOOD, lifetimes=backend(algorithms=("3DES_CBC",))), "weak-proposal"),
        (replace(GOOD, lifetimes=backend(algorithms=("MODP_1024",))), "weak-proposal"),
        (replace(GOOD, lifetimes=backend(algorithms=("HMAC_SHA1_96",))), "weak-proposal"),
        (replace(GOOD, lifetimes=backend(algorithms=())), "weak-proposal"),
        (replace(GOOD, lifetimes=backend(dpd_s=0)), "affinity-timeout"),
        (replace(GOOD, lifetimes=backend(dpd_s=0, ike_rekey_s=100, esp_rekey_s=400)), None),
        (replace(GOOD, lifetimes=backend(ike_rekey_s=80000)), "longest-sa"),
        (replace(GOOD, lifetimes=backend(esp_rekey_s=0)), "longest-sa"),
        (replace(GOOD, no_neighbours=("b1 (10.77.0.11)",)), "no-neighbour"),
    ],
)
def test_what_no_command_mends_safely_is_only_told(facts: Facts, name: str | None) -> None:
    assert [(found.name, found.safe) for found in findings(facts)] == ([(name, False)] if name else [])


def names(facts: Facts) -> list[str]:
    """Return the names of findings that are not always there when flows are tracked."""
    return [found.name for found in findings(facts) if found.name != "conntrack-in-path"]


@pytest.mark.parametrize("timer", ["udp_timeout", "udp_timeout_stream"])
@pytest.mark.parametrize(
    ("lifetimes", "value", "wanted"),
    [
        ((), 20, "sysctl -w net.netfilter.nf_conntrack_{}=80"),
        ((), 30, None),
        (backend(dpd_s=60), 60, "sysctl -w net.netfilter.nf_conntrack_{}=240"),
        (backend(dpd_s=60), 61, None),
    ],
)
def test_a_conntrack_entry_must_outlive_the_silence_of_a_client(
    timer: str, lifetimes: tuple[Lifetimes, ...], value: int, wanted: str | None
) -> None:
    """With direct return a tracked flow is never answered: the shorter of the kernel's times applies to it."""
    sysctls = {**GOOD.sysctls, f"net.netfilter.nf_conntrack_{timer}": value}
    found = [one for one in findings(replace(TRACKED, sysctls=sysctls, lifetimes=lifetimes)) if one.safe]
    assert [(one.name, one.command) for one in found] == (
        [("conntrack-timeout", wanted.format(timer))] if wanted else []
    )
    assert findings(replace(GOOD, sysctls=sysctls, lifetimes=lifetimes)) == ()


def test_where_only_a_rekey_ends_the_silence_conntrack_is_not_made_to_remember_so_long_unasked() -> None:
    found = findings(replace(TRACKED, affinity_timeout_s=90000, lifetimes=backend(dpd_s=0)))
    timeouts = [one for one in found if one.name == "conntrack-timeout"]
    assert [(one.safe, "dpd_delay" in one.command) for one in timeouts] == [(False, True)] * 2


def test_conntrack_must_remember_native_esp_until_its_rekey() -> None:
    assert names(TRACKED) == []
    short = {**GOOD.sysctls, "net.netfilter.nf_conntrack_generic_timeout": 600}
    assert names(replace(TRACKED, sysctls=short)) == ["conntrack-esp"]


def test_the_memory_must_outlive_the_silence_of_the_backend_whose_clients_are_silent_longest() -> None:
    both = (*GOOD.lifetimes, replace(GOOD.lifetimes[0], backend="b1", dpd_s=0, esp_rekey_s=400))
    (finding,) = findings(replace(GOOD, lifetimes=both))
    assert (finding.name, "a client of b1" in finding.text, "400 s" in finding.text) == ("affinity-timeout", True, True)


def test_clients_that_nothing_makes_speak_are_told_whatever_the_memory() -> None:
    nothing = backend(dpd_s=0, ike_rekey_s=0, esp_rekey_s=0)
    found = findings(replace(GOOD, affinity_timeout_s=86400, lifetimes=nothing))
    assert [(one.name, one.severity) for one in found] == [
        ("affinity-timeout", Severity.WARNING),
        ("longest-sa", Severity.UNKNOWN),
    ]


def test_an_sa_outlives_its_rekeying_time_by_a_tenth() -> None:
    just, over = backend(ike_rekey_s=78000), backend(ike_rekey_s=79000)
    assert findings(replace(GOOD, lifetimes=just)) == ()
    (finding,) = findings(replace(GOOD, lifetimes=over))
    assert (finding.severity, "86900 s" in finding.text) == (Severity.ERROR, True)
    assert findings(replace(GOOD, lifetimes=over, longest_sa_s=None)) == ()


def test_of_a_backend_without_sas_nothing_is_said_of_its_proposals() -> None:
    (finding,) = findings(replace(GOOD, lifetimes=backend(algorithms=())))
    assert (finding.severity, "no SA" in finding.text) == (Severity.UNKNOWN, True)


def test_what_cannot_be_seen_is_said_and_comes_last() -> None:
    found = findings(replace(GOOD, mss_clamped=None, affinity_timeout_s=1))
    assert [f.severity for f in found] == [Severity.ERROR, Severity.UNKNOWN]
