"""Real strongSwan behind the balancer: whatever clients, backends, NATs and balancers do, no packet goes astray."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from vici.exception import CommandException

from popctl.cli.backend_config import backend_config
from popctl.cli.exits import Exit
from popctl.lb import sas
from popctl.model.balancer import SpiPlan
from popctl.model.pop import ViciEndpoint
from popctl.senses.doctor import read_lifetimes
from popctl.wire import packet
from popctl.wire.errors import WireError
from popctl.wire.spi import Identity, identify, labels
from tests.balancers import NARROW_PLAN, PLAN, POP, VIP4, WIDE_PLAN, draining, server_spi, without
from tests.eventually import eventually
from tests.peers.lb_agent import ROOT, balancer_process
from tests.peers.lb_net import Net, needs_nft
from tests.peers.lb_site import CLIENTS, NAT_ADDRESSES, TWO, Site
from tests.peers.strongswan import PROGRAM, StrongSwan

pytestmark = [
    pytest.mark.peer,
    needs_nft,
    pytest.mark.skipif(not Path(PROGRAM).exists(), reason="needs the charon-systemd package"),
]
VERSIONS = pytest.mark.parametrize("version", [1, 2], ids=["ikev1", "ikev2"])


@pytest.fixture
def site() -> Iterator[Site]:
    """Provide a PoP whose two balancers have the same inventory."""
    net = Net()
    try:
        made = Site(net)
        made.build()
        made.install("lb", "lb2")
        yield made
    finally:
        net.close()


def send_udp(payload: bytes, host: str, port: int) -> None:
    """Send one datagram; the kernel cuts it into fragments."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(payload, (host, port))


def plans_of(site: Site, number: int) -> set[SpiPlan]:
    """Return the plans that a backend's SAs follow."""
    own = [
        sa["initiator-spi" if sa.get("initiator") == b"yes" else "responder-spi"] for sa in site.backends[number].sas()
    ]
    identity = Identity(POP, number)
    both = (NARROW_PLAN, WIDE_PLAN)
    return {plan for spi in own for plan in both if identify(plan, bytes.fromhex(spi.decode())) == identity}


def other_than(home: int) -> int:
    """Return the other backend of the two."""
    return 1 - home


@VERSIONS
def test_a_set_up_begins_on_port_500_goes_on_on_4500_and_stays_on_its_backend(site: Site, version: int) -> None:
    ear = site.net.packet_socket("lb", "l0", listens=True)
    ear.setblocking(False)  # noqa: FBT003 - the socket module's own
    with site.start(version):
        home = site.connect()
        assert site.ping() == 3
        ports: list[int] = []

        def all_went_home() -> bool:
            ports.extend(_ports_to_the_vip(ear))
            return sum(n for name, n in site.counters("lb").items() if name.startswith(f"to.{home}.")) == len(ports)

        # Dead peer detection goes on while we count.
        eventually(all_went_home)
        assert ports == sorted(ports), "500 came after 4500"
        assert set(ports) == {500, 4500}
        assert [r for r in ("new-sa", "ike-label", "esp-slice") if not site.counters("lb")[f"to.{home}.{r}"]] == []
        assert site.mis_steered() == 0


def _ports_to_the_vip(ear: socket.socket) -> Iterator[int]:
    """Yield the destination ports of all UDP to the VIP that was heard, in the order of arrival."""
    while True:
        try:
            frame = ear.recv(4096)
        except BlockingIOError:
            return
        with suppress(WireError):
            found = packet.parse(frame[14:])
            if found.destination == VIP4 and found.protocol == packet.UDP:
                yield int.from_bytes(found.transport[2:4], "big")


