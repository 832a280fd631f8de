"""A real BIRD 2 as the upstream router, and what it learnt, asked over its control socket."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.eventually import eventually
from tests.peers.daemon import Daemon

if TYPE_CHECKING:
    from popctl.model.route import Prefix

PROGRAM = "/usr/sbin/bird"
_CONFIGURATION = """\
router id 192.0.2.1;
log "{directory}/bird.log" all;
protocol device {{ scan time 1; }}
template bgp edge {{
    local as 65000;
    hold time {hold_s};
    connect delay time 0;
    connect retry time 1;
    error wait time 1, 1;
    graceful restart {graceful_restart};
    long lived graceful restart off;
    direct;
}}
protocol bgp edge4 from edge {{
    local 192.0.2.1;
    neighbor 192.0.2.10 as {edge_asn};
    password "hush";
    ttl security on;
    {mode}
    ipv4 {{ import all; export none; }};
}}
protocol bgp edge6 from edge {{
    local 2001:db8::1;
    neighbor 2001:db8::10 as {edge_asn};
    {mode}
    ipv6 {{ import all; export none; }};
}}
"""


class Imports(NamedTuple):
    """The counters of a session. BIRD begins them anew with each, so they mean nothing without its beginning."""

    since: str
    updates: int
    withdraws: int

    @property
    def changes(self) -> int:
        """All that the session brought."""
        return self.updates + self.withdraws


class Bird(Daemon):
    """Two sessions to the edge: `edge4` over IPv4 with MD5 and TTL security, `edge6` over IPv6."""

    program = "bird"

    def __init__(
        self,
        namespace: str,
        *,
        hold_s: int = 9,
        passive: bool = True,
        edge_asn: int = 65010,
        restarts_gracefully: bool = False,
    ) -> None:
        super().__init__(namespace)
        # Passive by default: only ExaBGP calls, so that a test decides when a session can come.
        mode = "passive on;" if passive else ""
        text = _CONFIGURATION.format(
            directory=self.directory,
            hold_s=hold_s,
            mode=mode,
            edge_asn=edge_asn,
            graceful_restart="on" if restarts_gracefully else "off",
        )
        (self.directory / "bird.conf").write_text(text)

    def start(self) -> None:
        control = self.directory / "ctl"
        control.unlink(missing_ok=True)
        self.spawn([PROGRAM, "-f", "-c", str(self.directory / "bird.conf"), "-s", str(control)])
        eventually(self._answers)

    def _answers(self) -> bool:
        try:
            return "up and running" in self.ask("show status")
        except (FileNotFoundError, ConnectionRefusedError):
            return False  # the socket is made, and a moment later listened to

    def ask(self, command: str) -> str:
        """Send one command; return the reply without its codes."""
        with Control(self) as control:
            return control.ask(command)

    def routes(self) -> dict[str, str]:
        """Return prefix -> everything that `show route all` tells about it."""
        text = self.ask("show route all")
        found: dict[str, str] = {}
        prefix = ""
        for line in text.splitlines():
            head = re.match(r"([0-9a-f.:]+/\d+)\s", line)
            prefix = head[1] if head else prefix
            if prefix:
                found[prefix] = found.get(prefix, "") + line + "\n"
        return found

    def has(self, prefix: Prefix) -> bool:
        """Whether there is a route to `prefix`."""
        return str(prefix) in self.routes()

    def imports(self, protocol: str = "edge4") -> Imports:
        """Return what came over the present session of a protocol, and which session that is."""
        text = self.ask(f"show protocols all {protocol}")
        since = re.search(rf"^{protocol}\s+BGP\s+\S+\s+\S+\s+(\S+)", text, re.MULTILINE)
        updates = re.search(r"Import updates:\s+(\d+)", text)
        withdraws = re.search(r"Import withdraws:\s+(\d+)", text)
        assert since is not None, text
        return Imports(since[1], int(updates[1]) if updates else 0, int(withdraws[1]) if withdraws else 0)

    def established(self, protocol: str = "edge4") -> bool:
        """Whether a session stands."""
        return "Established" in self.ask(f"show protocols {protocol}")


class Control:
    """One open control connection, for those who ask often."""

    def __init__(self, bird: Bird) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(5.0)
        try:
            self._socket.connect(str(bird.directory / "ctl"))
        except OSError:
            self._socket.close()
            raise
        self._rest = b""
        self._reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, command: str) -> str:
        """Send one command; return the reply without its codes."""
        self._socket.sendall(command.encode() + b"\n")
        return self._reply()

    def _reply(self) -> str:
        lines: list[str] = []
        while True:
            while b"\n" not in self._rest:
                chunk = self._socket.recv(1 << 16)
                if not chunk:
                    return "\n".join(lines)
                self._rest += chunk
            raw, self._rest = self._rest.split(b"\n", 1)
            line = raw.decode()
            lines.append(line[5:] if re.match(r"\d{4}[- ]", line) else line[1:])
            if re.match(r"\d{4} ", line):
                return "\n".join(lines)
