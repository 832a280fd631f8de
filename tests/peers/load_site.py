"""Two PoPs that load steers, with real agents, ExaBGP, routers, etcd and meters: only what a meter reads is made up.

Who is where follows from what the routers have: a PoP whose route is prepended loses its movable users to the other.
The agents live outside the namespaces, because nothing of them but ExaBGP speaks to routers.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popctl.cli.plan import plan_app
from popctl.config.load import parse
from popctl.listen.serve import serving
from popctl.meter.app import build
from popctl.meter.hub import Hub
from popctl.model.listen import UnixEndpoint
from popctl.model.load import Resource
from popctl.wire.agent_api import Status, decode
from tests.peers.bird import Bird
from tests.peers.etcd import Cluster
from tests.peers.exabgp import CHECKOUT, MD5, ExaBgp, edge_and_router
from tests.unit.senses.test_meter import EMPTY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREFIX = "198.51.100.0/24"
METER_S = 0.2
NAMES = ("ams", "fra")
_MODEL = CHECKOUT / "lab" / "model"
STAYS_S, MOVES_S = 60.0, 40.0
"""Sessions of the first PoP when its ramp is at its top; those that move go to the second one."""
OWN_S = 10.0
"""Sessions that the second PoP has anyway."""

_CONFIGURATION = """\
pop: {{id: {number}, name: {name}, asn: 65010, router_id: 192.0.2.10}}
neighbors:
  - address: 192.0.2.1
    local_address: 192.0.2.10
    asn: 65000
    families: [ipv4]
    next_hops: {{ipv4: 192.0.2.10}}
    md5_file: {directory}/md5
    ttl_security: 1
services:
  vpn: {{prefixes: [{prefix}]}}
allowlist: {{prefixes: [{prefix}], next_hops: [192.0.2.10]}}
backends:
  - id: 1
    name: b1
    address: 127.0.0.1
    probes: gateway
    meter: {{socket: {directory}/meter.sock}}
    capacity: {{sessions: {capacity}}}
probes:
  gateway:
    - tcp: {{port: {port}}}
timing: {{warm_up: 0s, hold_down: 0s, hold_down_max: 0s, flap_window: 1s}}
lease: {{duration: 30s}}
paths:
  relay_socket: {directory}/relay.sock
  api_socket: {directory}/api.sock
  state_file: {directory}/state.json
  journal: {directory}/journal.jsonl
load:
  playbook: {playbook}
  hot_for: 1s
  dwell: 2s
  smoothing: 300ms
  peak_half_life: 1s
  stale_after: 2s
  gate: {{view_stale_after: 5s}}
fleet:
  name: peers
  region: eu
  etcd: [{etcd}]
  quiet: 200ms
  refresh: 1s
