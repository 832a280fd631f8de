"""Clients of the lab's VPN, as many as a test wants: each an IKE SA of its own, from an address of its own."""

from __future__ import annotations

import re
from collections import Counter

from lab.driver import Driver, ExecResult

_NODE = "client"
_FILE = "/run/lab/crowd.conf"
_FIRST_ADDRESS = 129
"""Of 203.0.113.0/24, the client's network."""
_TEMPLATE = """\
  user{number} {{
    version = 2
    local_addrs = 203.0.113.{address}
    remote_addrs = 198.51.100.1
    vips = 0.0.0.0
    proposals = aes256-sha256-modp2048
    encap = yes
    mobike = no
    dpd_delay = 1s
    local {{
      auth = psk
      id = client@example.net
    }}
    remote {{
      auth = psk
      id = vpn.example.net
    }}
    children {{
      net{number} {{
        remote_ts = 10.99.0.0/24
        esp_proposals = aes256-sha256
        dpd_action = restart
      }}
    }}
  }}
"""
_RESPONDER = re.compile(r"^user\d+: .*ESTABLISHED, IKEv2, [0-9a-f]{16}_i\* ([0-9a-f]{8})[0-9a-f]{8}_r", re.MULTILINE)


class Crowd:
    """At most `most` clients. They build their tunnels anew when their gateway falls silent."""

    def __init__(self, driver: Driver, most: int) -> None:
        self._driver = driver
        self._here = 0
        self._addresses = [f"203.0.113.{_FIRST_ADDRESS + one}/32" for one in range(most)]
        self._address("add")
        users = "".join(_TEMPLATE.format(number=one, address=_FIRST_ADDRESS + one) for one in range(most))
        assert driver.exec(_NODE, ["tee", _FILE], stdin=f"connections {{\n{users}}}\n").returncode == 0
        self._swanctl("--load-conns", "--file", _FILE)

    def grow(self, count: int) -> None:
        """Let clients come until there are so many."""
        while self._here < count:
            self._swanctl("--initiate", "--child", f"net{self._here}", "--timeout", "10")
            self._here += 1

    def leave(self) -> None:
        """Let all go."""
        for one in range(self._here):
            self._driver.exec(_NODE, ["swanctl", "--terminate", "--ike", f"user{one}", "--timeout", "2"])
        self._here = 0

    def close(self) -> None:
        """Let all go, and be no more."""
        self.leave()
        self._swanctl("--load-conns")
        self._address("delete")

    def holders(self) -> Counter[str]:
        """Return how many tunnels each label of a gateway holds."""
        return Counter(_RESPONDER.findall(self._driver.exec(_NODE, ["swanctl", "--list-sas"]).stdout))

    def _address(self, word: str) -> None:
        # To answer there is not enough: charon wants to know the interface.
        for one in self._addresses:
            done = self._driver.exec(_NODE, ["ip", "address", word, one, "dev", "eth1"])
            assert done.returncode == 0, done.stderr

    def _swanctl(self, *words: str) -> ExecResult:
        done = self._driver.exec(_NODE, ["swanctl", *words])
        assert done.returncode == 0, done.stdout + done.stderr
        return done
