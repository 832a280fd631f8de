"""The meter's service and the agent's end of it, over real sockets: pushes, loss, certificates, slow readers."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest
from aiohttp import ClientSession, UnixConnector

from popctl.listen.errors import ListenError
from popctl.listen.serve import serving
from popctl.meter.app import build
from popctl.meter.hub import MAX_BEHIND, Hub
from popctl.model.listen import Endpoint, TlsEndpoint, UnixEndpoint
from popctl.model.load import LoadSample, Resource
from popctl.model.meter import Daemon, DaemonDied, DaemonStarted, DaemonState, MeterLost, Overloaded, Symptom
from popctl.model.reason import Reason
from popctl.senses.meter_client import MeterAddress, MeterClient, TlsMeter, UnixMeter
from popctl.senses.meter_events import MeterEvent
from popctl.wire import meter_api
from tests.certificates import Authority
from tests.eventually import eventually_async
from tests.unit.senses.test_meter import EMPTY

SNAPSHOT = replace(EMPTY, used={Resource.SESSIONS: 5.0}, unknown={"cpu_cores": Reason.STALE})
RUNNING = Daemon(name="charon", state=DaemonState.RUNNING, pid=7, life="1-7")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
DIED = replace(RUNNING, state=DaemonState.DIED, pid=None)


@asynccontextmanager
async def service(endpoint: Endpoint, *, interval_s: float = 60.0) -> AsyncIterator[tuple[Hub, int]]:
    hub = Hub(clock=asyncio.get_running_loop().time, interval_s=interval_s)
    async with serving(build(hub), endpoint) as bound:
        try:
            yield hub, bound.port or 0
        finally:
            hub.close()


@asynccontextmanager
async def client(address: MeterAddress, told: list[MeterEvent]) -> AsyncIterator[None]:
    listening = MeterClient(
        3, address, told.append, clock=asyncio.get_running_loop().time, rng=Random(1), retry_most_s=0.05
    )
    task = asyncio.create_task(listening.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def kinds(told: list[MeterEvent]) -> list[type[MeterEvent]]:
    return [type(event) for event in told]


async def test_what_is_known_comes_first_and_what_happens_comes_at_once(tmp_path: Path) -> None:
    told: list[MeterEvent] = []
    path = tmp_path / "meter.sock"
    async with service(UnixEndpoint(path=path)) as (hub, _):
        hub.changed(RUNNING)
        hub.measured(SNAPSHOT)
        async with client(UnixMeter(path=path), told):
            await eventually_async(lambda: kinds(told) == [LoadSample])
            hub.changed(DIED)
            await eventually_async(lambda: kinds(told) == [LoadSample, DaemonDied])
            hub.measured(replace(SNAPSHOT, symptoms=(Symptom.NO_IDLE_WORKER,)))
            await eventually_async(lambda: kinds(told)[2:] == [LoadSample, Overloaded])
    sample = told[0]
    assert isinstance(sample, LoadSample)
    assert (sample.backend, sample.used, sample.unknown) == (3, SNAPSHOT.used, {Resource.CPU: Reason.STALE})


async def test_a_meter_that_goes_away_is_told_once_and_found_again_with_what_happened_meanwhile(tmp_path: Path) -> None:
    told: list[MeterEvent] = []
    path = tmp_path / "meter.sock"
    async with client(UnixMeter(path=path), told):
        await eventually_async(lambda: kinds(told) == [MeterLost])
        async with service(UnixEndpoint(path=path)) as (hub, _):
            hub.changed(RUNNING)
            await eventually_async(lambda: hub.listeners == 1)
        await eventually_async(lambda: kinds(told) == [MeterLost, MeterLost])
        async with service(UnixEndpoint(path=path)) as (hub, _):
            hub.changed(replace(RUNNING, pid=9, life="5-9"))
            await eventually_async(lambda: kinds(told)[2:] == [DaemonDied, DaemonStarted])


async def test_a_meter_that_falls_silent_is_lost(tmp_path: Path) -> None:
    told: list[MeterEvent] = []
    path = tmp_path / "meter.sock"
    async with (
        service(UnixEndpoint(path=path), interval_s=0.0) as (hub, _),
        client(UnixMeter(path=path), told),
    ):
        await eventually_async(lambda: hub.listeners == 1)
        await eventually_async(lambda: bool(told), within_s=10)
    assert isinstance(told[0], MeterLost)
    assert told[0].reason is Reason.TIMED_OUT


async def test_something_else_behind_the_socket_is_garbage_and_no_crash(tmp_path: Path) -> None:
    told: list[MeterEvent] = []
    path = tmp_path / "meter.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nnot json\n\n")
        writer.close()

    async with await asyncio.start_unix_server(answer, path), client(UnixMeter(path=path), told):
        await eventually_async(lambda: bool(told))
    assert isinstance(told[0], MeterLost)
    assert told[0].reason is Reason.GARBAGE


async def test_the_snapshot_can_be_asked_for_and_nothing_can_be_ordered(tmp_path: Path) -> None:
    path = tmp_path / "meter.sock"
    async with (
        service(UnixEndpoint(path=path)) as (hub, _),
        ClientSession(connector=UnixConnector(path=str(path))) as session,
    ):
        async with session.get("http://meter/v1/meter") as early:
            assert early.status == 503
        hub.measured(SNAPSHOT)
        async with session.get("http://meter/v1/meter") as answer:
            assert answer.status == 200
            assert meter_api.decode_measured(await answer.read()).snapshot == SNAPSHOT
        for method in ("post", "put", "delete"):
            async with session.request(method, "http://meter/v1/meter") as refused:
                assert refused.status == 405
    assert not path.exists()


async def test_only_owner_and_group_may_open_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "meter.sock"
    async with service(UnixEndpoint(path=path)):
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(ListenError, match="somebody listens there already"):
            async with service(UnixEndpoint(path=path)):
                pass


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "meter.sock"
    path.write_text("precious")
    with pytest.raises(ListenError, match="no socket"):
        async with service(UnixEndpoint(path=path)):
            pass
    assert path.read_text() == "precious"


async def test_a_listener_that_falls_too_far_behind_is_cut_off() -> None:
    hub = Hub(clock=asyncio.get_running_loop().time, interval_s=1.0)
    listener = hub.join()
    for _ in range(MAX_BEHIND + 5):
        hub.measured(SNAPSHOT)
    lines = [await listener.next() for _ in range(MAX_BEHIND)]
    assert None not in lines
    assert await listener.next() is None


# Mutual TLS.


@pytest.fixture
def certificates(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Return a maker of certificate and key, signed by the authority in ca.pem; `other` is signed by another one."""
    ours, theirs = Authority(tmp_path), Authority(tmp_path / "elsewhere", "other-ca")

    def make(name: str) -> tuple[Path, Path]:
        issued = (theirs if name == "other" else ours).issue(name)
        return issued.certificate, issued.key

    return make


