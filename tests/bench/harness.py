"""The smallest PoP in which everything is real: BIRD, ExaBGP with its relay, the agent, strongSwan and xl2tpd.

Three hosts in namespaces: the upstream router, the edge, and one host per backend. Daemons are known by pid. What is
measured is what the upstream sees: BIRD is asked over its control socket about every half millisecond.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.bird_socket import BirdSocket, Changes
from popctl.config.load import parse
from tests.eventually import eventually
from tests.peers.bird import Bird
from tests.peers.daemon import Daemon
from tests.peers.exabgp import CHECKOUT, MD5, ExaBgp, edge_and_router
from tests.peers.netns import TwoHosts, ip
from tests.peers.strongswan import PROGRAM, StrongSwan
from tests.peers.xl2tpd import Xl2tpd

PREFIX, SESSION = "198.51.100.0/24", "edge4"
POLL_S = 0.0005
_COMES_WITHIN_S = 60.0

_CONFIGURATION = """\
pop: {{id: 1, name: bench, asn: 65010, router_id: 192.0.2.10}}
neighbors:
  - address: 192.0.2.1
    local_address: 192.0.2.10
    asn: 65000
    families: [ipv4]
    next_hops: {{ipv4: 192.0.2.10}}
    md5_file: {directory}/md5
    ttl_security: 1
services:
  vpn: {{prefixes: [198.51.100.0/24]}}
allowlist: {{prefixes: [198.51.100.0/24], next_hops: [192.0.2.10]}}
backends:
{backends}
probes:
  gateway:
    - ike: {{version: 2, ports: [500, 4500]}}
    - ike: {{version: 1, ports: [500]}}
    - l2tp: {{port: 1701}}
# A fall here is the bench's doing. It decides nothing about how fast a route goes, only how long the next try waits.
timing: {{warm_up: 0s, hold_down: 0s, hold_down_max: 0s, flap_window: 1s}}
paths:
  relay_socket: {directory}/relay.sock
  api_socket: {directory}/api.sock
  state_file: {directory}/state.json
  journal: {directory}/journal.jsonl
"""


class Agent(Daemon):
    """The real agent process. Its directory holds configuration, sockets, state and journal."""

    program = "agent"

    def __init__(self, namespace: str, *, profile: str, backends: int = 1, meters: Sequence[Path] = ()) -> None:
        super().__init__(namespace)
        more = dict(enumerate((f", meter: {{socket: {path}}}" for path in meters), start=1))
        lines = (
            f"  - {{id: {n}, name: b{n}, address: 10.0.{n}.2, profile: {profile}, probes: gateway{more.get(n, '')}}}"
            for n in range(1, backends + 1)
        )
        secret = self.directory / "md5"
        secret.touch(mode=0o600)
        secret.write_text(MD5.reveal())
        self.config = self.directory / "popctl.yaml"
        self.config.write_text(_CONFIGURATION.format(directory=self.directory, backends="\n".join(lines)))

    def start(self) -> None:
        """Start it; whoever wants to know when it works looks at the router."""
        self.spawn([sys.executable, "-m", "popctl.agent", str(self.config)], {"PYTHONPATH": str(CHECKOUT)})


class Meter(Daemon):
    """The real `popctl meter` of one backend. The pid file is the bench's: charon writes none."""

    program = "meter"

    def __init__(self, namespace: str, charon: StrongSwan) -> None:
        super().__init__(namespace)
        self._charon = charon
        self.socket = self.directory / "meter.sock"

    def start(self) -> None:
        """Start it."""
        self.name_charon()
        watched = f"charon={PROGRAM},{self.directory / 'charon.pid'}"
        command = [sys.executable, "-m", "popctl.meter", "--socket", str(self.socket), "--daemon", watched]
        self.spawn([*command, "--vici", str(self._charon.vici_path)], {"PYTHONPATH": str(CHECKOUT)})
        eventually(self.socket.exists, within_s=_COMES_WITHIN_S)

    def name_charon(self) -> None:
        """Write the pid of the present charon, whole at once, as daemons do."""
        (self.directory / "new").write_text(str(self._charon.pid))
        (self.directory / "new").rename(self.directory / "charon.pid")


@dataclass(slots=True)
class Backend:
    """One VPN server."""

    charon: StrongSwan
    xl2tpd: Xl2tpd


