"""The meter against real daemons: charon's counters, SAs and death, xl2tpd's control."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from popctl.listen.serve import serving
from popctl.meter.app import build
from popctl.meter.hub import Hub
from popctl.model.listen import UnixEndpoint
from popctl.model.meter import DaemonDied, DaemonWatch, Ike, L2tpCount, Unread
from popctl.model.pop import ViciEndpoint
from popctl.model.reason import Reason
from popctl.senses.meter_client import MeterClient, UnixMeter
from popctl.senses.meter_events import MeterEvent
from popctl.senses.meter_l2tp import L2tpMeter
from popctl.senses.meter_vici import ViciMeter
from popctl.senses.watch_daemons import DaemonWatcher
from popctl.wire.exchanges import exchange_for
from tests.eventually import eventually_async
from tests.peers.drive import drive
from tests.peers.netns import SERVER_ADDRESS, TwoHosts, ip, two_hosts, udp_socket
from tests.peers.record import deep, leave_half_open, live
from tests.peers.strongswan import PSK, StrongSwan, connection
from tests.peers.xl2tpd import Xl2tpd
from tests.unit.wire.conversations import CLIENT, SERVER

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    with two_hosts("meter") as both:
        yield both


def _probe(hosts: TwoHosts) -> None:
    method = deep(2)
    with udp_socket(hosts.client, method.port) as sock:
        ended = drive(exchange_for(method, local=CLIENT, remote=SERVER, entropy=os.urandom), sock)
    assert ended.verdict is not None


def _bogus(hosts: TwoHosts) -> None:
    """Ask for an SA that charon does not have."""
    with udp_socket(hosts.client, 500) as sock:
        header = b"\x01" * 8 + b"\x02" * 8 + bytes([46, 0x20, 37, 0x08, 0, 0, 0, 1, 0, 0, 0, 28])
        sock.send(header)


@contextmanager
def metered(gateway: StrongSwan, *, timeout_s: float = 5.0, bulk_bit_s: float = 5e6) -> Iterator[ViciMeter]:
    clock, endpoint = asyncio.get_running_loop().time, ViciEndpoint(path=gateway.vici_path)
    with closing(ViciMeter(endpoint, clock=clock, timeout_s=timeout_s, bulk_bit_s=bulk_bit_s)) as meter:
        yield meter


async def _read(meter: ViciMeter) -> Ike:
    found = await meter.read()
    assert isinstance(found, Ike), found
    return found


async def _count(meter: ViciMeter, sas: int) -> Ike:
    """Wait until the gateway has that many SAs and none half-open: it answers before it has done its books."""

    async def counted() -> Ike | None:
        found = await _read(meter)
        return found if (found.sas, found.half_open) == (sas, 0) else None

    found = await eventually_async(counted)
    assert found
    return found


async def test_charon_tells_its_handshakes_and_what_was_not_for_it(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server) as gateway, metered(gateway) as meter:
        assert isinstance(await meter.read(), Unread)
        await asyncio.to_thread(_probe, hosts)
        found = await _read(meter)
        assert found.handshakes_s > 0.0
        assert found.workers_idle > 0
        assert found.children is None
        await _count(meter, 0)
        await asyncio.to_thread(_bogus, hosts)
        await eventually_async(lambda: _invalid(meter))


async def _invalid(meter: ViciMeter) -> Ike:
    found = await _read(meter)
    assert found.invalid_spi_s > 0.0
    return found


def _initiator() -> dict[str, dict[str, Any]]:
    """Return the other side of the gateway's IKEv2 connection."""
    server = connection(2, ("aes256-sha256-modp2048",))
    return {
        "up": {
            **{key: server[key] for key in ("version", "proposals", "encap", "rekey_time")},
            "remote_addrs": [SERVER_ADDRESS],
            "local-1": {"auth": "psk", "id": "user@example.net"},
            "remote-1": {"auth": "psk"},
            "children": {"net": {"remote_ts": ["10.2.0.0/16"], "esp_proposals": ["aes256-sha256"]}},
        }
    }


