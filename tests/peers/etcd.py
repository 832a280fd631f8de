"""Real etcd, one member or several, on loopback and by pid."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files for a server that wants client certificates."""

    ca: Path
    certificate: Path
    key: Path


class Etcd:
    """One member."""

    def __init__(self, name: str, ports: tuple[int, int], cluster: Sequence[str], tls: ServerTls | None) -> None:
        scheme = "https" if tls else "http"
        self.name = name
        self.url = f"{scheme}://127.0.0.1:{ports[0]}"
        self._peer_url = f"http://127.0.0.1:{ports[1]}"
        self._cluster = cluster
        self._tls = tls
        self._directory = Path(tempfile.mkdtemp(prefix="etcd-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = ["etcd", "--name", self.name, "--data-dir", str(self._directory / "data")]
        argv += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        argv += ["--listen-peer-urls", self._peer_url, "--initial-advertise-peer-urls", self._peer_url]
        argv += ["--initial-cluster", ",".join(self._cluster), "--unsafe-no-fsync", "--log-level", "warn"]
        argv += ["--heartbeat-interval", "50", "--election-timeout", "500"]
        if self._tls is not None:
            argv += ["--client-cert-auth", "--trusted-ca-file", str(self._tls.ca)]
            argv += ["--cert-file", str(self._tls.certificate), "--key-file", str(self._tls.key)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def log(self) -> str:
        path = self._directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """End it at once: what a crash looks like."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order; the data stay."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._end(signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(number)
            self._process.wait(_STOP_S)

    def ask(self, path: str, **body: object) -> Any:  # noqa: ANN401 - JSON
        """Ask the gateway with the standard library, so that the client under test does not vouch for itself."""
        request = Request(f"{self.url}/v3/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 - http(s) of ours
        with urlopen(request, timeout=2.0) as answer:  # noqa: S310 - same
            return json.load(answer)


class Cluster:
    """One or three members that know each other."""

    def __init__(self, size: int = 1, tls: ServerTls | None = None) -> None:
        ports = _free_ports(2 * size)
        pairs = [(f"m{number}", (ports[2 * number], ports[2 * number + 1])) for number in range(size)]
        cluster = [f"{name}=http://127.0.0.1:{peer}" for name, (_, peer) in pairs]
        self.members = [Etcd(name, pair, cluster, tls) for name, pair in pairs]
        self._tls = tls

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(member.url for member in self.members)

    @property
    def one(self) -> Etcd:
        return self.members[0]

    def leader(self) -> Etcd:
        """Return the member that leads now."""

        def find() -> Etcd | None:
            for member in self.members:
                try:
                    status = member.ask("maintenance/status")
                except (URLError, OSError):
                    continue
                if status.get("leader") == status["header"]["member_id"]:
                    return member
            return None

        found = eventually(find, within_s=20.0)
        assert found is not None
        return found

    def __enter__(self) -> Self:
        try:
            for member in self.members:
                member.start()
            if self._tls is None:
                self.leader()
            else:
                # Without a certificate nothing can be asked, so the port has to do.
                eventually(lambda: all(_listens(member.url) for member in self.members), within_s=20.0)
        except BaseException as error:
            error.add_note("\n".join(member.log()[-2000:] for member in self.members))
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.close()


def _listens(url: str) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
