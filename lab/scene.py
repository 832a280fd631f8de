"""What can be seen of the running lab from outside: routers, agents and where the client lands. Changes nothing."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.bird_socket import BirdSocket, Changes
from lab.driver import Driver

VIP = "198.51.100.1"
PREFIX = "198.51.100.0/24"
POPS: Mapping[str, str] = {"pop1": "r1", "pop2": "r2"}
"""PoP -> its upstream router, which knows it as a session of the same name."""
LANDING = "/opt/popctl/lab/landing.py"
_KEPT_ANSWERS = 4096
_FRESH_S = 0.03
"""The agent answers a user 50 times a second at most, and the CLI wants its share."""


@dataclass(frozen=True, slots=True)
class Landing:
    """One question of the client and where it was answered."""

    asked_unix_s: float
    label: str | None
    """The label of the backend that answered; None when nobody did in time."""


class Witness:
    """The client asks the VIP ten times a second, for as long as this is open."""

    def __init__(self, driver: Driver, interval_s: float = 0.1) -> None:
        argv = ["python3", "-u", LANDING, VIP, "--count", "1000000", "--timeout-s", "0.3"]
        command = driver.exec_argv("client", [*argv, "--interval-s", str(interval_s)])
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._answers: deque[Landing] = deque(maxlen=_KEPT_ANSWERS)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(5.0)
        self._reader.join(5.0)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - Popen was told to make it
        for line in self._process.stdout:
            answer = json.loads(line)
            self._answers.append(Landing(answer["asked_unix_s"], answer["landed"]))

    def since(self, unix_s: float) -> tuple[Landing, ...]:
        """Return the answers to questions asked at or after `unix_s`, oldest first."""
        return tuple(answer for answer in self._answers.copy() if answer.asked_unix_s >= unix_s)

    @property
    def latest(self) -> Landing | None:
        """Return the latest answer, if there is one."""
        return self._answers[-1] if self._answers else None


class Scene:
    """One lab, looked at."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._pids: dict[str, int] = {}
        self._changes: defaultdict[str, Changes] = defaultdict(Changes)
        self._heard: dict[str, tuple[float, Mapping[str, Any] | None]] = {}

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Label -> backend node, as the topology file says."""
        nodes = self.driver.plan.nodes
        return {
            node.labels["popctl.spi-label"]: name for name, node in nodes.items() if "popctl.spi-label" in node.labels
        }

    def pop_of(self, label: str | None) -> str | None:
        """Return the PoP whose backend carries `label`."""
        backend = self.labels.get(label or "")
        return None if backend is None else backend.partition("-")[0]

    def root(self, node: str) -> Path:
        """Return the node's file system as this host sees it."""
        # Inspecting runs every health check, and that of a hung daemon waits: asked again only when the node is new.
        if not Path(f"/proc/{self._pids.get(node, 0)}").exists():
            self._pids = {status.node: status.pid for status in self.driver.inspect() if status.pid is not None}
        return Path(f"/proc/{self._pids[node]}/root")

    def bird(self, router: str) -> BirdSocket:
        """Open the control socket of a router."""
        return BirdSocket(self.root(router) / "run/bird/bird.ctl")

    def announced(self, pop: str) -> bool:
        """Tell whether the upstream router of a PoP has the route from it."""
        with self.bird(POPS[pop]) as bird:
            return bird.carries(PREFIX, pop)

    def communities(self, pop: str) -> str:
        """Return the communities of the PoP's route at its upstream, as BIRD writes them."""
        with self.bird(POPS[pop]) as bird:
            reply = bird.ask(f"show route {PREFIX} protocol {pop} all")
        return " ".join(line.split(":", 1)[1].strip() for line in reply.splitlines() if "BGP.community:" in line)

    def updates(self, pop: str) -> int:
        """Return how many route changes the PoP has sent to its upstream so far."""
        with self.bird(POPS[pop]) as bird:
            return self._changes[pop].total(bird.received(pop))

    def status(self, pop: str) -> Mapping[str, Any] | None:
        """Return what the agent of a PoP says, hundredths of a second old at most; None when it does not answer."""
        heard_at, answer = self._heard.get(pop, (0.0, None))
        if time.monotonic() - heard_at > _FRESH_S:
            answer = self.ask(pop, "/v1/status")
            self._heard[pop] = (time.monotonic(), answer)
        return answer

    def look_again(self) -> None:
        """Forget what agents have told, because something has been done to them."""
        self._heard.clear()

    def metrics(self, pop: str) -> str:
        """Return what Prometheus would read from the agent of a PoP."""
        connection = _UnixConnection(self.root(pop) / "run/popctl/api.sock")
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def ask(self, pop: str, path: str) -> Mapping[str, Any] | None:
        """Read something from the agent of a PoP over its API; None when it does not answer, or not with 200."""
        connection = _UnixConnection(self.root(pop) / "run/popctl/api.sock")
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            answer: Mapping[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        else:
            return answer if response.status == HTTPStatus.OK else None
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("popctl", timeout=2.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
