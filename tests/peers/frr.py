"""A real FRR (zebra and bgpd) as the upstream router: the second vendor. Its files live under its own path space."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.eventually import eventually
from tests.peers.daemon import Daemon

_CONFIGURATION = """\
frr defaults traditional
hostname router
router bgp 65000
 bgp router-id 192.0.2.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor 192.0.2.10 remote-as 65010
 neighbor 192.0.2.10 password hush
 neighbor 192.0.2.10 ttl-security hops 1
 neighbor 192.0.2.10 passive
 neighbor 2001:db8::10 remote-as 65010
 neighbor 2001:db8::10 passive
 address-family ipv4 unicast
  neighbor 192.0.2.10 activate
  no neighbor 2001:db8::10 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 2001:db8::10 activate
 exit-address-family
"""
_PROGRAMS = ("/usr/lib/frr/zebra", "/usr/lib/frr/bgpd")


class Frr(Daemon):
    """Started as daemons of their own by FRR, known by their pid files; `-N` keeps them apart from other FRRs."""

    program = "frr"

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self._etc = Path("/etc/frr", namespace)
        self._run = Path("/var/run/frr", namespace)

    def start(self) -> None:
        for directory in (self._etc, self._run):
            directory.mkdir(parents=True, exist_ok=True)
            shutil.chown(directory, "frr", "frr")
        for name, text in (("frr.conf", _CONFIGURATION), ("vtysh.conf", "")):
            (self._etc / name).write_text(text)
            shutil.chown(self._etc / name, "frr", "frr")
        for program in _PROGRAMS:
            self._command(program, "-N", self.namespace, "-d", "-A", "127.0.0.1")
        self._command("vtysh", "-N", self.namespace, "-b")
        eventually(lambda: self.show("show bgp summary json"))

    def show(self, command: str) -> dict[str, Any]:
        """Ask for JSON."""
        found: dict[str, Any] = json.loads(self._command("vtysh", "-N", self.namespace, "-c", command) or "{}")
        return found

    def route(self, prefix: str) -> dict[str, Any]:
        """Return the best path to a prefix, empty when there is none."""
        family = "ipv6" if ":" in prefix else "ipv4"
        paths = self.show(f"show bgp {family} unicast {prefix} json").get("paths", [])
        return paths[0] if paths else {}

    def close(self) -> None:
        """End by pid file and remove all traces."""
        for path in sorted(self._run.glob("*.pid")):
            subprocess.run(["kill", "-9", path.read_text().strip()], check=False, capture_output=True, timeout=5)
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.rmtree(self._etc, ignore_errors=True)
        super().close()

    def _command(self, *argv: str) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, *argv], check=True, capture_output=True, text=True, timeout=20
        )
        return done.stdout
