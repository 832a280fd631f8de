"""The L2TP conversation against real xl2tpd, with and without tunnel authentication: no tunnel ever stays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from popctl.model.observation import Outcome
from popctl.model.pop import Secret
from popctl.model.probe import L2tp
from popctl.model.reason import Reason
from popctl.wire.exchanges import exchange_for
from tests.eventually import eventually
from tests.peers.drive import Ended, drive
from tests.peers.netns import TwoHosts, two_hosts, udp_socket
from tests.peers.xl2tpd import Xl2tpd
from tests.unit.wire.conversations import CLIENT, SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from popctl.wire.exchange import Exchange

pytestmark = pytest.mark.peer

RUNS = 50
SECRET = "tunnel secret"  # noqa: S105 - of a daemon that lives for one test
PASSED = (Outcome.PASS, Reason.ANSWERED)
NOT_AUTHENTICATED = (Outcome.FAIL, Reason.AUTHENTICATION_FAILED)


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with two_hosts("l2tp") as both:
        yield both


def exchange_with(secret: str | None = None) -> Exchange:
    method = L2tp(port=1701, secret=None if secret is None else Secret(secret))
    return exchange_for(method, local=CLIENT, remote=SERVER, entropy=os.urandom)


def probe(hosts: TwoHosts, secret: str | None = None, *, within_s: float = 3.0) -> Ended:
    with udp_socket(hosts.client, 1701) as sock:
        return drive(exchange_with(secret), sock, within_s=within_s)


def verdict(ended: Ended) -> tuple[Outcome, Reason]:
    assert ended.verdict is not None, ended
    return ended.verdict.outcome, ended.verdict.reason


def assert_all_closed(lns: Xl2tpd, tunnels: int) -> None:
    """As many tunnels as were asked for, and none of them left."""
    eventually(lambda: lns.log().count("closing down tunnel") == tunnels, within_s=5)
    assert lns.open_tunnels() == 0


def test_fifty_runs_pass_and_leave_no_tunnel(hosts: TwoHosts) -> None:
    with Xl2tpd(hosts.server) as lns:
        for _ in range(RUNS):
            assert verdict(probe(hosts)) == PASSED
        assert_all_closed(lns, RUNS)


@pytest.mark.parametrize("secret", [SECRET, None])
def test_fifty_runs_with_tunnel_authentication_pass_and_leave_no_tunnel(hosts: TwoHosts, secret: str | None) -> None:
    """With the secret both sides prove themselves; without it the LNS has answered, which is all that was asked."""
    with Xl2tpd(hosts.server, secret=SECRET) as lns:
        for _ in range(RUNS):
            assert verdict(probe(hosts, secret)) == PASSED
        assert_all_closed(lns, RUNS)
        assert lns.log().count("Connection established") == (RUNS if secret else 0)


@pytest.mark.parametrize("server_secret", [None, "another"])
def test_an_lns_that_does_not_know_the_secret_fails_and_keeps_no_tunnel(
    hosts: TwoHosts, server_secret: str | None
) -> None:
    with Xl2tpd(hosts.server, secret=server_secret) as lns:
        assert verdict(probe(hosts, SECRET)) == NOT_AUTHENTICATED
        assert_all_closed(lns, 1)


def test_a_repeated_request_opens_one_tunnel_only(hosts: TwoHosts) -> None:
    with Xl2tpd(hosts.server) as lns, udp_socket(hosts.client, 1701) as sock:
        exchange = exchange_with()
        sock.settimeout(5)
        for _ in range(3):
            sock.send(exchange.start())
        turn = exchange.receive(sock.recv(4096))
        assert turn.verdict is not None
        for datagram in turn.send:
            sock.send(datagram)
        eventually(lambda: lns.open_tunnels() == 0)


def test_abandoned_in_authentication_it_leaves_no_tunnel(hosts: TwoHosts) -> None:
    """Our SCCCN is lost and time runs out: StopCCN alone would be out of order."""
    with Xl2tpd(hosts.server, secret=SECRET) as lns, udp_socket(hosts.client, 1701) as sock:
        exchange = exchange_with(SECRET)
        sock.settimeout(5)
        sock.send(exchange.start())
        assert exchange.receive(sock.recv(4096)).verdict is None
        for datagram in exchange.abandon():
            sock.send(datagram)
        assert_all_closed(lns, 1)


def test_an_abandoned_request_does_no_harm(hosts: TwoHosts) -> None:
    """StopCCN to tunnel 0 is what RFC 2661 section 4.4.3 wants; xl2tpd refuses it and waits for its own timer."""
    with Xl2tpd(hosts.server) as lns, udp_socket(hosts.client, 1701) as sock:
        exchange = exchange_with()
        sock.send(exchange.start())
        eventually(lambda: "sending SCCRP" in lns.log())
        for datagram in exchange.abandon():
            sock.send(datagram)
        eventually(lambda: "out of order control packet" in lns.log())
        assert lns.open_tunnels() == 1
        assert verdict(probe(hosts)) == PASSED
        eventually(lambda: lns.open_tunnels() == 1)


def test_a_stopped_lns_gives_no_verdict_and_passes_again_when_it_goes_on(hosts: TwoHosts) -> None:
    with Xl2tpd(hosts.server) as lns:
        lns.stop()
        ended = probe(hosts, within_s=0.3)
        assert (ended.verdict, ended.refused, ended.received) == (None, False, ())
        lns.cont()
        assert verdict(probe(hosts)) == PASSED


def test_a_host_without_an_lns_refuses(hosts: TwoHosts) -> None:
    ended = probe(hosts)
    assert (ended.verdict, ended.refused) == (None, True)


def test_a_killed_lns_refuses_and_passes_again_after_a_restart(hosts: TwoHosts) -> None:
    with Xl2tpd(hosts.server) as lns:
        lns.kill()
        assert probe(hosts).refused
        lns.start()
        assert verdict(probe(hosts)) == PASSED
