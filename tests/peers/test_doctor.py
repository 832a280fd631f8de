"""The system lint on a real host: what it finds is there, what it mends is mended, and what it did is in the audit."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from popctl.model.host import Lifetimes
from popctl.model.pop import ViciEndpoint
from popctl.senses.doctor import facts, read_lifetimes
from popctl.wire.audit import encode, verify
from tests.balancers import VIP4, VIP6
from tests.eventually import eventually
from tests.peers.lb_net import Net, needs_nft, net
from tests.peers.strongswan import PROGRAM, StrongSwan, connection
from tests.unit.config.samples import minimal

__all__ = ["net"]
pytestmark = [pytest.mark.peer, needs_nft]
INVENTORY = str(Path(__file__).parents[1] / "data" / "balancer" / "inventory.yaml")
# Of the whole machine, whatever a namespace says.
SHARED = ("conntrack-full", "mss")


@pytest.fixture
def host(net: Net) -> Net:
    """Provide an edge host between a client and a backend that answers for the VIPs."""
    net.add("c", "lb", "b")
    net.link("c", "c0", "192.0.2.2/24 2001:db8:1::2/64", "lb", "l0", "192.0.2.1/24 2001:db8:1::1/64")
    net.link("b", "b0", "10.77.0.10/24 2001:db8:77::10/64", "lb", "l1", "10.77.0.1/24 2001:db8:77::1/64")
    for family, gateway, back in (("-4", "192.0.2.1", "10.77.0.1"), ("-6", "2001:db8:1::1", "2001:db8:77::1")):
        vip, way = (VIP4, "10.77.0.10") if family == "-4" else (VIP6, "2001:db8:77::10")
        net.ip("c", f"{family} route add default via {gateway}")
        net.ip("b", f"{family} route add default via {back}")
        net.ip("lb", f"{family} route add {vip} via {way}")
        net.ip("b", f"{family} addr add {vip} dev lo" + (" nodad" if family == "-6" else ""))
    return net


def doctor(host: Net, *words: str) -> dict[str, object]:
    """Run the command on the edge host."""
    text = host.inside("lb", sys.executable, "-m", "popctl.cli.main", "doctor", "--json", *words, check=False)
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def names(found: dict[str, object]) -> list[str]:
    """Return the names of findings that are this namespace's own."""
    findings = found["findings"]
    assert isinstance(findings, list)
    return [one["name"] for one in findings if one["name"] not in SHARED]


def setting(host: Net, key: str) -> str:
    """Read a kernel setting."""
    return host.inside("lb", "sysctl", "-n", key).strip()


def test_safe_findings_are_mended_told_and_audited(host: Net, tmp_path: Path) -> None:
    host.inside("lb", "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv4.conf.l0.rp_filter=1")
    host.inside("lb", "sysctl", "-qw", "net.ipv4.ipfrag_time=60")
    audit = tmp_path / "audit.jsonl"
    audit.write_bytes(encode({"owner": "root", "reason": "before"}, b""))
    before = doctor(host)
    assert set(names(before)) >= {"forwarding", "rp-filter", "fragment-time"}
    assert (before["done"], setting(host, "net.ipv4.ip_forward")) == ([], "0")
    mended = doctor(host, "--fix", "--audit", str(audit))
    assert {"sysctl -w net.ipv4.ip_forward=1", "sysctl -w net.ipv4.conf.l0.rp_filter=2"} <= set(mended["done"])  # type: ignore[call-overload]  # a list
    assert not {"forwarding", "rp-filter", "fragment-time"} & set(names(mended))
    assert (setting(host, "net.ipv4.ip_forward"), setting(host, "net.ipv4.conf.l0.rp_filter")) == ("1", "2")
    lines = audit.read_bytes().splitlines(keepends=True)
    assert verify(lines).problems == ()
    assert json.loads(lines[1])["commands"] == mended["done"]
    again = doctor(host, "--fix", "--audit", str(audit))
    assert (again["done"], len(audit.read_bytes().splitlines())) == ([], 2)


def test_the_filter_of_a_vlan_is_mended_too(host: Net, tmp_path: Path) -> None:
    host.ip("lb", "link add l9.100 type veth peer name l9.101")
    host.inside("lb", "sysctl", "-qw", "net/ipv4/conf/l9.100/rp_filter=1")
    assert "rp-filter" in names(doctor(host))
    mended = doctor(host, "--fix", "--audit", str(tmp_path / "audit.jsonl"))
    assert "sysctl -w net/ipv4/conf/l9.100/rp_filter=2" in mended["done"]  # type: ignore[operator]  # a list
    assert ("rp-filter" in names(mended), setting(host, "net/ipv4/conf/l9.100/rp_filter")) == (False, "2")


def test_without_an_audit_none_is_begun(host: Net, tmp_path: Path) -> None:
    host.inside("lb", "sysctl", "-qw", "net.ipv4.ipfrag_time=60")
    audit = tmp_path / "audit.jsonl"
    assert doctor(host, "--fix", "--audit", str(audit))["done"]
    assert not audit.exists()


