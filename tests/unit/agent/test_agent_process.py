"""The agent as a process, its API behind TLS: it is asked and ordered from elsewhere, and reloads its certificates."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector

from popctl.cli.exits import Exit
from popctl.listen.serve import serving
from popctl.meter.app import build
from popctl.meter.hub import Hub
from popctl.model.listen import UnixEndpoint
from popctl.model.meter import Symptom
from popctl.model.past import Past, ServicePast
from popctl.wire.relay_api import PROTOCOL
from popctl.wire.services_file import decode, encode
from tests.certificates import CLIENT, SERVER, Authority, Issued
from tests.eventually import eventually_async
from tests.unit.cli.command_line import Ended, popctl
from tests.unit.config.samples import minimal
from tests.unit.senses.test_meter import EMPTY, IKE, LINK

LEASE_S = 10.0
"""Long enough for a start on a busy machine to take less than half of it."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class Site:
    """Configuration and certificates of one agent."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory / "pki")
        self.server = self.authority.issue("server", SERVER)
        self.alice = self.authority.issue("alice", CLIENT)
        self.port = free_port()
        self.directory = directory
        self.configuration = directory / "popctl.yaml"
        files = (
            f"certificate: {self.server.certificate}, key: {self.server.key}, client_ca: {self.authority.ca},"
            ' operate: ["cn:alice"]'
        )
        paths = ", ".join(
            f"{key}: {directory / name}"
            for key, name in (
                ("relay_socket", "relay.sock"),
                ("api_socket", "api.sock"),
                ("state_file", "state.json"),
                ("journal", "journal.jsonl"),
            )
        )
        tail = f"api: {{address: 127.0.0.1, port: {self.port}, {files}}}\npaths: {{{paths}}}\n"
        self.configuration.write_text(minimal(tail=tail))

    @contextmanager
    def agent(self, *arguments: str, environment: Mapping[str, str] = ENVIRONMENT) -> Iterator[subprocess.Popen[bytes]]:
        """Run the agent: what Python is given as `arguments`, else the module."""
        with (self.directory / "log").open("wb") as log:
            command = [sys.executable, *(arguments or ("-m", "popctl.agent")), str(self.configuration)]
            with subprocess.Popen(command, env=environment, stderr=log) as process:
                try:
                    yield process
                finally:
                    # There is no ExaBGP here to prove a withdraw to, so it would not end in good order.
                    process.kill()
                    process.wait(10)

    def logged(self, text: str) -> int:
        return (self.directory / "log").read_text().count(text)

    async def popctl(self, person: Issued, *words: str) -> Ended:
        options = ("--cert", str(person.certificate), "--key", str(person.key), "--ca", str(self.authority.ca))
        return await popctl(*words, "--api", f"https://127.0.0.1:{self.port}", *options)


async def test_agent_is_ordered_from_elsewhere_and_takes_over_a_renewed_certificate_but_no_useless_one(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path)
    with site.agent() as process:
        await eventually_async(lambda: site.logged("API is open") == 1, within_s=30)
        assert (await site.popctl(site.alice, "whoami")).out == "cn:alice may operate at PoP fra1\n"
        assert (await site.popctl(site.alice, "health")).code == Exit.PROBLEMS, "there is no ExaBGP here"
        ordered = await site.popctl(site.alice, "drain", "vpn-1", "--reason", "new kernel")
        assert ordered.code == Exit.OK, ordered.err

        site.server.key.chmod(0o644)
        process.send_signal(signal.SIGHUP)
        await eventually_async(lambda: site.logged("new configuration refused") == 1)
        assert site.logged("api.key") == 1
        assert (await site.popctl(site.alice, "whoami")).code == Exit.OK

        site.authority.issue("server", SERVER)
        site.server.key.chmod(0o600)
        process.send_signal(signal.SIGHUP)
        await eventually_async(lambda: site.logged("API is open") == 2, within_s=30)
        listed = await site.popctl(site.alice, "status", "--json")
        assert [order["owner"] for order in listed.json["intents"]] == ["cn:alice"]

        site.configuration.write_text(site.configuration.read_text().replace("cn:alice", "cn:bob"))
        process.send_signal(signal.SIGHUP)
        await eventually_async(lambda: site.logged("API is open") == 3, within_s=30)
        assert (await site.popctl(site.alice, "whoami")).code == Exit.NO_PERMISSION
        assert process.poll() is None


@pytest.mark.parametrize("file", ["/", "/var/lib/popctl/../state.json"])
async def test_an_agent_goes_on_when_it_is_told_to_keep_its_state_where_no_file_can_be(
    tmp_path: Path, file: str
) -> None:
    site = Site(tmp_path)
    with site.agent() as process:
        await eventually_async(lambda: site.logged("API is open") == 1, within_s=30)
        text = site.configuration.read_text()
        site.configuration.write_text(text.replace(f"state_file: {tmp_path}/state.json", f"state_file: {file}"))
        process.send_signal(signal.SIGHUP)
        await eventually_async(lambda: site.logged("new configuration refused") == 1)
        assert site.logged("is not the path of a file") == 1
        assert (await site.popctl(site.alice, "whoami")).code == Exit.OK
        assert process.poll() is None


async def test_agent_hands_on_all_that_a_meter_on_its_host_reads(tmp_path: Path) -> None:
    site, meter = Site(tmp_path), tmp_path / "meter.sock"
    text = site.configuration.read_text()
    site.configuration.write_text(text.replace("name: vpn-1,", f"name: vpn-1, meter: {{socket: {meter}}},"))
    hub = Hub(clock=time.monotonic, interval_s=60.0)
    hub.measured(replace(EMPTY, ike=IKE, links=(LINK,), symptoms=(Symptom.LINK_DROPS,)))
    labels = '{backend="vpn-1",figure="children",source="ike"}'
    async with serving(build(hub), UnixEndpoint(path=meter)):
        with site.agent():
            await eventually_async(lambda: site.logged("API is open") == 1, within_s=30)
            async with ClientSession(connector=UnixConnector(path=str(tmp_path / "api.sock"))) as session:

                async def scraped() -> bool:
                    async with session.get("http://agent/metrics") as answer:
                        return f"popctl_backend_meter{labels} 100.0" in await answer.text()

                await eventually_async(scraped, within_s=30)
            assert site.logged("symptoms of overload") == 1
            listed = await site.popctl(site.alice, "status")
            assert "symptoms of overload at vpn-1: link-drops" in listed.out
        hub.close()


async def test_agent_begins_with_what_services_have_been_through_and_keeps_that(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fallen = ServicePast(flaps=(-5.0,))
    kept = tmp_path / "services.json"
    kept.write_bytes(encode(Past({"vpn": fallen, "gone": fallen}), unix_s=time.time(), now=0.0))

    def in_step() -> bool:
        past = decode(kept.read_bytes(), unix_s=time.time(), now=0.0)
        return past.services.keys() == {"vpn"} and '{"p":' in (tmp_path / "journal.jsonl").read_text()

    with site.agent():
        await eventually_async(in_step)


class Relay:
    """Speaks the relay's side of the lease, and takes down when it heard what."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self.lease_s = lease_s
        self.heard: list[tuple[float, str]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {
            "hello": {
                "type": "welcome",
                "protocol": PROTOCOL,
                "exabgp": "5.0.14",
                "lease_s": self.lease_s,
                "sessions": {},
            },
            "renew": {"type": "renewed"},
            "release": {"type": "released"},
        }
        self.connections += 1
        with suppress(ConnectionError):
            async for line in reader:
                op = json.loads(line)["op"]
                self.heard.append((time.monotonic(), op))
                if op in answers:
                    writer.write(json.dumps(answers[op]).encode() + b"\n")
                if op == "release":
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.connections -= 1

    def lease(self) -> list[tuple[float, str]]:
        """What extended the lease."""
        return [(at, op) for at, op in self.heard if op in ("hello", "renew", "release")]

    def count(self, op: str) -> int:
        return [one for _, one in self.heard].count(op)


async def test_thread_that_hangs_does_not_hold_up_a_reload_while_nobody_renews_the_lease(tmp_path: Path) -> None:
    site, relay = Site(tmp_path), Relay()
    with (tmp_path / "audit.jsonl").open("wb") as audit_file:
        # Whoever adds a line waits.
        fcntl.flock(audit_file, fcntl.LOCK_EX)
        async with await asyncio.start_unix_server(relay.serve, tmp_path / "relay.sock"):
            with site.agent() as process:
                await eventually_async(lambda: site.logged("API is open") == 1, within_s=30)
                await eventually_async(lambda: relay.count("hello") == 1)
                orders = asyncio.create_task(site.popctl(site.alice, "drain", "vpn-1", "--force", "--reason", "disks"))
                await eventually_async((tmp_path / "state.json").exists, within_s=30)
                process.send_signal(signal.SIGHUP)
                await eventually_async(lambda: relay.count("hello") == 2, within_s=30)
                process.kill()
                await orders
                await eventually_async(lambda: not relay.connections)
    times = [at for at, _ in relay.lease()]
    silence_s = max(later - earlier for earlier, later in pairwise(times))
    assert relay.count("release") == 1
    assert silence_s < LEASE_S / 2, relay.lease()


def files(directory: Path) -> dict[str, tuple[int, int, int]]:
    found = {path.name: path.stat() for path in directory.iterdir()}
    return {name: (one.st_ino, one.st_size, one.st_mtime_ns) for name, one in found.items()}


def test_second_agent_on_the_same_socket_ends_with_a_line_and_71_and_touches_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "journal.jsonl").write_text("start of the first agent\nits turns\n")
    with socket.socket(socket.AF_UNIX) as taken, socket.socket(socket.AF_UNIX) as relay:
        for sock, name in ((taken, "api.sock"), (relay, "relay.sock")):
            sock.bind(str(tmp_path / name))
            sock.listen()
        before = files(tmp_path)
        arguments = [sys.executable, "-m", "popctl.agent", str(site.configuration)]
        ended = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
        assert files(tmp_path) == before
        relay.setblocking(False)  # noqa: FBT003 - the standard library's signature
        with pytest.raises(BlockingIOError):
            relay.accept()
    assert ended.returncode == 71
    assert ended.stderr.splitlines()[-1].endswith("api.sock: somebody listens there already")


def test_what_a_hash_key_breaks_is_in_the_log_from_the_start(tmp_path: Path) -> None:
    site = Site(tmp_path)
    text = site.configuration.read_text()
    site.configuration.write_text(
        text.replace("    prefixes:", "    balancer: {vips: [198.51.100.1], key: 5-tuple}\n    prefixes:", 1)
    )
    with socket.socket(socket.AF_UNIX) as taken:  # so that it goes no further, and changes nothing on this host
        taken.bind(str(tmp_path / "api.sock"))
        taken.listen()
        arguments = [sys.executable, "-m", "popctl.agent", str(site.configuration)]
        ended = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
    assert ended.returncode == 71
    told = json.loads(ended.stderr.splitlines()[0])
    assert (told["level"], told["warning"].partition(" goes")[0]) == (
        "warning",
        "services.vpn.balancer.key: found 5-tuple: unlabelled ESP",
    )
