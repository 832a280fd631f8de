"""Runs inside the guest: real L2TP/IPsec sessions with kernel ESP through the balancer.

    c1 (native ESP) ---+                 +--- b0 ---+
                       r --- lb --- LAN -+          +--- r    replies go straight back: direct return
    c3 --- n (NAT) ----+                 +--- b1 ---+

Every client signs on with IKEv1 main mode and a PSK, transport mode, L2TP by xl2tpd, PPP by pppd, MS-CHAPv2.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from popctl.lb.libnft import Nft
from popctl.lb.nft import compile_tables
from popctl.lb.route import Routes, wanted
from popctl.model.balancer import Tables
from popctl.wire.nft_text import transaction
from popctl.wire.spi import SPI_MASK, Identity, esp_slice, label
from tests.balancers import PLAN, POP, VIP4, draining, forwards, rows, tables
from tests.eventually import eventually
from tests.peers.daemon import Daemon
from tests.peers.lb_net import Net
from tests.peers.strongswan import StrongSwan

IPV4_ONLY = {number: replace(forward, ipv6=None) for number, forward in forwards(2).items()}
TWO = replace(tables(2, rows=rows(2, size=4096), vips=(VIP4,)), backends=IPV4_ONLY)
FORGETFUL = replace(tables(2, rows=rows(2, size=4096), vips=(VIP4,), affinity=None), backends=IPV4_ONLY)
PINGS = 120
HOME = 0
CHILD = {"mode": "transport", "esp_proposals": ["aes128-sha256"], "rekey_time": "1h"}
COMMON = {"version": "1", "proposals": ["aes128-sha256-modp2048"], "rekey_time": "4h", "dpd_delay": "0", "encap": "no"}
PPP_BOTH = "noccp\nnovj\nmtu 1400\nmru 1400\nnodefaultroute\nnoipv6\nrefuse-eap\nrefuse-pap\n"


def server(vip: str) -> dict[str, dict[str, Any]]:
    """Return what a backend accepts."""
    child = {**CHILD, "local_ts": ["dynamic[udp/1701]"], "remote_ts": ["dynamic[udp]"]}
    ends = {"local_addrs": [vip], "local-1": {"auth": "psk", "id": vip}, "remote-1": {"auth": "psk"}}
    return {"l2tp": {**COMMON, **ends, "children": {"l2tp": child}}}


def client(vip: str) -> dict[str, dict[str, Any]]:
    """Return what a client does."""
    child = {**CHILD, "local_ts": ["dynamic[udp/1701]"], "remote_ts": ["dynamic[udp/1701]"]}
    ends = {"remote_addrs": [vip], "local-1": {"auth": "psk"}, "remote-1": {"auth": "psk", "id": vip}}
    return {"l2tp": {**COMMON, **ends, "children": {"l2tp": child}}}


class L2tp(Daemon):
    """xl2tpd with a private /run and /etc/ppp, as server (`number` >= 0) or client."""

    program = "/usr/sbin/xl2tpd"

    def __init__(self, namespace: str, number: int = -1) -> None:
        super().__init__(namespace)
        (self.directory / "ppp").mkdir()
        (self.directory / "ppp" / "options").write_text("")
        (self.directory / "ppp" / "chap-secrets").write_text('"alice" * "secret" *\n')
        (self.directory / "l2tp-secrets").write_text("")
        head = f"[global]\nport = 1701\nauth file = {self.directory}/l2tp-secrets\n"
        options = f"pppoptfile = {self.directory}/ppp-options\nlength bit = yes\n"
        if number >= 0:
            head += f"listen-addr = {VIP4}\n[lns default]\nip range = 10.50.{number}.10-10.50.{number}.99\n"
            head += f"local ip = 10.50.{number}.1\nrefuse pap = yes\nrequire authentication = yes\nname = lns\n"
            ppp = "auth\nrequire-mschap-v2\nrefuse-chap\nrefuse-mschap\nlcp-echo-interval 30\nlcp-echo-failure 4\n"
        else:
            head += f"[lac vpn]\nlns = {VIP4}\nrequire authentication = no\n"
            ppp = "noauth\nname alice\npassword secret\nipcp-accept-local\nipcp-accept-remote\n"
        (self.directory / "xl2tpd.conf").write_text(head + options)
        (self.directory / "ppp-options").write_text(ppp + PPP_BOTH)

    def start(self) -> None:
        """Start and wait until it takes commands."""
        d = self.directory
        run = f"exec {self.program} -D -c {d}/xl2tpd.conf -p {d}/pid -C {d}/control -s {d}/l2tp-secrets"
        private = f"mount -t tmpfs run /run; mkdir -p /run/xl2tpd /run/lock; mount --bind {d}/ppp /etc/ppp; {run}"
        self.spawn(["sh", "-c", private])
        eventually((d / "control").exists, within_s=20)

    def dial(self) -> None:
        """Open the tunnel and the session."""
        (self.directory / "control").write_text("c vpn\n")


class Guest:
    """The PoP and its two clients."""

    def __init__(self, net: Net, stack: ExitStack) -> None:
        self.net = net
        net.add("r", "lb", "b0", "b1", "c1", "n", "c3")
        net.link("r", "r0", "203.0.113.254/24", "lb", "l0", "203.0.113.1/24")
        net.ip("r", f"route add {VIP4} via 203.0.113.1")
        net.ip("lb", "route add default via 203.0.113.254")
        net.ip("lb", "link add br0 type bridge")
        net.ip("lb", "addr add 10.77.0.1/24 dev br0")
        net.ip("lb", "link set br0 up")
        for b in (0, 1):
            net.link("lb", f"p{b}", "", f"b{b}", "e0", f"10.77.0.{10 + b}/24")
            net.ip("lb", f"link set p{b} master br0")
            net.link("r", f"rb{b}", f"10.1.{b}.1/24", f"b{b}", "e1", f"10.1.{b}.2/24")
            net.ip(f"b{b}", f"route add default via 10.1.{b}.1")
            net.ip(f"b{b}", f"addr add {VIP4}/32 dev lo")
        net.link("r", "rc1", "192.0.2.1/30", "c1", "e0", "192.0.2.2/30")
        net.ip("c1", "route add default via 192.0.2.1")
        net.link("r", "rn", "192.0.2.9/30", "n", "e1", "192.0.2.10/30")
        net.ip("n", "route add default via 192.0.2.9")
        net.link("n", "e0", "192.168.3.1/24", "c3", "e0", "192.168.3.2/24")
        net.ip("c3", "route add default via 192.168.3.1")
        nat = "add table ip nat\nadd chain ip nat post { type nat hook postrouting priority 100; }\n"
        net.inside("n", "nft", "-f", "-", stdin=nat + 'add rule ip nat post oifname "e1" masquerade random\n')
        self.backends = [stack.enter_context(self.backend(b)) for b in (0, 1)]
        self.clients = {c: stack.enter_context(self.charon(c, client(str(VIP4)), {})) for c in ("c1", "c3")}
        for b in (0, 1):
            stack.enter_context(L2tp(net.name(f"b{b}"), b))
        self.lacs = {c: stack.enter_context(L2tp(net.name(c))) for c in ("c1", "c3")}

    def backend(self, number: int) -> StrongSwan:
        """Describe a backend's IKE daemon, labelled."""
        identity = Identity(POP, number)
        owned = esp_slice(PLAN, identity)
        labels = {"spi_mask": f"{SPI_MASK:#x}", "spi_label": f"{label(PLAN, identity) << 32:#x}"}
        slices = {"spi_min": f"{owned.first:#x}", "spi_max": f"{owned.last:#x}"}
        return self.charon(f"b{number}", server(str(VIP4)), {**labels, **slices})

    def charon(self, name: str, connections: Mapping[str, Any], settings: Mapping[str, str]) -> StrongSwan:
        """Describe an IKE daemon with kernel ESP."""
        return StrongSwan(self.net.name(name), connections=connections, settings=settings)

    def install(self, state: Tables) -> None:
        """Change the balancer to these tables, keeping what it learnt."""
        with self.net.thread("lb") as executor:
            executor.submit(_install, state).result()

    def listing(self, name: str) -> str:
        """List one map of the balancer."""
        return self.net.inside("lb", "nft", "list", "map", "inet", "popctl", name)

    def dial(self, name: str) -> int:
        """Sign a client on; return its backend."""
        with self.clients[name].vici() as session:
            list(session.initiate({"ike": "l2tp", "child": "l2tp", "timeout": "10000"}))
        self.lacs[name].dial()
        eventually(lambda: self.peer(name), within_s=30)
        return int(self.peer(name).split(".")[2])

    def peer(self, name: str) -> str:
        """Return the address at the far end of a client's PPP link; empty without one."""
        text = self.net.ip(name, "-4 -o addr show")
        found = re.search(r"ppp\S*\s+inet \S+ peer ([0-9.]+)", text)
        return found[1] if found else ""

    def homes(self, name: str) -> set[int]:
        """Return the backends named by the labels of a client's IKE SAs."""
        spis = [spi for sa in self.clients[name].sas() for spi in (sa["responder-spi"], sa["initiator-spi"])]
        known = {f"{label(PLAN, Identity(POP, b)):08x}".encode(): b for b in (0, 1)}
        return {known[spi[:8]] for spi in spis if spi[:8] in known}

    @contextmanager
    def pinging(self) -> Iterator[dict[str, int]]:
        """Ping through all sessions meanwhile; afterwards: lost of `PINGS` by client, less what hosts did not send."""
        words = ["ping", "-q", "-i", "0.05", "-c", str(PINGS), "-W", "3"]
        running = {
            c: subprocess.Popen(
                ["ip", "netns", "exec", self.net.name(c), *words, self.peer(c)], stdout=subprocess.PIPE, text=True
            )
            for c in self.clients
        }
        lost: dict[str, int] = {}
        before = self.gaps()
        yield lost
        for c, process in running.items():
            found = re.search(r"(\d+) received", process.communicate(timeout=60)[0])
            lost[c] = PINGS - int(found[1] if found else 0)
        lost["by the hosts' own gaps"] = before - self.gaps()

    def rekey(self, where: StrongSwan, what: Mapping[str, str]) -> None:
        """Let one side start a quick mode or a re-authentication, and wait for new SPIs."""

        def spis() -> set[bytes]:
            return {
                s for sa in where.sas() for s in (sa["initiator-spi"], *(c["spi-in"] for c in sa["child-sas"].values()))
            }

        before = spis()
        with where.vici() as session:
            session.rekey(dict(what))
        eventually(lambda: spis() - before, within_s=20)

    def counters(self) -> dict[str, int]:
        """Return the balancer's packets by counter."""
        text = self.net.inside("lb", "nft", "-j", "list", "counters", "table", "inet", "popctl")
        counters = [entry["counter"] for entry in json.loads(text)["nftables"][1:]]
        return {c["name"]: c["packets"] for c in counters}

    def drops(self) -> dict[str, int]:
        """Return what the balancer dropped, by counter."""
        return {name: n for name, n in self.counters().items() if name.startswith("drop.") and n}

    def sign_on(self) -> None:
        """Bring all clients up on one backend, so that anything at the other one is astray."""
        self.install(draining(TWO, 1 - HOME))
        assert {self.dial(c) for c in self.clients} == {HOME}
        self.install(TWO)

    def gaps(self) -> int:
        """Return how many packets the hosts themselves could not send: strongSwan had no SA installed for a moment.

        When a quick mode replaces an SA, there are moments without one; the kernel then drops and counts.
        """
        counters = ("XfrmAcquireError", "XfrmOutNoStates")
        texts = [self.net.inside(name, "cat", "/proc/net/xfrm_stat") for name in ("b0", "b1", "c1", "c3")]
        lines = [line.split() for text in texts for line in text.splitlines()]
        return sum(int(value) for name, value in lines if name in counters)

    def astray(self) -> int:
        """Return what reached the backend that holds no client's SAs, by its own account and the balancer's.

        The home itself may refuse a packet that was under way when an SA was deleted; that is nobody's mis-steer.
        """
        other = self.backends[1 - HOME]
        with other.vici() as session:
            total = sum(int(c.get("invalid-spi", 0)) for c in session.get_counters()["counters"].values())
        text = self.net.inside(f"b{1 - HOME}", "cat", "/proc/net/xfrm_stat")
        found = re.search(r"XfrmInNoStates\s+(\d+)", text)
        assert found
        sent = sum(n for name, n in self.counters().items() if name.startswith(f"to.{1 - HOME}."))
        return total + int(found[1]) + sent


