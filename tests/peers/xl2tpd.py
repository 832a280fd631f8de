"""A real xl2tpd in a namespace, with a private configuration.

    with two_hosts() as hosts, Xl2tpd(hosts.server, secret="tunnel secret") as lns:
        ...
        assert not lns.open_tunnels()

The control plane needs no PPP in the kernel. A session is never opened by our probes, so that no pppd runs.
"""

from __future__ import annotations

import re

from tests.eventually import eventually
from tests.peers.daemon import Daemon

PROGRAM = "/usr/sbin/xl2tpd"
_CONFIGURATION = """\
[global]
listen-addr = 0.0.0.0
port = {port}
auth file = {directory}/l2tp-secrets
debug tunnel = yes
debug avp = yes
debug state = yes
[lns default]
ip range = 10.9.0.10-10.9.0.250
local ip = 10.9.0.1
require authentication = yes
name = l2tpd
pppoptfile = {directory}/ppp-options
length bit = yes
{challenge}
"""


class Xl2tpd(Daemon):
    """One LNS. With `secret` it authenticates tunnels (RFC 2661 section 5.1.1) and challenges its clients."""

    program = PROGRAM

    def __init__(self, namespace: str, *, secret: str | None = None, port: int = 1701) -> None:
        super().__init__(namespace)
        challenge = "" if secret is None else "challenge = yes"
        text = _CONFIGURATION.format(directory=self.directory, challenge=challenge, port=port)
        (self.directory / "xl2tpd.conf").write_text(text)
        (self.directory / "ppp-options").write_text("noauth\n")
        (self.directory / "l2tp-secrets").write_text("" if secret is None else f"* * {secret}\n")

    def start(self) -> None:
        """Start xl2tpd and wait until it listens."""
        paths = {"-c": "xl2tpd.conf", "-p": "xl2tpd.pid", "-C": "l2tp-control"}
        options = [word for flag, name in paths.items() for word in (flag, str(self.directory / name))]
        self.spawn([PROGRAM, "-D", *options])
        eventually(lambda: self.alive and "Listening on IP address" in self.log_of_this_life())

    def open_tunnels(self) -> int:
        """Count the tunnels that were opened and not closed since the start, by the log."""
        log = self.log()
        opened = log.count("allocating new tunnel")
        closed = len(re.findall(r"closing down tunnel|Maximum retries exceeded for tunnel", log))
        return opened - closed
