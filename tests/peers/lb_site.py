r"""A PoP in namespaces with real strongSwan: client behind NAT, router, two balancers, two backends that share a VIP.

    c --- n (NAT) --- r --- lb, lb2 --- LAN 10.77.0.0/24 --- b0, b1 (VIP on lo)
                       \__________________/  replies go straight back: direct return

ESP is in user space (kernel-libipsec) and so always inside UDP 4500. Client number i has 10.1.0.i and talks to
10.99.i.1, which every backend has.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from pyroute2 import NFCTSocket
from vici.exception import CommandException

from popctl.lb.nft import compile_tables
from popctl.lb.route import Routes, wanted
from popctl.model.balancer import SpiPlan, Tables
from popctl.wire.nft_text import transaction
from popctl.wire.spi import Identity
from popctl.wire.strongswan_conf import charon_section
from tests.balancers import PLAN, POP, VIP4, rows, tables
from tests.eventually import eventually
from tests.peers.lb_net import Net
from tests.peers.strongswan import GATEWAY_ID, StrongSwan

CLIENTS = 20
NAT_ADDRESSES = ("203.0.113.2", "203.0.113.3")
TWO = tables(2, rows=rows(2, size=4096))


def backend_connections(version: int) -> dict[str, dict[str, Any]]:
    """Return what a backend accepts."""
    child = {"local_ts": ["10.99.0.0/16"], "remote_ts": ["10.1.0.0/16"], "esp_proposals": ["aes128-sha256"]}
    return {
        "ra": {
            "version": str(version),
            "local_addrs": [str(VIP4)],
            "remote_addrs": ["%any"],
            "proposals": ["aes128-sha256-modp2048"],
            "encap": "yes",
            "unique": "never",
            "local-1": {"auth": "psk", "id": GATEWAY_ID},
            "remote-1": {"auth": "psk"},
            "children": {"net": {**child, "rekey_time": "1h"}},
        }
    }


def client_connections(version: int, count: int) -> dict[str, dict[str, Any]]:
    """Return one connection per client."""
    return {
        f"c{i}": {
            "version": str(version),
            "remote_addrs": [str(VIP4)],
            "proposals": ["aes128-sha256-modp2048"],
            "encap": "yes",
            "mobike": "yes",
            "unique": "never",
            "dpd_delay": "2s",
            "local-1": {"auth": "psk", "id": f"client{i}@example.net"},
            "remote-1": {"auth": "psk", "id": GATEWAY_ID},
            "children": {
                f"n{i}": {
                    "local_ts": [f"10.1.0.{i}/32"],
                    "remote_ts": [f"10.99.{i}.1/32"],
                    "esp_proposals": ["aes128-sha256"],
                }
            },
        }
        for i in range(1, count + 1)
    }


@dataclass
class Site:
    """The PoP and its client host."""

    net: Net
    backends: list[StrongSwan] = field(default_factory=list)
    client: StrongSwan | None = None

    def build(self) -> None:
        """Raise namespaces, links, addresses and routes."""
        net = self.net
        net.add("c", "n", "r", "lb", "lb2", "b0", "b1")
        net.link("c", "c0", "192.168.77.2/24", "n", "n0", "192.168.77.1/24")
        net.link("n", "n1", "203.0.113.2/24 203.0.113.3/24", "r", "r0", "203.0.113.1/24")
        for number, lb in enumerate(("lb", "lb2"), start=1):
            net.link("r", f"r{number}", f"10.78.{number}.1/24", lb, "l0", f"10.78.{number}.2/24")
            net.ip(lb, f"route add default via 10.78.{number}.1")
        net.ip("r", "link add br0 type bridge")
        net.ip("r", "addr add 10.77.0.254/24 dev br0")
        net.ip("r", "link set br0 up")
        lan = (("lb", "10.77.0.1"), ("lb2", "10.77.0.2"), ("b0", "10.77.0.10"), ("b1", "10.77.0.11"))
        for number, (name, address) in enumerate(lan):
            net.link("r", f"p{number}", "", name, "e0", f"{address}/24 2001:db8:77::{address.rsplit('.', 1)[1]}/64")
            net.ip("r", f"link set p{number} master br0")
        for name in ("b0", "b1"):
            net.ip(name, "route add default via 10.77.0.254")
            net.ip(name, f"addr add {VIP4}/32 dev lo")
            for i in range(1, CLIENTS + 1):
                net.ip(name, f"addr add 10.99.{i}.1/32 dev lo")
        for i in range(1, CLIENTS + 1):
            net.ip("c", f"addr add 10.1.0.{i}/32 dev lo")
        net.ip("c", "route add default via 192.168.77.1")
        net.ip("n", "route add default via 203.0.113.1")
        self.route_through("lb")
        self.nat_to(NAT_ADDRESSES[0])

    def route_through(self, lb: str) -> None:
        """Let the router send the VIP to one of the balancers."""
        gateway = "10.78.1.2" if lb == "lb" else "10.78.2.2"
        self.net.ip("r", f"route replace {VIP4}/32 via {gateway}")

    def nat_to(self, address: str) -> None:
        """Let the NAT use this address, and a random port."""
        rules = "add chain ip nat post { type nat hook postrouting priority 100; }\nflush chain ip nat post\n"
        rules += f'add rule ip nat post oifname "n1" snat to {address} random\n'
        self.net.inside("n", "nft", "-f", "-", stdin=f"add table ip nat\n{rules}")

    def rebind(self, address: str) -> None:
        """Let the NAT forget all mappings and choose new ones."""
        self.nat_to(address)
        with self.net.thread("n") as executor:
            executor.submit(_forget).result()

    def install(self, *balancers: str, state: Tables = TWO) -> None:
        """Put tables in force on balancers, whatever was there before."""
        for lb in balancers:
            before = self.net.inside(lb, "nft", "list", "tables")
            flush = "".join(f"delete {line}\n" for line in before.splitlines() if "popctl" in line)
            text = "".join(transaction(t, None) for t in compile_tables(state).whole)
            self.net.inside(lb, "nft", "-f", "-", stdin=flush + text)
            with self.net.thread(lb) as executor:
                executor.submit(_apply_routes, state).result()

    def start(self, version: int, clients: int = 1, plan: SpiPlan = PLAN) -> ExitStack:
        """Start the daemons, backends labelled by `plan`; the result ends them."""
        stack = ExitStack()
        try:
            for number in range(2):
                backend = StrongSwan(
                    self.net.name(f"b{number}"),
                    connections=backend_connections(version),
                    settings={"dos_protection": "no"},
                    more=charon_section(plan, Identity(POP, number)),
                    libipsec=True,
                )
                self.backends.append(stack.enter_context(backend))
            client = StrongSwan(
                self.net.name("c"),
                connections=client_connections(version, clients),
                settings={"spi_min": "0xf0000000", "spi_max": "0xf0ffffff", "retransmit_base": "1.2"},
                libipsec=True,
            )
            self.client = stack.enter_context(client)
        except BaseException:
            stack.close()
            raise
        return stack

    def relabel(self, number: int, old: SpiPlan, new: SpiPlan) -> None:
        """Restart a backend that labels by another plan from now on; its SAs are gone."""
        backend, identity = self.backends[number], Identity(POP, number)
        backend.kill()
        file = backend.directory / "strongswan.conf"
        text = file.read_text()
        assert charon_section(old, identity) in text
        file.write_text(text.replace(charon_section(old, identity), charon_section(new, identity)))
        backend.start()

    # What a client does.

    def connect(self, i: int = 1) -> int:
        """Bring client `i` up on both sides and return its backend.

        The client of a quick mode has done its part when it has sent the third message, and the gateway, which drops
        what comes earlier, when it has read it.
        """
        assert self.client
        with self.client.vici() as session:
            list(session.initiate({"ike": f"c{i}", "child": f"n{i}", "timeout": "8000"}))
        home = self.home(i)
        eventually(lambda: any(_client(sa) == i and _installed(sa) for sa in self.backends[home].sas()))
        return home

    def disconnect(self, i: int = 1) -> None:
        """Take client `i` down."""
        assert self.client
        with suppress(CommandException), self.client.vici() as session:  # a dead peer cannot agree to a Delete
            list(session.terminate({"ike": f"c{i}", "force": "yes", "timeout": "3000"}))

    def two_answers(self) -> None:
        """Wait until the gateway has answered the client's dead peer detection twice more, and the client noted one."""
        first = self._answers()
        # The second question goes out after the first answer was taken in.
        eventually(lambda: self._answers() >= first + 2)

    def _answers(self) -> int:
        assert self.client
        with self.client.vici() as session:
            return int(session.get_counters()["counters"][""]["info-in-resp"])

    def client_port(self) -> tuple[str, str]:
        """Return address and port at which the backend of client 1 has it."""
        with self.backends[self.home(1)].vici() as session:
            (sa,) = [one for entry in session.list_sas() for one in entry.values()]
        return sa["remote-host"].decode(), sa["remote-port"].decode()

    def home(self, i: int = 1) -> int:
        """Return the backend that holds the newest SAs of client `i`."""
        holders = [
            number
            for number, backend in enumerate(self.backends)
            if backend.alive and any(_client(sa) == i and sa["state"] == b"ESTABLISHED" for sa in backend.sas())
        ]
        assert len(holders) == 1, f"client {i} is on {holders}"
        return holders[0]

    def rekey(self, where: StrongSwan, what: Literal["ike", "child"]) -> None:
        """Let one side rekey its newest IKE SA or child, and wait until it is done.

        By number: an SA that was replaced lives on for a while under the same name.
        """
        before = _spis(where)
        with where.vici() as session:
            session.rekey({f"{what}-id": _newest(where.sas(), what)})
        eventually(lambda: (now := _spis(where)) and now != before, within_s=15)

    def ping(self, i: int = 1, count: int = 3) -> int:
        """Return how many of `count` pings came back."""
        text = self.net.inside("c", *_ping(i, count), check=False)
        return int(re.search(r"(\d+) received", text)[1])  # type: ignore[index]  # ping always says so

    @contextmanager
    def pinging(self, i: int = 1) -> Iterator[list[int]]:
        """Ping all the time; afterwards the list holds how many were sent and how many lost."""
        words = ["ip", "netns", "exec", self.net.name("c"), *_ping(i, 100000)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        result: list[int] = []
        try:
            yield result
        finally:
            process.send_signal(2)
            text = process.communicate(timeout=10)[0]
            sent, received = re.search(r"(\d+) packets transmitted, (\d+) received", text).groups()  # type: ignore[union-attr]  # ping says so
            # The last one may still have been on its way.
            result += [int(sent), max(0, int(sent) - int(received) - 1)]

    # What the truth metrics say.

    def counters(self, *balancers: str) -> dict[str, int]:
        """Return packets by counter, summed over balancers."""
        found: dict[str, int] = {}
        for lb in balancers or ("lb", "lb2"):
            for entry in json.loads(self.net.inside(lb, "nft", "-j", "list", "counters"))["nftables"][1:]:
                counter = entry["counter"]
                found[counter["name"]] = found.get(counter["name"], 0) + counter["packets"]
        return found

    def mis_steered(self) -> int:
        """Return how many packets reached a backend that did not hold their SA, by the backends' own account."""
        total = 0
        for backend in self.backends:
            if not backend.alive:
                continue
            with backend.vici() as session:
                total += sum(int(c.get("invalid-spi", 0)) for c in session.get_counters()["counters"].values())
            total += backend.log().count("does not belong to an installed SA")
        return total


def _forget() -> None:
    """Drop every mapping, as a NAT does that is started anew."""
    with NFCTSocket() as conntrack:
        conntrack.flush()


def _apply_routes(state: Tables) -> None:
    with closing(Routes()) as routes:
        routing = wanted(state)
        routes.apply(state.marks, routing, routes.read(state.marks, routing))


def _ping(i: int, count: int) -> list[str]:
    return ["ping", "-q", "-i", "0.05", "-W", "2", "-c", str(count), "-I", f"10.1.0.{i}", f"10.99.{i}.1"]


def _client(sa: Mapping[str, Any]) -> int:
    match = re.match(rb"client(\d+)@", sa.get("remote-id", b""))
    return int(match[1]) if match else 0


def _installed(sa: Mapping[str, Any]) -> bool:
    return any(child["state"] == b"INSTALLED" for child in sa["child-sas"].values())


def _newest(sas: Iterable[Mapping[str, Any]], what: Literal["ike", "child"]) -> str:
    found = [sa for sa in sas if sa["state"] == b"ESTABLISHED"]
    if what == "child":
        found = [child for sa in found for child in sa["child-sas"].values() if child["state"] == b"INSTALLED"]
    return str(max(int(one["uniqueid"]) for one in found))


def _spis(where: StrongSwan) -> set[bytes]:
    return {
        spi
        for sa in where.sas()
        if sa["state"] == b"ESTABLISHED"
        for spi in (sa["initiator-spi"], *(c["spi-in"] for c in sa["child-sas"].values() if c["state"] == b"INSTALLED"))
    }