def _install(state: Tables) -> None:
    nft = Nft()
    with closing(Routes()) as routes:
        routes.apply(state.marks, wanted(state), routes.read(state.marks))
    text = "".join(transaction(t, nft.listing(t.family, t.name)) for t in compile_tables(state).whole)
    if text:
        nft.apply(text)
    nft.close()


@pytest.fixture
def guest() -> Iterator[Guest]:
    """Provide two clients signed on."""
    net = Net()
    with ExitStack() as stack:
        stack.callback(net.close)
        made = Guest(net, stack)
        made.install(TWO)
        yield made


def test_no_ping_is_lost_through_rekey_and_reauthentication(guest: Guest) -> None:
    """Quick modes of both sides, re-authentication of both sides, and of the client while its backend drains."""
    guest.sign_on()
    assert "esp" in guest.net.inside("c1", "ip", "xfrm", "state")
    assert "espinudp" in guest.net.inside("c3", "ip", "xfrm", "state")

    def quick_mode_of_clients() -> None:
        for c in guest.clients.values():
            guest.rekey(c, {"child": "l2tp"})

    def quick_mode_of_servers() -> None:
        guest.rekey(guest.backends[HOME], {"child": "l2tp"})

    def reauthentication_of_clients() -> None:
        for c in guest.clients.values():
            guest.rekey(c, {"ike": "l2tp"})
        quick_mode_of_clients()

    for event in (quick_mode_of_clients, quick_mode_of_servers, reauthentication_of_clients):
        with guest.pinging() as lost:
            event()
        assert sum(lost.values()) <= 0, (event.__name__, lost)
        assert [guest.homes(c) for c in guest.clients] == [{HOME}] * 2, event.__name__
    assert (guest.astray(), guest.drops()) == (0, {})


