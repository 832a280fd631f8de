"""The senses against real daemons and real routes: what is reported, and that nothing is left in the daemons."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from contextlib import asynccontextmanager
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING

import pytest

from popctl.model.observation import Observation, Outcome
from popctl.model.pop import Backend, Secret
from popctl.model.probe import Cadence, Icmp, IkeDeep, IkeLiveness, L2tp, ProbeKey, ProbeSpec, Thresholds
from popctl.model.reason import Reason
from popctl.senses.prober import Target
from popctl.senses.runner import Senses
from popctl.wire.exchanges import exchange_for
from tests.eventually import eventually, eventually_async
from tests.peers.netns import CLIENT_ADDRESS, SERVER_ADDRESS, inside, ip, two_hosts
from tests.peers.strongswan import PSK, StrongSwan
from tests.peers.xl2tpd import Xl2tpd
from tests.pops import pop
from tests.unit.senses.peers import prober

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.peers.netns import TwoHosts

pytestmark = pytest.mark.peer

CADENCE = Cadence(interval_s=0.2, jitter=0.1, timeout_s=0.6, retry_s=0.1)
THRESHOLDS = Thresholds(rise=2, fall=3, fall_refused=1, stale_after_s=5.0)
PROBES = {
    "ikev2": IkeLiveness(version=2, port=500),
    "ikev2-nat-t": IkeLiveness(version=2, port=4500),
    "ikev1": IkeLiveness(version=1, port=500),
    "deep": IkeDeep(version=2, port=500, identity="probe@popctl", remote_identity=None, psk=Secret(PSK)),
    "l2tp": L2tp(port=1701, secret=None),
    "icmp": Icmp(),
}


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    with two_hosts("senses") as made:
        yield made


def gateway(*names: str) -> Backend:
    probes = tuple(
        ProbeSpec(name=name, method=PROBES[name], cadence=CADENCE, thresholds=THRESHOLDS) for name in names or PROBES
    )
    return Backend(id=1, name="gateway", address=ip_address(SERVER_ADDRESS), weight=1, probes=probes)


class Latest:
    """The latest observation of each probe, and how many there were."""

    def __init__(self) -> None:
        self.by_probe: dict[str, Observation] = {}
        self.count = 0

    def take(self, observation: Observation) -> None:
        self.by_probe[observation.key.probe] = observation
        self.count += 1

    def reasons(self) -> dict[str, Reason]:
        return {name: each.reason for name, each in self.by_probe.items()}


@asynccontextmanager
async def probing(backend: Backend) -> AsyncIterator[Latest]:
    latest = Latest()
    senses = Senses(
        pop(backends=(backend,)),
        latest.take,
        exchange_for=exchange_for,
        clock=time.monotonic,
        entropy=os.urandom,
        rng=Random(1),
        sources={4: ip_address(CLIENT_ADDRESS)},
    )
    running = asyncio.create_task(senses.run())
    try:
        yield latest
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def all_say(latest: Latest, reason: Reason, names: set[str], check: Callable[[], object] | None = None) -> None:
    def said() -> bool:
        found = latest.reasons()
        assert {name: found.get(name) for name in names} == dict.fromkeys(names, reason), latest.by_probe
        return check is None or bool(check())

    await eventually_async(said, within_s=20.0)


def test_a_whole_gateway_lives_freezes_dies_and_comes_back(hosts: TwoHosts) -> None:
    """IKE on both ports and versions, a whole authentication, L2TP and echo, at five rounds per second."""
    ike = {"ikev2", "ikev2-nat-t", "ikev1", "deep"}

    async def story(charon: StrongSwan, lns: Xl2tpd) -> None:
        async with probing(gateway()) as latest:
            await all_say(latest, Reason.ANSWERED, set(PROBES), check=lambda: latest.count > 60)
            charon.stop()
            await all_say(latest, Reason.TIMED_OUT, ike)
            assert latest.reasons()["l2tp"] is Reason.ANSWERED
            charon.cont()
            await all_say(latest, Reason.ANSWERED, ike)
            charon.kill()
            await all_say(latest, Reason.REFUSED, ike - {"deep"})
            charon.start()
            await all_say(latest, Reason.ANSWERED, ike)
            lns.kill()
            await all_say(latest, Reason.REFUSED, {"l2tp"})
            lns.start()
            await all_say(latest, Reason.ANSWERED, set(PROBES))

    with StrongSwan(hosts.server) as charon, Xl2tpd(hosts.server) as lns:
        with inside(hosts.client):
            asyncio.run(story(charon, lns))
        eventually(lambda: charon.half_open() == 0 and not charon.sas())
        eventually(lambda: lns.open_tunnels() == 0, within_s=20.0)


def test_a_gateway_without_connections_is_wrong_not_dead(hosts: TwoHosts) -> None:
    async def story() -> None:
        async with probing(gateway("ikev2", "ikev1")) as latest:
            await all_say(latest, Reason.WRONG_ANSWER, {"ikev2", "ikev1"})

    with StrongSwan(hosts.server, connections={}), inside(hosts.client):
        asyncio.run(story())


@pytest.mark.parametrize(
    ("route", "outcome", "reason"),
    [
        ("unreachable", Outcome.FAIL, Reason.UNREACHABLE),
        ("prohibit", Outcome.UNKNOWN, Reason.NO_PERMISSION),
    ],
)
def test_what_the_routing_table_forbids_is_said(hosts: TwoHosts, route: str, outcome: Outcome, reason: Reason) -> None:
    ip("-n", hosts.client, "route", "add", route, f"{SERVER_ADDRESS}/32")

    async def ask() -> list[Outcome | Reason]:
        async with prober() as made:
            whom = Target(
                key=ProbeKey(1, "l2tp"), method=L2tp(port=1701, secret=None), address=ip_address(SERVER_ADDRESS)
            )
            result = await made.run(whom, deadline=time.monotonic() + 5)
        return [result.outcome, result.reason]

    with inside(hosts.client):
        assert asyncio.run(ask()) == [outcome, reason]


def test_a_route_that_comes_back_is_used_again(hosts: TwoHosts) -> None:
    """The channel that the kernel refused is replaced: no restart of the agent is needed."""

    async def story() -> None:
        async with probing(gateway("l2tp", "icmp")) as latest:
            await all_say(latest, Reason.ANSWERED, {"l2tp", "icmp"})
            ip("-n", hosts.client, "route", "add", "unreachable", f"{SERVER_ADDRESS}/32")
            await all_say(latest, Reason.UNREACHABLE, {"l2tp", "icmp"})
            ip("-n", hosts.client, "route", "del", "unreachable", f"{SERVER_ADDRESS}/32")
            await all_say(latest, Reason.ANSWERED, {"l2tp", "icmp"})

    with Xl2tpd(hosts.server), inside(hosts.client):
        asyncio.run(story())


@pytest.mark.parametrize("groups", ["0 2147483647", "1 0"], ids=["ping socket", "raw socket"])
def test_echo_works_with_and_without_ping_sockets(hosts: TwoHosts, groups: str) -> None:
    subprocess.run(
        ["ip", "netns", "exec", hosts.client, "sysctl", "-qw", f"net.ipv4.ping_group_range={groups}"],
        check=True,
        timeout=20,
    )

    async def ask(*addresses: str) -> list[Reason]:
        async with prober() as made:
            targets = [
                Target(key=ProbeKey(1, address), method=Icmp(), address=ip_address(address)) for address in addresses
            ]
            results = [await made.run(each, deadline=time.monotonic() + 5) for each in targets]
            assert {channel.ip_header for channel in made.engine.channels() if channel.remote.version == 4} == {
                groups == "1 0"
            }
        return [result.reason for result in results]

    with inside(hosts.client):
        assert asyncio.run(ask(SERVER_ADDRESS, "::1")) == [Reason.ANSWERED] * 2