@VERSIONS
def test_rekeys_of_both_sides_stay_on_their_backend(site: Site, version: int) -> None:
    """The role-swap trap is in here: after a rekey by the server its label is in the initiator SPI."""
    with site.start(version):
        home = site.connect()
        assert site.client
        server, client = site.backends[home], site.client
        assert site.ping() == 3
        rekeys: tuple[tuple[StrongSwan, Literal["ike", "child"]], ...]
        rekeys = ((client, "child"), (server, "child"), (client, "ike"), (server, "ike"))
        for where, what in rekeys:
            site.rekey(where, what)
            assert site.home() == home
            assert eventually(lambda: site.ping() == 3)
        assert site.mis_steered() == 0
        counted = site.counters()
        assert sum(n for name, n in counted.items() if name.startswith(f"to.{other_than(home)}.")) == 0
        assert counted["drop.vpn.stray"] == 0


@VERSIONS
def test_a_responder_only_rule_falls_into_the_role_swap_trap(site: Site, version: int) -> None:
    """The negative control of the test above: without the rules on the initiator SPI the client's IKE goes astray."""
    for lb in ("lb", "lb2"):
        for chain in ("ike500", "ike4500"):
            listing = site.net.inside(lb, "nft", "-a", "list", "chain", "inet", "popctl", f"vpn.v4.{chain}")
            for line in listing.splitlines():
                if 'comment "initiator-label' in line:
                    handle = line.rsplit("handle ", 1)[1]
                    where = ("inet", "popctl", f"vpn.v4.{chain}", "handle", handle)
                    site.net.inside(lb, "nft", "delete", "rule", *where)
    with site.start(version):
        home = site.connect()
        with site.backends[home].vici() as session:
            session.rekey({"ike": "ra"})
        # IKEv1 does not even come up; of IKEv2 it is the client's dead peer detection, every two seconds, that is lost.
        eventually(lambda: site.counters()["drop.vpn.stray"] > 0 or site.mis_steered() > 0, within_s=15)


@VERSIONS
def test_a_rebound_nat_port_and_a_new_address_stay_on_their_backend(site: Site, version: int) -> None:
    """IKEv1 has no MOBIKE: there the gateway follows the client's next authenticated message."""
    with site.start(version):
        home = site.connect()
        for address in (NAT_ADDRESSES[0], NAT_ADDRESSES[1]):
            if version == 2:  # MOBIKE tells a change of the mapping from an earlier answer only
                site.two_answers()
            before = site.client_port()
            site.rebind(address)
            eventually(lambda: site.ping() == 3, within_s=25)
            assert site.client_port() != before, "the NAT gave the client the same way again"
            assert site.home() == home
        assert site.mis_steered() == 0
        counted = site.counters()
        assert sum(n for name, n in counted.items() if name.startswith(f"to.{other_than(home)}.")) == 0


def test_a_new_address_on_a_backend_moves_nobody_there(site: Site) -> None:
    """Without `roam_events = no` the gateway takes the path for lost, and asks the client from its own address."""
    with site.start(2):
        home = site.connect()
        gateway = site.backends[home]
        site.net.ip(f"b{home}", "addr add 10.77.0.99/24 dev e0")
        eventually(lambda: "10.77.0.99 appeared on e0" in gateway.log())
        site.two_answers()
        site.rekey(gateway, "child")
        assert site.ping() == 3
        assert "MOBIKE" not in gateway.log().partition("10.77.0.99 appeared")[2]
        assert "checking path" not in gateway.log()


@VERSIONS
def test_twenty_clients_behind_one_address_are_spread_and_all_work(site: Site, version: int) -> None:
    with site.start(version, CLIENTS):
        homes = Counter(site.connect(i) for i in range(1, CLIENTS + 1))
        assert all(homes[b] >= 3 for b in (0, 1)), homes
        assert [i for i in range(1, CLIENTS + 1) if site.ping(i) != 3] == []
        assert site.mis_steered() == 0
        assert site.net.inside("lb", "cat", "/proc/sys/net/netfilter/nf_conntrack_count").strip() == "0"