@dataclass(slots=True)
class Rig:
    """A raised PoP and what a bench does to it."""

    hosts: TwoHosts
    bird: Bird
    backends: list[Backend]
    exabgp: Daemon
    agent: Daemon
    meters: list[Meter] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    rng: random.Random = field(default_factory=lambda: random.Random(os.urandom(8)))

    @property
    def charon(self) -> StrongSwan:
        """The IKE daemon of the first backend."""
        return self.backends[0].charon

    def until_announced(self) -> None:
        """Wait until the router has the route."""
        with self._asked() as bird:
            eventually(lambda: bird.carries(PREFIX, SESSION), within_s=_COMES_WITHIN_S, every_s=0.01)

    def updates(self) -> int:
        """How many route changes have reached the router so far."""
        with self._asked() as bird:
            return self.changes.total(bird.received(SESSION))

    def wait_within(self, interval_s: float) -> None:
        """Let a random part of an interval pass, so that nothing falls in step with the schedule."""
        time.sleep(self.rng.uniform(0.0, interval_s))

    def gone_after(self, do: Callable[[], None], *, within_s: float) -> float:
        """Do something and return how long the router keeps the route, in seconds.

        Raises:
            AssertionError: it was not announced, or is still there after `within_s`.
        """
        with self._asked() as bird:
            assert bird.carries(PREFIX, SESSION), "not announced"
            begun = time.monotonic()
            do()
            while bird.carries(PREFIX, SESSION):
                assert time.monotonic() - begun < within_s, f"still announced after {within_s} s"
                time.sleep(POLL_S)
            return time.monotonic() - begun

    def stays(self, do: Callable[[], None], *, for_s: float) -> bool:
        """Do something and tell whether the router keeps the route for `for_s`."""
        with self._asked() as bird:
            end = time.monotonic() + for_s
            do()
            while bird.carries(PREFIX, SESSION):
                if time.monotonic() >= end:
                    return True
                time.sleep(0.05)
            return False

    @contextmanager
    def _asked(self) -> Iterator[BirdSocket]:
        with BirdSocket(self.bird.directory / "ctl") as bird:
            yield bird


@contextmanager
def backend_hosts(edge: str, number: int) -> Iterator[list[str]]:
    """Raise hosts behind the edge: backend n has 10.0.n.2 and the edge 10.0.n.1."""
    names = [f"{edge}-b{n}" for n in range(1, number + 1)]
    try:
        for n, name in enumerate(names, start=1):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", edge, "link", "add", f"b{n}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", edge, "addr", "add", f"10.0.{n}.1/30", "dev", f"b{n}")
            ip("-n", name, "addr", "add", f"10.0.{n}.2/30", "dev", "eth0")
            ip("-n", edge, "link", "set", f"b{n}", "up")
            ip("-n", name, "link", "set", "eth0", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=20)


@contextmanager
def surroundings(backends: int) -> Iterator[tuple[TwoHosts, Bird, list[Backend]]]:
    """Raise everything but the PoP's own daemons: router and backends."""
    with ExitStack() as stack:
        hosts = stack.enter_context(edge_and_router("fig"))
        names = stack.enter_context(backend_hosts(hosts.client, backends))
        bird = stack.enter_context(Bird(hosts.server))
        servers = [Backend(stack.enter_context(StrongSwan(name)), stack.enter_context(Xl2tpd(name))) for name in names]
        yield hosts, bird, servers


@contextmanager
def pop(*, profile: str = "default", backends: int = 1, metered: bool = False) -> Iterator[Rig]:
    """Raise the PoP and wait until it is announced."""
    with ExitStack() as stack:
        hosts, bird, servers = stack.enter_context(surroundings(backends))
        meters = [stack.enter_context(Meter(one.charon.namespace, one.charon)) for one in (servers if metered else ())]
        agent = Agent(hosts.client, profile=profile, backends=backends, meters=[meter.socket for meter in meters])
        stack.callback(shutil.rmtree, agent.directory, ignore_errors=True)
        parsed = parse(agent.config.read_text(), str(agent.config))
        exabgp = stack.enter_context(ExaBgp(hosts.client, pop=parsed))
        stack.enter_context(agent)
        rig = Rig(hosts=hosts, bird=bird, backends=servers, exabgp=exabgp, agent=agent, meters=meters)
        rig.until_announced()
        yield rig


def send(daemon: Daemon, number: signal.Signals) -> Callable[[], None]:
    """Return the sending of a signal: nothing but one system call stands between the clock and the deed."""
    pid = daemon.pid
    return lambda: os.kill(pid, number)


def median(values: list[float]) -> float:
    """The middle one; of two the upper."""
    return sorted(values)[len(values) // 2]


def spread(values: list[float]) -> str:
    """Say what a median hides."""
    shown = (f"min {min(values):.3f}", f"median {median(values):.3f}", f"max {max(values):.3f}", f"n={len(values)}")
    return ", ".join(shown)