def _initiate(client: StrongSwan) -> None:
    with client.vici() as session:
        list(session.initiate({"ike": "up", "timeout": "5000"}))


async def test_an_established_sa_is_counted_and_walked(hosts: TwoHosts) -> None:
    with (
        StrongSwan(hosts.server) as gateway,
        StrongSwan(hosts.client, connections=_initiator(), secrets=(PSK,)) as client,
        metered(gateway) as meter,
    ):
        await meter.read()
        await asyncio.to_thread(_initiate, client)
        await _count(meter, 1)
        assert await meter.walk() >= 30.0
        assert meter.walk_problem is None
        assert meter.children == 0
        await meter.walk()
        assert meter.classes is not None
        assert (meter.classes.interactive.sessions, meter.classes.bulk.sessions) == (1, 0)


BEHIND_GATEWAY, BEHIND_CLIENT = "10.2.0.1", "10.3.0.1"


@contextmanager
def connected(hosts: TwoHosts) -> Iterator[tuple[StrongSwan, StrongSwan]]:
    """Return gateway and client with a child SA between them, through user space: not every kernel has ESP."""
    for name, address in ((hosts.server, BEHIND_GATEWAY), (hosts.client, BEHIND_CLIENT)):
        ip("-n", name, "addr", "replace", f"{address}/32", "dev", "lo")
    accepted = connection(2, ("aes256-sha256-modp2048",))
    accepted["children"]["net"]["remote_ts"] = ["10.3.0.0/16"]
    wanted = _initiator()
    wanted["up"]["children"]["net"]["local_ts"] = [f"{BEHIND_CLIENT}/32"]
    with (
        StrongSwan(hosts.server, connections={"ra": accepted}, libipsec=True) as gateway,
        StrongSwan(hosts.client, connections=wanted, secrets=(PSK,), libipsec=True) as client,
    ):
        with client.vici() as session:
            list(session.initiate({"ike": "up", "child": "net", "timeout": "8000"}))
        yield gateway, client


def _ping(hosts: TwoHosts) -> None:
    words = ["ping", "-q", "-c", "50", "-i", "0.002", "-s", "1000", "-I", BEHIND_CLIENT, BEHIND_GATEWAY]
    subprocess.run(["ip", "netns", "exec", hosts.client, *words], check=True, capture_output=True, timeout=20)


async def test_child_sas_are_counted_and_who_moves_much_is_bulk(hosts: TwoHosts) -> None:
    with connected(hosts) as (gateway, _), metered(gateway, bulk_bit_s=1e4) as meter:
        await meter.read()
        await meter.walk()
        assert meter.children == 1
        await asyncio.to_thread(_ping, hosts)
        await meter.walk()
        assert meter.classes is not None
        assert (meter.classes.interactive.sessions, meter.classes.bulk.sessions) == (0, 1)
        assert meter.classes.bulk.bit_s > 1e4
        await meter.walk()
        assert meter.classes is not None
        assert (meter.classes.interactive.sessions, meter.classes.bulk.sessions) == (1, 0)
        assert (await _read(meter)).children == 1


async def test_rekeys_are_counted(hosts: TwoHosts) -> None:
    with connected(hosts) as (gateway, client), metered(gateway) as meter:
        await meter.read()
        assert (await _read(meter)).rekeys_min == 0.0
        for what in ("ike", "child"):
            with client.vici() as session:
                session.rekey({what: "up" if what == "ike" else "net"})
            await eventually_async(lambda: _rekeyed(meter))


async def _rekeyed(meter: ViciMeter) -> Ike:
    found = await _read(meter)
    assert found.rekeys_min > 0.0
    return found


async def test_a_half_open_sa_is_told_and_is_no_user(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server) as gateway, metered(gateway) as meter:
        await meter.read()
        await asyncio.to_thread(leave_half_open, hosts, gateway)
        found = await _read(meter)
        assert (found.sas, found.half_open) == (0, 1)


