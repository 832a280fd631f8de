"""The shipped topology with real daemons: BGP carries the anycast prefix, and the VIP answers from a PoP."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator

import pytest

from lab import daemons, edge, links
from lab.driver import Driver
from lab.routers import established, routes
from tests.eventually import eventually

pytestmark = pytest.mark.lab

VIP, VIP_6 = "198.51.100.1", "2001:db8:100::1"
PREFIX, PREFIX_6 = "198.51.100.0/24", "2001:db8:100::/48"
CROWD = [f"203.0.113.{last}" for last in range(128, 160)]
POP1_B1, POP1_B2 = "1cd70041", "1cd70042"
POP1, POP2 = {POP1_B1, POP1_B2}, {"1cd70081", "1cd70082"}


def landing(lab: Driver, *words: str, vip: str = VIP) -> str | None:
    """Return who answered one question of the client, as a label or host name."""
    done = lab.exec("client", ["python3", "/opt/popctl/lab/landing.py", vip, "--timeout-s", "0.5", *words])
    answer: str | None = json.loads(done.stdout)["landed"]
    return answer


def best(lab: Driver, router: str, prefix: str = PREFIX) -> str | None:
    """Return the session whose route a router uses."""
    return next((route.session for route in routes(lab, router, prefix) if route.best), None)


@pytest.fixture
def calm(anycast: Driver) -> Iterator[Driver]:
    """The lab with every session up and the client served by PoP 1; and the same again after the test."""

    def settled() -> bool:
        return (
            all(all(established(anycast, router).values()) for router in anycast.plan.group("router"))
            and {route.session for route in routes(anycast, "transit", PREFIX)} == {"r1", "r2"}
            and best(anycast, "transit", PREFIX_6) == "r1"
            and best(anycast, "eyeball", PREFIX_6) == "transit"
            and landing(anycast) in POP1
        )

    eventually(settled, within_s=30, every_s=0.1)
    yield anycast
    eventually(settled, within_s=30, every_s=0.1)


def test_every_session_is_up_and_both_pops_are_known_to_transit(calm: Driver) -> None:
    paths = {route.session: route.as_path for route in routes(calm, "transit", PREFIX)}
    assert paths == {"r1": (64497, 64496), "r2": (64498, 64496)}
    assert best(calm, "eyeball", PREFIX_6) == "transit"


def test_clients_of_one_pop_are_spread_over_its_backends_and_no_others(calm: Driver) -> None:
    labels = {landing(calm, "--source", source) for source in CROWD}
    assert labels == POP1


def test_the_vip_answers_over_ipv6(calm: Driver) -> None:
    assert landing(calm, vip=VIP_6) in POP1


def test_l2tp_is_answered_by_a_backend_of_the_same_pop(calm: Driver) -> None:
    assert landing(calm, "--protocol", "l2tp") in {"pop1-b1", "pop1-b2"}


def test_an_ikev2_client_gets_a_labelled_spi_and_a_tunnel_that_carries_packets(calm: Driver) -> None:
    done = calm.exec("client", ["swanctl", "--initiate", "--child", "net", "--timeout", "10"])
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        listing = calm.exec("client", ["swanctl", "--list-sas"]).stdout
        responder = re.search(r"ESTABLISHED, IKEv2, [0-9a-f]{16}_i\* ([0-9a-f]{16})_r", listing)
        assert responder is not None
        assert responder[1][:8] in POP1
        assert calm.exec("client", ["ping", "-c", "2", "-W", "2", "10.99.0.1"]).returncode == 0
    finally:
        calm.exec("client", ["swanctl", "--terminate", "--ike", "vpn", "--timeout", "5"])


def test_a_pop_whose_exabgp_stops_loses_its_clients_to_the_other(calm: Driver) -> None:
    edge.stop(calm, "pop1")
    eventually(lambda: landing(calm) in POP2)
    for daemon in (edge.EXABGP, edge.AGENT):
        eventually(lambda daemon=daemon: not daemons.runs(calm, "pop1", daemon))  # type: ignore[misc]
    edge.start(calm, "pop1")


def test_a_hung_exabgp_loses_its_clients_when_the_hold_time_ends(calm: Driver) -> None:
    daemons.send(calm, "pop1", "exabgp", signal.SIGSTOP)
    try:
        eventually(lambda: landing(calm) in POP2, within_s=15)
    finally:
        daemons.send(calm, "pop1", "exabgp", signal.SIGCONT)


def test_a_killed_charon_loses_its_clients_to_the_other_backend_and_its_node_lives_on(calm: Driver) -> None:
    daemons.send(calm, "pop1-b1", "charon", signal.SIGKILL)
    try:
        eventually(lambda: {landing(calm) for _ in range(8)} == {POP1_B2})
        statuses = {status.node: status.healthy for status in calm.inspect()}
        assert statuses["pop1-b1"] is False
        assert statuses["pop1-b2"] is True
    finally:
        daemons.start(calm, "pop1-b1", "charon", ["charon-systemd"])
    eventually(lambda: {landing(calm) for _ in range(8)} == POP1, within_s=20)


def test_a_pulled_cable_moves_the_client_and_plugging_it_in_brings_it_back(calm: Driver) -> None:
    links.set_link(calm, "pop1", "eth1", up=False)
    # Carrier is seen at once: no waiting for the hold time.
    eventually(lambda: landing(calm) in POP2, within_s=4)
    links.set_link(calm, "pop1", "eth1", up=True)
    eventually(lambda: landing(calm) in POP1, within_s=20)


def test_a_silent_cut_moves_the_client_when_the_hold_time_ends(calm: Driver) -> None:
    links.set_loss(calm, "r1", "eth1", loss=1.0)
    try:
        eventually(lambda: landing(calm) in POP2, within_s=15)
    finally:
        links.set_loss(calm, "r1", "eth1", loss=0.0)


def test_a_stopped_backend_node_starts_again_with_its_daemons(calm: Driver) -> None:
    calm.stop("pop1-b2")
    try:
        eventually(lambda: {landing(calm) for _ in range(8)} == {POP1_B1})
    finally:
        calm.start("pop1-b2")
    eventually(lambda: {landing(calm) for _ in range(8)} == POP1, within_s=20)