@pytest.mark.parametrize("vip", [str(VIP4), str(VIP6)])
def test_tracked_flows_of_a_vip_are_found(host: Net, vip: str) -> None:
    host.inside("lb", "nft", "add table inet tracker")
    host.inside("lb", "nft", "add chain inet tracker f { type filter hook forward priority 0; }")
    host.inside("lb", "nft", "add rule inet tracker f ct state new accept")
    assert "conntrack-in-path" not in names(doctor(host, "--inventory", INVENTORY))
    with host.thread("c") as executor:
        executor.submit(_send, vip).result()
    eventually(lambda: "conntrack-in-path" in names(doctor(host, "--inventory", INVENTORY)))
    assert "conntrack-in-path" not in names(doctor(host, "--vip", "198.51.100.99"))
    with host.thread("lb") as executor:
        # The kernel's file is an option; netlink tells the same.
        by_file = executor.submit(lambda: facts(vips=[VIP4, VIP6]).tracked_vip_flows).result()
        by_netlink = executor.submit(lambda: facts(vips=[VIP4, VIP6], conntrack=Path("/nowhere")).tracked_vip_flows)
        assert (by_netlink.result(), by_file) == (1, 1)


def told(found: dict[str, object], name: str) -> list[str]:
    """Return the texts of findings of one name."""
    findings = found["findings"]
    assert isinstance(findings, list)
    return [one["text"] for one in findings if one["name"] == name]


def test_links_towards_the_backends_of_the_inventory_carry_full_packets(host: Net) -> None:
    assert told(doctor(host, "--inventory", INVENTORY), "mtu") == []
    host.ip("lb", "link set l1 mtu 1400")
    assert told(doctor(host, "--inventory", INVENTORY), "mtu") == [
        "l1 towards backends has MTU 1400, less than 1500 of the uplink"
    ]
    host.ip("lb", "link set l0 mtu 1400")
    assert told(doctor(host, "--inventory", INVENTORY, "--uplink", "l0"), "mtu") == []
    assert told(doctor(host, "--backend-link", "l1"), "mtu") != []
    assert told(doctor(host), "mtu") == []


def test_a_backend_that_is_no_neighbour_is_told(host: Net) -> None:
    assert told(doctor(host, "--inventory", INVENTORY), "no-neighbour") == []
    host.ip("lb", "addr del 10.77.0.1/24 dev l1")
    here = [f"b{number} (10.77.0.1{number}) is no neighbour of this host" for number in (0, 1)]
    assert told(doctor(host, "--inventory", INVENTORY), "no-neighbour") == here
    host.ip("lb", "route add default via 192.0.2.2")
    assert told(doctor(host, "--inventory", INVENTORY), "no-neighbour") == here


@pytest.mark.skipif(not Path(PROGRAM).exists(), reason="needs the charon-systemd package")
def test_backends_of_the_agents_file_are_asked_for_their_timers(host: Net, tmp_path: Path) -> None:
    """Rows: IKE is replaced by whichever comes first, rekey or re-authentication; of connections the longest counts."""
    timers = (("7200s", "0s", "30s"), ("14400s", "3600s", "20s"))
    connections = {
        f"c{number}": connection(
            version, ("aes256-sha256-modp2048",), rekey_time=rekey, reauth_time=again, dpd_delay=dpd
        )
        for number, (version, (rekey, again, dpd)) in enumerate(zip((1, 2), timers, strict=True))
    }
    with StrongSwan(host.name("b"), connections=connections) as gateway:
        endpoint = ViciEndpoint(path=gateway.vici_path)
        ((seen,), _) = read_lifetimes({"vpn-1": endpoint})
        assert seen == Lifetimes(backend="vpn-1", ike_rekey_s=7200, esp_rekey_s=3600, dpd_s=30)
        balancer = "    balancer: {vips: [198.51.100.1], affinity: {timeout: 50s}}\n"
        file = tmp_path / "popctl.yaml"
        file.write_text(
            minimal(
                ("address: 10.0.0.1,", f"address: 10.77.0.10, vici: '{endpoint}',"),
                ("address: 10.0.0.2,", "address: 10.77.0.11,"),
                ("    prefixes: [198.51.100.0/24]\n", f"    prefixes: [198.51.100.0/24]\n{balancer}"),
                tail="spi_plan: {site: example.net}\nbalancer: {longest_sa: 1h}\n",
            )
        )
        found = doctor(host, "--inventory", str(file))
        gone = doctor(host, "--inventory", str(file), "--vici", "vpn-1=/nowhere/vici")
    assert found["silent"] == {}
    assert told(found, "affinity-timeout") == [
        "affinity is forgotten after 50 s; a client of vpn-1 may be silent for 30 s"
    ]
    assert told(found, "longest-sa") == ["balancer.longest_sa is 3600 s; an SA of vpn-1 may live for 7920 s"]
    assert [text.partition(":")[0] for text in told(found, "weak-proposal")] == [
        "vpn-1 has no SA to judge its proposals by"
    ]
    assert list(gone["silent"]) == ["vpn-1"]  # type: ignore[call-overload]  # a mapping


def _send(vip: str) -> None:
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x" * 40, (vip, 4500))