def test_no_ping_is_lost_when_clients_reauthenticate_while_their_backend_drains(guest: Guest) -> None:
    guest.sign_on()
    guest.install(draining(TWO, HOME))
    with guest.pinging() as lost:
        for c in guest.clients.values():
            guest.rekey(c, {"ike": "l2tp"})
        for c in guest.clients.values():
            guest.rekey(c, {"child": "l2tp"})
    assert sum(lost.values()) <= 0, lost
    assert [guest.homes(c) for c in guest.clients] == [{HOME}] * 2
    assert guest.astray() == 0
    # What was learnt is there after the balancer was changed (the drain) ...
    before = guest.listing("vpn.v4.by-address"), guest.listing("vpn.v4.by-port")
    assert "0xc0000202" in before[0]
    assert "elements" in before[1]
    # ... and when it is lost altogether, one labelled packet of each client brings it back.
    for name in ("by-address", "by-port"):
        guest.net.inside("lb", "nft", "flush", "map", "inet", "popctl", f"vpn.v4.{name}")
    for c in guest.clients:
        guest.net.inside(c, "ping", "-q", "-c", "1", "-W", "3", guest.peer(c))
    assert "0xc0000202" in guest.listing("vpn.v4.by-address")
    assert "elements" in guest.listing("vpn.v4.by-port")