def test_a_fragmented_ike_message_reaches_its_backend_whole(site: Site) -> None:
    """3 kB for an SA that backend 1 does not know: strongSwan counts it, which only a whole message makes it do."""
    with site.start(2):
        with site.net.thread("c") as executor:
            header = bytearray(packet.ike(b"\x11" * 8, server_spi(1)) + bytes(2972))
            header[24:28] = len(header).to_bytes(4, "big")
            executor.submit(send_udp, bytes(header), str(VIP4), 500).result()
        eventually(lambda: site.mis_steered() == 1)
        assert asyncio.run(sas.refused(ViciEndpoint(path=site.backends[1].vici_path))) == 1
        with site.backends[1].vici() as session:
            assert int(session.get_counters()["counters"][""]["invalid-spi"]) == 1
        assert site.counters("lb")["to.1.ike-label"] == 1


@VERSIONS
def test_a_drain_keeps_every_sa_and_takes_no_new_one(site: Site, version: int) -> None:
    # The server's quick mode is in use before its third message is read: see docs/balancer.md.
    may_be_lost = 1 if version == 1 else 0
    with site.start(version, 8):
        home = site.connect(1)
        with site.pinging(1) as pings:
            site.install("lb", "lb2", state=draining(TWO, home))
            assert [site.connect(i) for i in range(2, 8)] == [other_than(home)] * 6
            site.rekey(site.backends[home], "child")
            assert site.ping(1, 40) >= 40 - may_be_lost
        assert site.home(1) == home
        assert pings[0] > 40
        assert pings[1] <= may_be_lost
        assert site.mis_steered() == 0


@VERSIONS
def test_a_new_plan_is_rolled_out_backend_by_backend_and_no_sa_goes_astray(site: Site, version: int) -> None:
    """The steps of docs/balancer.md, with a client on the old plan to the end."""
    alone, both = (
        replace(TWO, services=(replace(TWO.services[0], labels=labels(plan, POP, (0, 1), before)),))
        for plan, before in ((NARROW_PLAN, ()), (WIDE_PLAN, (NARROW_PLAN,)))
    )
    site.install("lb", "lb2", state=alone)
    with site.start(version, 6, NARROW_PLAN):
        home = site.connect(1)
        other = other_than(home)
        with site.pinging(1) as pings:
            site.install("lb", "lb2", state=draining(both, other))
            site.relabel(other, NARROW_PLAN, WIDE_PLAN)
            site.install("lb", "lb2", state=draining(both, home))
            assert [site.connect(i) for i in range(2, 6)] == [other] * 4
            for number in (home, other):
                site.rekey(site.backends[number], "child")
            assert site.ping(1, 40) >= 39
        assert eventually(lambda: [i for i in range(1, 6) if site.ping(i) != 3] == [])
        assert (site.home(1), site.home(2)) == (home, other)
        assert [plans_of(site, number) for number in (home, other)] == [{NARROW_PLAN}, {WIDE_PLAN}]
        assert pings[0] > 40
        assert pings[1] <= 1
        assert site.mis_steered() == 0
        assert site.counters()["drop.vpn.stray"] == 0


def test_a_service_that_refuses_new_sas_keeps_every_old_one(site: Site) -> None:
    with site.start(2, 2):
        home = site.connect(1)
        with site.pinging(1) as pings:
            site.install("lb", "lb2", state=draining(TWO, *TWO.alive))
            with pytest.raises(CommandException):
                site.connect(2)
            site.rekey(site.backends[home], "child")
            assert site.ping(1, 40) == 40
            site.install("lb", "lb2", state=TWO)
            site.connect(2)
        assert site.home(1) == home
        assert pings[1] == 0
        assert site.mis_steered() == 0


