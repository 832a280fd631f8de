"""The agent as a process, its API behind TLS: it is asked and ordered from elsewhere, and reloads its certificates."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popctl.cli.exits import Exit
from popctl.model.past import Past, ServicePast
from popctl.wire.services_file import decode, encode
from tests.certificates import CLIENT, SERVER, Authority, Issued
from tests.eventually import eventually_async
from tests.unit.cli.command_line import Ended, popctl
from tests.unit.config.samples import minimal

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
    def agent(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.directory / "log").open("wb") as log:
            arguments = [sys.executable, "-m", "popctl.agent", str(self.configuration)]
            with subprocess.Popen(arguments, env=ENVIRONMENT, stderr=log) as process:
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


def test_second_agent_on_the_same_socket_ends_with_a_line_and_71(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "api.sock"))
        taken.listen()
        arguments = [sys.executable, "-m", "popctl.agent", str(site.configuration)]
        ended = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)
    assert ended.returncode == 71
    assert ended.stderr.splitlines()[-1].endswith("api.sock: somebody listens there already")