"""


class Agent:
    """The agent of one PoP, as a process of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.start()

    def start(self) -> None:
        argv = [sys.executable, "-m", "popctl.agent", str(self._directory / "popctl.yaml")]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        with (self._directory / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(5)


@dataclass
class Site:
    """One PoP."""

    name: str
    directory: Path
    bird: Bird
    hub: Hub
    agent: Agent

    def route(self) -> str:
        """Return what the router has of the prefix; empty: nothing."""
        return self.bird.routes().get(PREFIX, "")

    def depreferred(self) -> bool:
        """Whether the router has the route, prepended."""
        path = re.search(r"BGP.as_path: (.*)", self.route())
        return path is not None and len(path[1].split()) > 1

    def heard(self) -> int:
        """How many announcements and withdraws the router has heard."""
        return self.bird.imports().changes

    async def status(self) -> Status:
        """Ask the agent as any operator would."""
        reader, writer = await asyncio.open_unix_connection(self.directory / "api.sock", limit=2**20)
        writer.write(b"GET /v1/status HTTP/1.0\r\nHost: agent\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return decode(answer.partition(b"\r\n\r\n")[2], Status)

    async def load(self) -> tuple[int, str]:
        """Return where the agent says that it stands on its ladder, and why."""
        found = (await self.status()).load
        return (-1, "") if found is None else (found.level, found.reason)


@dataclass
class Sites:
    """Both, and their users."""

    sites: dict[str, Site]
    etcd: Cluster
    ramp: float = 0.3
    """How much of the first PoP's users are there."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def measure(self) -> None:
        """Let the meters tell, until stopped, who is where."""
        while not self.stopped.is_set():
            first, second = (self.sites[name] for name in NAMES)
            moved = first.depreferred()
            stays, moves = STAYS_S * self.ramp, MOVES_S * self.ramp
            _tell(first, stays + (0.0 if moved else moves))
            _tell(second, OWN_S + (moves if moved else 0.0))
            try:
                async with asyncio.timeout(METER_S):
                    await self.stopped.wait()
            except TimeoutError:
                continue

    def records(self) -> dict[str, Any]:
        """Return what stands in etcd."""
        begin, end = b"/popctl/v1/peers/pop/", b"/popctl/v1/peers/pop0"
        found = self.etcd.one.ask("kv/range", key=b64encode(begin).decode(), range_end=b64encode(end).decode())
        return {
            b64decode(one["key"]).decode().rpartition("/")[2]: json.loads(b64decode(one["value"]))
            for one in found.get("kvs", ())
        }


def _tell(site: Site, sessions: float) -> None:
    site.hub.measured(replace(EMPTY, used={Resource.SESSIONS: sessions}))


def plan(directory: Path) -> Path:
    """Make the playbook with `popctl plan playbook` from the model of the lab, whose users are those above."""
    fleet = json.loads((_MODEL / "fleet.json").read_text(encoding="utf-8")) | {"name": "peers"}
    for pop, name in zip(fleet["pops"], NAMES, strict=True):
        pop["name"] = name
    (directory / "fleet.json").write_text(json.dumps(fleet), encoding="utf-8")
    out = directory / "playbook.json"
    files = ["--internet", str(_MODEL / "internet.txt"), "--fleet", str(directory / "fleet.json")]
    files += ["--demand", str(_MODEL / "demand.csv"), "--cache", str(directory), "--engine", "numpy"]
    assert plan_app(["playbook", "--out", str(out), *files], result_action="return_value") == 0
    return out


async def _site(stack: AsyncExitStack, number: int, *, capacity: float, port: int, etcd: str, directory: Path) -> Site:
    name = NAMES[number - 1]
    hosts = stack.enter_context(edge_and_router(f"ld{number}"))
    bird = stack.enter_context(Bird(hosts.server))
    secret = directory / "md5"
    secret.touch(mode=0o600)
    secret.write_text(MD5.reveal())
    text = _CONFIGURATION.format(
        number=number,
        name=name,
        directory=directory,
        capacity=capacity,
        port=port,
        etcd=etcd,
        prefix=PREFIX,
        playbook=directory.parent / "playbook.json",
    )
    (directory / "popctl.yaml").write_text(text)
    stack.enter_context(ExaBgp(hosts.client, pop=parse(text, "popctl.yaml")))
    hub = Hub(clock=asyncio.get_running_loop().time, interval_s=METER_S)
    stack.callback(hub.close)
    await stack.enter_async_context(serving(build(hub), UnixEndpoint(path=directory / "meter.sock")))
    agent = Agent(directory)
    stack.callback(agent.kill)
    return Site(name, directory, bird, hub, agent)


@asynccontextmanager
async def raised(directory: Path, *, room: float) -> AsyncIterator[Sites]:
    """Raise both PoPs: the first has room for 100 sessions, the second for `room`."""
    async with AsyncExitStack() as stack:
        plan(directory)
        etcd = stack.enter_context(Cluster())
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        await stack.enter_async_context(server)
        port = server.sockets[0].getsockname()[1]
        sites = {}
        for number, capacity in ((1, 100.0), (2, room)):
            folder = directory / str(number)
            folder.mkdir()
            sites[NAMES[number - 1]] = await _site(
                stack, number, capacity=capacity, port=port, etcd=etcd.urls[0], directory=folder
            )
        found = Sites(sites, etcd)
        meters = asyncio.create_task(found.measure())
        try:
            yield found
        finally:
            found.stopped.set()
            await meters