@VERSIONS
def test_two_balancers_with_one_inventory_give_the_same_answers(site: Site, version: int) -> None:
    with site.start(version, 4):
        homes = {i: site.connect(i) for i in range(1, 5)}
        with site.pinging(1) as pings:
            for lb in ("lb2", "lb", "lb2"):
                site.route_through(lb)
                assert [i for i in homes if site.ping(i) != 3] == []
        assert pings[1] == 0
        assert {i: site.home(i) for i in homes} == homes
        assert site.mis_steered() == 0


@VERSIONS
def test_a_killed_balancer_process_and_its_successor_lose_nothing(site: Site, version: int) -> None:
    site.net.inside("lb", "nft", "flush", "ruleset")
    lb = site.net.name("lb")
    with balancer_process(lb, 2) as first, site.start(version):
        assert first.report().startswith("True")
        site.connect()
        assert eventually(lambda: site.ping() == 3)
        with site.pinging() as pings:
            first.kill()
            assert site.ping() == 3
            with balancer_process(lb, 2) as second:
                assert second.report() == "True 0 0"
                assert site.ping() == 3
        assert pings[0] >= 3
        assert pings[1] == 0
        assert site.mis_steered() == 0


@VERSIONS
def test_rules_flushed_by_hand_are_put_back_and_nothing_goes_astray(site: Site, version: int) -> None:
    """What is sent between the flush and the repair is lost; it goes to nobody."""
    with balancer_process(site.net.name("lb"), 2) as balancer, site.start(version):
        assert balancer.report().startswith("True")
        site.connect()
        assert site.ping() == 3
        site.net.inside("lb", "nft", "flush", "ruleset")
        assert re.fullmatch(r"True \d+ 1", balancer.report())
        assert eventually(lambda: site.ping() == 3)
        assert site.mis_steered() == 0


@VERSIONS
def test_a_killed_backend_moves_only_its_own_clients(site: Site, version: int) -> None:
    with site.start(version, 6):
        homes = {i: site.connect(i) for i in range(1, 7)}
        dead = homes[1]
        kept = [i for i in homes if homes[i] != dead]
        site.backends[dead].kill()
        site.install("lb", "lb2", state=without(TWO, dead))
        assert [i for i in kept if site.ping(i) != 3] == []
        site.disconnect(1)
        assert site.connect(1) == other_than(dead)
        assert {i: site.home(i) for i in kept} == {i: homes[i] for i in kept}
        assert site.mis_steered() == 0


def test_a_running_backend_is_checked_against_the_inventory_and_the_lint(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = ROOT / "tests" / "data" / "balancer" / "inventory.yaml"
    with site.start(2):
        home = site.connect()
        running = site.backends[home].vici_path
        assert backend_config(f"b{home}", inventory=inventory, check=running) == Exit.OK
        assert capsys.readouterr().out == "pass: 1 IKE and 1 ESP SPIs seen\n"
        assert backend_config(f"b{other_than(home)}", inventory=inventory, check=running) == Exit.PROBLEMS
        assert "charon.spi_label: IKE SPI" in capsys.readouterr().out
        idle = site.backends[other_than(home)].vici_path
        assert backend_config(f"b{other_than(home)}", inventory=inventory, check=idle) == Exit.UNPROVEN
        assert site.ping() == 3
        endpoint = ViciEndpoint(path=running)
        found = asyncio.run(sas.walk(endpoint, home, (PLAN,), POP))
        (client,) = found.clients
        assert (client.address, client.received, client.answered) == (NAT_ADDRESSES[0], True, True)
        assert found.label_problem == ""
        astray = asyncio.run(sas.walk(endpoint, other_than(home), (PLAN,), POP))
        assert astray.label_problem.startswith("charon.spi_label: ")
        ((seen, lonely), silent) = read_lifetimes({"b": endpoint, "idle": ViciEndpoint(path=idle)})
        assert (seen.ike_rekey_s, seen.esp_rekey_s, seen.dpd_s, silent) == (14400, 3600, 0, {})
        assert ("MODP_2048" in seen.algorithms, lonely.algorithms) == (True, ())