async def test_a_charon_that_was_restarted_is_metered_again(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server) as gateway, metered(gateway) as meter:
        await meter.read()
        await asyncio.to_thread(gateway.kill)
        lost = await meter.read()
        assert isinstance(lost, Unread)
        assert lost.reason is Reason.REFUSED
        await asyncio.to_thread(gateway.start)
        again = await meter.read()
        assert isinstance(again, Unread)
        assert again.reason is Reason.NOT_YET_KNOWN
        await _read(meter)


async def test_a_frozen_charon_is_given_up_in_time(hosts: TwoHosts) -> None:
    clock = asyncio.get_running_loop().time
    with StrongSwan(hosts.server) as gateway, metered(gateway, timeout_s=0.2) as meter:
        await meter.read()
        await asyncio.to_thread(gateway.stop)
        begin = clock()
        lost = await meter.read()
        assert isinstance(lost, Unread)
        assert lost.reason is Reason.TIMED_OUT
        assert clock() - begin < 2.0
        gateway.cont()


async def test_a_killed_charon_is_known_by_the_agent_before_any_probe_could_tell(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    """The whole way of a push: kernel, pidfd, meter, held connection, the agent's callback."""
    clock = time.monotonic
    told: list[tuple[float, MeterEvent]] = []
    path = tmp_path / "meter.sock"
    with StrongSwan(hosts.server) as gateway:
        (tmp_path / "pid").write_text(str(gateway.pid))
        hub = Hub(clock=clock, interval_s=60.0)
        watch = DaemonWatch(name="charon", pid_file=tmp_path / "pid", executable=Path(gateway.program))
        watcher = DaemonWatcher([watch], hub.changed)
        agent = MeterClient(
            1, UnixMeter(path=path), lambda event: told.append((clock(), event)), clock=clock, rng=Random(1)
        )
        async with serving(build(hub), UnixEndpoint(path=path)):
            watcher.start()
            task = asyncio.create_task(agent.run())
            await eventually_async(lambda: hub.listeners == 1)
            killed_at = clock()
            await asyncio.to_thread(gateway.kill)
            await eventually_async(lambda: bool(told), every_s=0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            watcher.close()
            hub.close()
    assert isinstance(told[0][1], DaemonDied)
    assert told[0][0] - killed_at < 1.0


async def test_xl2tpd_tells_its_tunnels(hosts: TwoHosts) -> None:
    clock = asyncio.get_running_loop().time
    with Xl2tpd(hosts.server) as lns:
        meter = L2tpMeter(clock=clock, control=lns.directory / "l2tp-control", proc=lns.directory, timeout_s=5.0)
        assert await meter.read() == L2tpCount(tunnels=0, sessions=0)
        assert await meter.read() == L2tpCount(tunnels=0, sessions=0)
        wrong = L2tpMeter(
            clock=clock, control=lns.directory / "l2tp-control", lns="nosuch", proc=lns.directory, timeout_s=5.0
        )
        assert isinstance(await wrong.read(), Unread)
        assert lns.alive


def _order(daemon: Xl2tpd, request: str) -> None:
    """Write to xl2tpd's control, as `xl2tpd-control` does."""
    (daemon.directory / "l2tp-control").write_bytes(request.encode())


async def test_an_open_l2tp_tunnel_is_counted(hosts: TwoHosts) -> None:
    clock = asyncio.get_running_loop().time
    with Xl2tpd(hosts.server) as lns, Xl2tpd(hosts.client) as lac:
        meter = L2tpMeter(clock=clock, control=lns.directory / "l2tp-control", proc=lns.directory, timeout_s=5.0)
        _order(lac, f"t {SERVER_ADDRESS}")

        async def counted() -> bool:
            return await meter.read() == L2tpCount(tunnels=1, sessions=0)

        await eventually_async(counted)
        assert lns.alive


async def test_liveness_probes_leave_nothing_that_a_meter_would_count_as_users(hosts: TwoHosts) -> None:
    with StrongSwan(hosts.server) as gateway, metered(gateway) as meter:
        await meter.read()
        for _ in range(5):
            method = live(2)
            with udp_socket(hosts.client, method.port) as sock:
                drive(exchange_for(method, local=CLIENT, remote=SERVER, entropy=os.urandom), sock)
        await _count(meter, 0)
