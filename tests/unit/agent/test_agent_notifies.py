"""What the service manager and the relay hear of an agent process: that it lives, only while it decides."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from popctl.cli.exits import Exit
from tests.eventually import eventually_async
from tests.unit.agent.test_agent_process import ENVIRONMENT, Relay, Site

FAULTY = Path(__file__).with_name("agent_with_a_fault.py")
LEASE_S = 0.9
WATCHDOG_S = 0.9
SILENCE_S = 1.8
"""Six times as long as the agent waits between two signs of life."""


class Manager:
    """The service manager's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.heard: list[str] = []
        self.alive_at = 0.0
        asyncio.get_running_loop().add_reader(self.socket, self._take)
        self.environment = {
            **ENVIRONMENT,
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6)),
        }

    def _take(self) -> None:
        lines = self.socket.recv(4096).decode().splitlines()
        self.heard += lines
        if "WATCHDOG=1" in lines:
            self.alive_at = time.monotonic()

    def count(self, line: str) -> int:
        return self.heard.count(line)

    @property
    def states(self) -> list[str]:
        """The states that were told, without signs of life."""
        return [line for line in self.heard if re.match("READY|RELOADING|STOPPING", line)]

    @property
    def status(self) -> str:
        return next((line for line in reversed(self.heard) if line.startswith("STATUS=")), "")

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.socket)
        self.socket.close()


@pytest.fixture(name="manager")
async def _manager(tmp_path: Path) -> AsyncIterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture(name="relay")
async def _relay(tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(LEASE_S)
    async with serving(relay, tmp_path / "relay.sock"):
        yield relay


@asynccontextmanager
async def serving(relay: Relay, path: Path) -> AsyncIterator[None]:
    async with await asyncio.start_unix_server(relay.serve, path):
        yield
        await eventually_async(lambda: not relay.connections)


@contextmanager
def hanging(directory: Path) -> Iterator[None]:
    """The loop of an agent with the fault does not turn."""
    (directory / "hang").touch()
    yield
    (directory / "hang").unlink()


def renewed_at(relay: Relay) -> float:
    return relay.lease()[-1][0]


async def test_lease_and_watchdog_are_fed_only_while_decisions_are_made(
    tmp_path: Path, manager: Manager, relay: Relay
) -> None:
    """A process that answers on its API, and whose loop hangs, is not alive: routes and process must go."""
    site = Site(tmp_path)

    def silent() -> bool:
        return time.monotonic() - max(manager.alive_at, renewed_at(relay)) > SILENCE_S

    with site.agent(str(FAULTY), environment=manager.environment):
        await eventually_async(lambda: manager.count("WATCHDOG=1") > 2 and relay.count("renew") > 2, within_s=30)
        with hanging(tmp_path):
            await eventually_async(silent)
            assert (await site.popctl(site.alice, "whoami")).code == Exit.OK
            assert silent()
        before = manager.count("WATCHDOG=1"), relay.count("renew")
        await eventually_async(lambda: manager.count("WATCHDOG=1") > before[0] and relay.count("renew") > before[1])
    assert manager.states == ["READY=1"]


async def test_agent_is_ready_when_it_has_decided_and_not_before(
    tmp_path: Path, manager: Manager, relay: Relay
) -> None:
    site = Site(tmp_path)
    with ExitStack() as agent:
        with hanging(tmp_path):
            agent.enter_context(site.agent(str(FAULTY), environment=manager.environment))
            await eventually_async(lambda: site.logged("API is open") == 1, within_s=30)
            assert (await site.popctl(site.alice, "whoami")).code == Exit.OK
            assert manager.states == []
        await eventually_async(lambda: manager.states == ["READY=1"] and relay.count("renew"))


async def test_manager_hears_of_a_reload_and_of_a_stop(tmp_path: Path, manager: Manager, relay: Relay) -> None:
    site = Site(tmp_path)
    with site.agent(environment=manager.environment) as process:
        await eventually_async(lambda: manager.states == ["READY=1"] and relay.count("renew"), within_s=30)
        await eventually_async(lambda: "vpn: withdrawn" in manager.status)
        begun_us = time.monotonic_ns() // 1000
        process.send_signal(signal.SIGHUP)
        await eventually_async(lambda: manager.states == ["READY=1", "RELOADING=1", "READY=1"], within_s=30)
        (told_us,) = [int(line.partition("=")[2]) for line in manager.heard if line.startswith("MONOTONIC_USEC=")]
        assert begun_us <= told_us <= time.monotonic_ns() // 1000
        before = manager.count("WATCHDOG=1")
        await eventually_async(lambda: manager.count("WATCHDOG=1") > before)
        process.send_signal(signal.SIGTERM)
        await eventually_async(lambda: manager.states[3:] == ["STOPPING=1"])
        assert site.logged("new configuration refused") == 0