def test_no_ping_is_lost_when_servers_reauthenticate(guest: Guest) -> None:
    """The role swap with kernel ESP; alone, for strongSwan 5.9 drops children when re-authentications pile up."""
    guest.sign_on()
    with guest.pinging() as lost:
        guest.rekey(guest.backends[HOME], {"ike": "l2tp"})
    assert sum(lost.values()) <= 0, lost
    assert [guest.homes(c) for c in guest.clients] == [{HOME}] * 2
    assert guest.astray() == 0


def test_without_affinity_reauthentication_loses_the_client_and_no_counter_shows_it(guest: Guest) -> None:
    """The negative control: the new main mode goes elsewhere, the next quick mode makes ESP where no L2TP is."""
    guest.install(FORGETFUL)
    home = guest.dial("c1")
    guest.install(draining(FORGETFUL, home))
    guest.rekey(guest.clients["c1"], {"ike": "l2tp"})
    eventually(lambda: 1 - home in guest.homes("c1"))
    guest.rekey(guest.clients["c1"], {"child": "l2tp"})
    words = ("ping", "-q", "-i", "0.05", "-c", "40", "-W", "1", guest.peer("c1"))
    eventually(lambda: " 0 received" in guest.net.inside("c1", *words, check=False), within_s=40)
    assert guest.drops() == {}