@pytest.mark.parametrize(("who", "heard"), [("agent", True), ("other", False)])
async def test_over_tcp_only_a_certificate_of_the_authority_is_heard(
    tmp_path: Path, certificates: Callable[[str], tuple[Path, Path]], who: str, *, heard: bool
) -> None:
    certificate, key = certificates("server")
    endpoint = TlsEndpoint(
        address=ip_address("127.0.0.1"), port=0, certificate=certificate, key=key, authority=tmp_path / "ca.pem"
    )
    own, own_key = certificates(who)
    told: list[MeterEvent] = []
    async with service(endpoint) as (hub, port):
        hub.measured(SNAPSHOT)
        address = TlsMeter(host="127.0.0.1", port=port, certificate=own, key=own_key, authority=tmp_path / "ca.pem")
        async with client(address, told):
            await eventually_async(lambda: bool(told))
            assert isinstance(told[0], LoadSample if heard else MeterLost)


async def test_a_meter_of_another_authority_is_not_believed(
    tmp_path: Path, certificates: Callable[[str], tuple[Path, Path]]
) -> None:
    certificate, key = certificates("other")
    endpoint = TlsEndpoint(
        address=ip_address("127.0.0.1"), port=0, certificate=certificate, key=key, authority=tmp_path / "ca.pem"
    )
    own, own_key = certificates("agent")
    told: list[MeterEvent] = []
    async with service(endpoint) as (_, port):
        address = TlsMeter(host="127.0.0.1", port=port, certificate=own, key=own_key, authority=tmp_path / "ca.pem")
        async with client(address, told):
            await eventually_async(lambda: bool(told))
    assert isinstance(told[0], MeterLost)
    assert told[0].reason is Reason.AUTHENTICATION_FAILED


@contextmanager
def program(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the context ends."""
    with subprocess.Popen(argv, env=ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


async def test_the_whole_program_watches_a_daemon_and_pushes_its_death(tmp_path: Path) -> None:
    path = tmp_path / "meter.sock"
    sleep = shutil.which("sleep") or "/usr/bin/sleep"
    told: list[MeterEvent] = []
    with program(sleep, "300") as daemon:
        (tmp_path / "pid").write_text(str(daemon.pid))
        options = ["--socket", str(path), "--daemon", f"charon={sleep},{tmp_path / 'pid'}", "--interval", "0.2"]
        with program(sys.executable, "-m", "popctl.meter", *options) as meter:
            async with client(UnixMeter(path=path), told):
                await eventually_async(lambda: LoadSample in kinds(told), within_s=20)
                daemon.kill()
                await eventually_async(lambda: DaemonDied in kinds(told))
        assert meter.returncode == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--listen", "127.0.0.1:1"], "mutual TLS only"),
        (["--listen", "nonsense"], "not ADDRESS:PORT"),
        (["--vici", "tcp://127.0.0.1:0"], "neither a path nor tcp://ADDRESS:PORT"),
        (["--daemon", "charon"], "not NAME=EXECUTABLE"),
        (["--interval", "0"], "not a positive number"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong(arguments: list[str], problem: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "popctl.meter", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=ENVIRONMENT,
    )
    assert (found.returncode, problem in found.stderr) == (2, True), found.stderr
