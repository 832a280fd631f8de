"""The client's IKEv2 tunnel with a ping that goes through it all the time: whoever loses a packet is found out."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from types import TracebackType
from typing import Self

from lab import daemons
from lab.driver import Driver
from lab.errors import NodeError

_BEHIND = "10.99.0.1"
_PING = "tunnel-ping"
_PID_FILE = f"/run/lab/{_PING}.pid"
_SEQUENCE = re.compile(r"icmp_seq=(\d+) ")
_RESPONDER = re.compile(r"ESTABLISHED, IKEv2, [0-9a-f]{16}_i\* ([0-9a-f]{8})[0-9a-f]{8}_r")


class Tunnel:
    """One tunnel, built on entry and taken down at the end."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._ping: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Build it and begin to ping.

        Raises:
            NodeError: there is no tunnel.
        """
        done = self._driver.exec("client", ["swanctl", "--initiate", "--child", "net", "--timeout", "10"])
        if done.returncode != 0:
            raise NodeError(self._driver.plan.name, "client", (done.stdout + done.stderr).strip()[-500:])
        # Line by line, also into a pipe.
        ping = ["stdbuf", "-oL", "ping", "-n", "-i", "0.1", _BEHIND]
        argv = self._driver.exec_argv("client", ["sh", "-c", f'echo $$ >{_PID_FILE}; exec "$@"', "sh", *ping])
        self._ping = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._reader.start()

    def stop(self) -> None:
        """End ping and tunnel; more than once is fine."""
        if self._ping is None:
            return
        # What runs in the node does not end with the command that started it.
        daemons.send(self._driver, "client", _PING, signal.SIGTERM)
        self._ping.wait(5.0)
        self._reader.join(5.0)
        if self._ping.stdout is not None:
            self._ping.stdout.close()
        self._ping = None
        self._driver.exec("client", ["swanctl", "--terminate", "--ike", "vpn", "--timeout", "2"])

    def label(self) -> str | None:
        """Return the label of the server, as the responder's SPI has it; None without a tunnel."""
        found = _RESPONDER.search(self._driver.exec("client", ["swanctl", "--list-sas"]).stdout)
        return found[1] if found else None

    @property
    def received(self) -> int:
        """How many different answers came back."""
        return len(self._seen)

    @property
    def lost(self) -> int:
        """How many answers are missing before the latest one."""
        return max(self._seen, default=0) - len(self._seen)

    def _read(self) -> None:
        assert self._ping is not None  # noqa: S101 - started by `start`
        assert self._ping.stdout is not None  # noqa: S101 - Popen was told to make it
        for line in self._ping.stdout:
            found = _SEQUENCE.search(line)
            if found:
                self._seen.add(int(found[1]))
