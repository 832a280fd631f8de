"""A real ExaBGP with the real relay, on files that popctl rendered, in a namespace; known by its pid.

with edge_and_router() as hosts, Bird(hosts.server) as bird, ExaBgp(hosts.client) as exabgp:
    speaker = ExaBgpSpeaker(exabgp.pop)
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from popctl.bgp.render import CONF, ENVIRONMENT, MODES, Installation, render
from popctl.model.pop import Allowlist, Lease, Neighbor, Pop, Secret
from popctl.model.route import GRACEFUL_SHUTDOWN, Community, LargeCommunity, Route, RouteKey
from tests import pops
from tests.eventually import eventually
from tests.peers.daemon import Daemon
from tests.peers.netns import TwoHosts, ip, two_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CHECKOUT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("exabgp")
LAUNCHER = CHECKOUT / "exabgp" / "launch.py"
LAUNCHED = (sys.executable, "-I", str(LAUNCHER))
MD5 = Secret("hush")
LEASE_S = 1.0

ROUTER4, ROUTER6 = pops.ROUTER, pops.SECOND_ROUTER
EDGE4, EDGE6 = ip_address("192.0.2.10"), ip_address("2001:db8::10")
COMMUNITY = Community(65000, 77)
LARGE = LargeCommunity(65010, 1, 2)

KEY4 = RouteKey(ROUTER4, pops.VIP4)
KEY6 = RouteKey(ROUTER6, pops.VIP6)
ROUTE4 = Route(prefix=pops.VIP4, next_hop=EDGE4)
ROUTE6 = Route(prefix=pops.VIP6, next_hop=EDGE6)


@contextmanager
def edge_and_router(prefix: str = "bgp") -> Iterator[TwoHosts]:
    """Raise the router (server) and the edge (client) on one wire, IPv4 and IPv6."""
    with two_hosts(prefix) as hosts:
        for name, addresses in ((hosts.server, [f"{ROUTER6}/64"]), (hosts.client, [f"{EDGE4}/24", f"{EDGE6}/64"])):
            for address in addresses:
                ip("-n", name, "addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        yield hosts


def edge_pop(run_dir: Path, *, lease: Lease | None = None) -> Pop:
    """Return a PoP with an IPv4 and an IPv6 session to `Bird`, MD5 and TTL security on the first."""
    first, second = pops.neighbor(ROUTER4), pops.neighbor(ROUTER6)
    pop = pops.pop(neighbors=(_hardened(first), second), run_dir=run_dir)
    allowlist = Allowlist(
        prefixes=pop.allowlist.prefixes,
        next_hops=frozenset((EDGE4, EDGE6)),
        communities=frozenset((GRACEFUL_SHUTDOWN, COMMUNITY)),
        large_communities=frozenset((LARGE,)),
    )
    return replace(pop, allowlist=allowlist, lease=lease or Lease(duration_s=LEASE_S))


def _hardened(neighbor: Neighbor) -> Neighbor:
    return replace(neighbor, md5=MD5, ttl_security_hops=1)


class ExaBgp(Daemon):
    """ExaBGP, its relay and the relay's guard."""

    program = "exabgp"

    def __init__(
        self,
        namespace: str,
        *,
        lease: Lease | None = None,
        pop: Pop | None = None,
        command: Sequence[str] = LAUNCHED,
        edits: Mapping[str, str] | None = None,
    ) -> None:
        """`command` starts ExaBGP; `edits` are made in the rendered files: pattern -> what to write in its place."""
        super().__init__(namespace)
        self._command = command
        self.edits = dict(edits or {})
        self.pop = pop or edge_pop(self.directory, lease=lease)
        self.installation = Installation(
            directory=self.directory,
            relay=CHECKOUT / "exabgp" / "relay",
            template=CHECKOUT / "exabgp" / "exabgp.conf.tmpl",
            python=Path(sys.executable),
            user="root",
        )

    def start(self) -> None:
        self.write(self.edits)
        name, _, value = (self.directory / ENVIRONMENT).read_text().strip().partition("=")
        self.spawn([*self._command, "server", str(self.directory / CONF)], {name: value})
        eventually(self.socket.exists)

    def write(self, edits: Mapping[str, str]) -> None:
        """Write the rendered files, each edit made at least once; ExaBGP reads them when it starts or is told to."""
        missing = set(edits)
        for name, rendered in render(self.pop, self.installation).items():
            text = rendered
            for pattern, replacement in edits.items():
                text, count = re.subn(pattern, replacement, text)
                missing -= {pattern} if count else set()
            path = self.directory / name
            path.touch(mode=MODES[name])
            path.write_text(text)
        assert not missing, missing

    @property
    def socket(self) -> Path:
        """Where the relay listens."""
        return self.pop.paths.relay_socket

    @property
    def relay_pid(self) -> int:
        """The one child of ExaBGP."""
        (pid,) = children(self.pid)
        return pid

    def signal_relay(self, number: signal.Signals) -> int:
        """Signal the relay; return its pid."""
        pid = self.relay_pid
        os.kill(pid, number)
        return pid

    def close(self) -> None:
        """End ExaBGP and whatever a test left stopped of its family."""
        for pid in [*children(self.pid), *(grand for child in children(self.pid) for grand in children(child))]:
            _signal(pid, signal.SIGCONT)
        super().close()


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def children(pid: int) -> list[int]:
    """Return the pids of the children of a process; none when it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill_relays_until_exabgp_ends(exabgp: ExaBgp) -> None:
    """Kill the relay and its successors; ExaBGP bears five in a window of 64 s, whose boundary can cost six more."""
    for _ in range(13):
        dead = exabgp.signal_relay(signal.SIGKILL)
        eventually(lambda dead=dead: not exabgp.alive or children(exabgp.pid) not in ([], [dead]))  # type: ignore[misc]
        if not exabgp.alive:
            return
    raise AssertionError("ExaBGP bears more than twelve deaths of its relay")


class RelayClient:
    """A bare client of the relay's socket: what an agent could do if its own checks were broken."""

    def __init__(self, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(5.0)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, **message: object) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Return the next message, an empty one at EOF."""
        line = self._file.readline()
        return json.loads(line) if line else {}

    def wait(self) -> None:
        """Wait until the relay has said something, or closed."""
        self._socket.recv(1, socket.MSG_PEEK)

    def until(self, kind: str) -> dict[str, Any]:
        """Return the next message of a kind; events on the way are kept."""
        while True:
            message = self.receive()
            if message.get("type") == "event":
                self.events.append(message["event"])
            if message.get("type") == kind or not message:
                return message

    def hello(self) -> dict[str, Any]:
        self.send(op="hello", protocol=1)
        return self.receive()

    def order(self, line: str) -> int:
        """Send a command without waiting."""
        self._number += 1
        self.send(op="command", id=self._number, line=line)
        return self._number

    def command(self, line: str) -> str:
        """Send a command; return its result."""
        self.order(line)
        return str(self.until("answer")["result"])


def greeted(path: Path) -> RelayClient:
    """Return a client that holds the lease, as soon as the relay takes one."""

    def connect() -> RelayClient | None:
        try:
            client = RelayClient(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None  # ExaBGP is about to start the relay, for the first time or again
        if client.hello().get("type") == "welcome":
            return client
        client.close()
        return None

    client = eventually(connect)
    assert client is not None
    return client
