"""Every IKE conversation against real strongSwan: healthy, broken in each known way, and leaving nothing behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from popctl.model.observation import Outcome
from popctl.model.pop import Secret
from popctl.model.probe import IkeDeep, IkeLiveness
from popctl.model.reason import Reason
from popctl.wire.exchanges import exchange_for
from popctl.wire.ike import v2
from tests.eventually import eventually
from tests.peers.drive import Ended, drive
from tests.peers.netns import TwoHosts, two_hosts, udp_socket
from tests.peers.record import deep, leave_half_open, live
from tests.peers.strongswan import PSK, StrongSwan, connection
from tests.unit.wire.conversations import CLIENT, SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peer

RUNS = 50
LIVENESS = [live(version, port) for version in (1, 2) for port in (500, 4500)]
DEEP = [deep(version, port) for version in (1, 2) for port in (500, 4500)]


def name(method: IkeLiveness | IkeDeep) -> str:
    return f"{'live' if isinstance(method, IkeLiveness) else 'deep'}-v{method.version}-{method.port}"


every = pytest.mark.parametrize("method", [*LIVENESS, *DEEP], ids=name)


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with two_hosts("ike") as both:
        yield both


def probe(hosts: TwoHosts, method: IkeLiveness | IkeDeep, *, within_s: float = 3.0) -> Ended:
    with udp_socket(hosts.client, method.port) as sock:
        exchange = exchange_for(method, local=CLIENT, remote=SERVER, entropy=os.urandom)
        return drive(exchange, sock, within_s=within_s)


def verdict(ended: Ended) -> tuple[Outcome, Reason]:
    assert ended.verdict is not None, ended
    return ended.verdict.outcome, ended.verdict.reason


def assert_nothing_left(gateway: StrongSwan) -> None:
    """An SA may live a moment longer than its probe: a Delete of IKEv1 has no answer, a refusal goes out first."""
    eventually(lambda: gateway.sas() == [] and gateway.half_open() == 0, within_s=5)


PASSED = (Outcome.PASS, Reason.ANSWERED)
WRONG = (Outcome.FAIL, Reason.WRONG_ANSWER)
NOT_AUTHENTICATED = (Outcome.FAIL, Reason.AUTHENTICATION_FAILED)


@pytest.fixture(scope="module")
def gateway_hosts() -> Iterator[TwoHosts]:
    with two_hosts("ikegw") as both:
        yield both


@pytest.fixture(scope="module")
def gateway(gateway_hosts: TwoHosts) -> Iterator[StrongSwan]:
    """One gateway, as an operator would set it up, on hosts of its own."""
    with StrongSwan(gateway_hosts.server) as gateway:
        yield gateway


@every
def test_fifty_runs_pass_and_leave_nothing(
    gateway_hosts: TwoHosts, gateway: StrongSwan, method: IkeLiveness | IkeDeep
) -> None:
    for _ in range(RUNS):
        ended = probe(gateway_hosts, method)
        assert verdict(ended) == PASSED
        assert ended.garbage == 0
    assert_nothing_left(gateway)


@pytest.mark.parametrize("method", DEEP, ids=name)
def test_another_identity_than_the_wanted_one_fails_and_leaves_nothing(
    gateway_hosts: TwoHosts, gateway: StrongSwan, method: IkeDeep
) -> None:
    wanted = deep(method.version, method.port, remote="other.example.net")
    assert verdict(probe(gateway_hosts, wanted)) == NOT_AUTHENTICATED
    assert_nothing_left(gateway)


def test_any_identity_will_do_when_none_is_wanted(gateway_hosts: TwoHosts, gateway: StrongSwan) -> None:
    for version in (1, 2):
        assert verdict(probe(gateway_hosts, deep(version, remote=None))) == PASSED
    assert_nothing_left(gateway)


def test_an_address_will_do_as_the_identity_of_the_probe(gateway_hosts: TwoHosts, gateway: StrongSwan) -> None:
    for version in (1, 2):
        method = IkeDeep(version=version, port=500, identity="", remote_identity=None, psk=Secret(PSK))
        assert verdict(probe(gateway_hosts, method)) == PASSED
    assert_nothing_left(gateway)


def exchange_type(datagram: bytes) -> int:
    """RFC 7296 section 3.1."""
    return datagram[18]


IKE_AUTH, INFORMATIONAL = 35, 37


@pytest.mark.parametrize("unread", [IKE_AUTH, INFORMATIONAL])
def test_an_abandoned_ikev2_authentication_leaves_nothing(
    gateway_hosts: TwoHosts, gateway: StrongSwan, unread: int
) -> None:
    """Time runs out with IKE_AUTH or Delete sent and its answer unread."""
    with udp_socket(gateway_hosts.client, 500) as sock:
        sock.settimeout(5)
        exchange = exchange_for(deep(2), local=CLIENT, remote=SERVER, entropy=os.urandom)
        out: tuple[bytes, ...] = (exchange.start(),)
        # A gateway that was asked a lot just now wants a cookie first: one answer more.
        while exchange_type(out[0]) != unread:
            sock.send(out[0])
            out = exchange.receive(sock.recv(4096)).send
        sock.send(out[0])
        sock.recv(4096)
        assert unread == INFORMATIONAL or gateway.sas()
        for datagram in exchange.abandon():
            sock.send(datagram)
        assert_nothing_left(gateway)


COMMON = ("aes256-sha1-modp2048", "aes128-sha256-ecp256")
ALIVE_ONLY = ("3des-sha1-modp1024", "aes256-sha256-modp1024")
IKEV2_ONLY = ("aes256-sha384-modp2048", "aes256-sha512-ecp256")
IKEV2_ALIVE_ONLY = ("aes192-sha256-modp4096", "aes256gcm16-prfsha384-ecp384")


def alone(version: int, proposal: str) -> dict[str, dict[str, object]]:
    return {"one": connection(version, (proposal,))}


@pytest.mark.parametrize(
    ("version", "proposal"),
    [
        *((version, proposal) for version in (1, 2) for proposal in (*COMMON, *ALIVE_ONLY)),
        *((2, proposal) for proposal in (*IKEV2_ONLY, *IKEV2_ALIVE_ONLY)),
    ],
)
def test_the_broad_offer_meets_whatever_one_proposal_a_gateway_has(
    hosts: TwoHosts, version: int, proposal: str
) -> None:
    with StrongSwan(hosts.server, connections=alone(version, proposal)) as gateway:
        assert verdict(probe(hosts, live(version))) == PASSED
        assert_nothing_left(gateway)


@pytest.mark.parametrize(
    ("version", "proposal"),
    [*((version, proposal) for version in (1, 2) for proposal in COMMON), *((2, proposal) for proposal in IKEV2_ONLY)],
)
def test_authentication_works_with_every_algorithm_that_it_offers(hosts: TwoHosts, version: int, proposal: str) -> None:
    with StrongSwan(hosts.server, connections=alone(version, proposal)) as gateway:
        assert verdict(probe(hosts, deep(version))) == PASSED
        assert_nothing_left(gateway)


@every
def test_a_gateway_without_connections_fails(hosts: TwoHosts, method: IkeLiveness | IkeDeep) -> None:
    with StrongSwan(hosts.server, connections={}) as gateway:
        assert verdict(probe(hosts, method)) == WRONG
        assert_nothing_left(gateway)


def test_a_gateway_with_other_proposals_fails(hosts: TwoHosts) -> None:
    odd = {f"odd-{version}": connection(version, ("camellia256-sha512-modp8192",)) for version in (1, 2)}
    with StrongSwan(hosts.server, connections=odd) as gateway:
        for method in (live(1), live(2), deep(1), deep(2)):
            assert verdict(probe(hosts, method)) == WRONG
        assert_nothing_left(gateway)


def test_without_secrets_a_gateway_is_alive_and_fails_to_authenticate(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server, secrets=()) as gateway:
        for version in (1, 2):
            assert verdict(probe(hosts, live(version))) == PASSED
            assert verdict(probe(hosts, deep(version))) == NOT_AUTHENTICATED
        assert_nothing_left(gateway)


def test_with_another_secret_a_gateway_fails_to_authenticate(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server, secrets=("another",)) as gateway:
        assert verdict(probe(hosts, deep(2))) == NOT_AUTHENTICATED
        assert_nothing_left(gateway)
        assert verdict(probe(hosts, deep(1))) == NOT_AUTHENTICATED
        # IKEv1 has no way to take back what neither side can read: it goes after the half-open timeout.
        assert gateway.half_open() == 1


def test_failed_ikev1_authentications_pile_up_until_the_gateway_ignores_their_address(hosts: TwoHosts) -> None:
    """Why such a probe waits for as long as the gateway remembers: two of them hurt nobody, five blind every probe."""
    with StrongSwan(hosts.server, secrets=("another",)) as gateway:
        for failed in range(1, 6):
            assert verdict(probe(hosts, live(2))) == PASSED, f"after {failed - 1}"
            assert verdict(probe(hosts, deep(1))) == NOT_AUTHENTICATED
            assert gateway.half_open() == failed
        assert probe(hosts, live(2), within_s=0.5).verdict is None


def test_a_gateway_that_takes_any_group_has_kept_state(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server, connections={"weak": connection(2, ("aes128-sha1-modp768",))}) as gateway:
        assert verdict(probe(hosts, live(2))) == (Outcome.FAIL, Reason.LEAKED)
        assert gateway.half_open() == 1


def test_even_a_gateway_that_allows_aggressive_mode_with_a_psk_keeps_no_state(hosts: TwoHosts) -> None:
    settings = {"i_dont_care_about_security_and_use_aggressive_mode_psk": "yes"}
    with StrongSwan(hosts.server, settings=settings) as gateway:
        assert verdict(probe(hosts, live(1))) == WRONG
        assert_nothing_left(gateway)


@pytest.mark.parametrize("method", [live(2), live(2, 4500), deep(2), deep(2, 4500)], ids=name)
def test_a_gateway_that_wants_cookies_gets_them(hosts: TwoHosts, method: IkeLiveness | IkeDeep) -> None:
    with StrongSwan(hosts.server, settings={"cookie_threshold": "1"}) as gateway:
        leave_half_open(hosts, gateway)
        # A charon whose random epoch for cookies is less than 10 s old refuses its own: then once more.
        ended = eventually(lambda: _passed(probe(hosts, method, within_s=1.0)), within_s=15)
        assert len(ended.received) == (2 if isinstance(method, IkeLiveness) else 4)
        eventually(lambda: gateway.half_open() == 1)


def _passed(ended: Ended) -> Ended | None:
    return ended if ended.verdict is not None and ended.verdict.outcome is Outcome.PASS else None


def test_a_gateway_without_childless_authentication_is_alive_and_not_judged_by_it(hosts: TwoHosts) -> None:
    never = {"one": connection(2, ("aes256-sha256-modp2048",), childless="never")}
    with StrongSwan(hosts.server, connections=never):
        assert verdict(probe(hosts, live(2))) == PASSED
        assert verdict(probe(hosts, deep(2))) == (Outcome.UNKNOWN, Reason.PROBE_ERROR)


def test_a_gateway_without_a_free_worker_gives_no_verdict(hosts: TwoHosts) -> None:
    """Alive for a process monitor and for the socket; dead for every client."""
    with StrongSwan(hosts.server, threads=8, libipsec=True, load=False) as gateway:
        for method in (live(1), live(2), deep(1), deep(2)):
            ended = probe(hosts, method, within_s=0.3)
            assert (ended.verdict, ended.refused) == (None, False)
            # From the fourth on, the receiver asks for a cookie by itself; that is no sign of a worker.
            assert all(_asks_for_cookie(datagram) for datagram in ended.received)
        assert gateway.alive


def _asks_for_cookie(message: bytes) -> bool:
    _, payloads = v2.decode(message)
    return v2.cookie_of(v2.notifies(payloads)) is not None


def test_a_stopped_gateway_gives_no_verdict_and_passes_again_when_it_goes_on(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server) as gateway:
        gateway.stop()
        for method in (live(1), live(2)):
            ended = probe(hosts, method, within_s=0.3)
            assert (ended.verdict, ended.refused, ended.received) == (None, False, ())
        gateway.cont()
        for method in (live(1), live(2), deep(1), deep(2)):
            assert verdict(probe(hosts, method)) == PASSED
        assert_nothing_left(gateway)


@every
def test_a_host_without_a_gateway_refuses(hosts: TwoHosts, method: IkeLiveness | IkeDeep) -> None:
    ended = probe(hosts, method)
    assert (ended.verdict, ended.refused) == (None, True)


def test_a_killed_gateway_refuses_and_passes_again_after_a_restart(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server) as gateway:
        assert verdict(probe(hosts, live(2))) == PASSED
        gateway.kill()
        assert not gateway.alive
        assert probe(hosts, live(2)).refused
        gateway.start()
        assert verdict(probe(hosts, live(2))) == PASSED
