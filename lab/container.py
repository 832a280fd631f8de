"""One node of the namespace driver: its first process, and commands inside it."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.driver import ExecResult
from lab.errors import ExecTimeoutError, NodeError
from lab.host import attempt
from lab.plan import Node, Plan
from lab.processes import init_of

_HERE = Path(__file__).resolve().parent
_READY_WITHIN_S = 20.0
_TIMED_OUT = 124
"""Exit status of timeout(1)."""
_GRACE_S = 5.0
_ENVIRONMENT = {
    "HOME": "/root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}


class Container:
    """A node that is realised as processes in namespaces of their own over a copy-on-write view of the host's root."""

    def __init__(self, plan: Plan, node: Node, directory: Path) -> None:
        """`directory` keeps the pid and the log of the node."""
        self._plan = plan
        self._node = node
        self._directory = directory

    @property
    def pid(self) -> int | None:
        """The node's first process as the host numbers it; None when the node does not run."""
        return init_of(self._directory / "pid", self._plan.long_name(self._node.name))

    def start(self) -> None:
        """Start the first process and return when the node's root is in place.

        Raises:
            NodeError: it did not come up; with the end of its log.
        """
        mount_point = self._directory / "root"
        mount_point.mkdir(parents=True, exist_ok=True)
        log = self._directory / "init.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                self._start_argv(mount_point),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._env(),
            ) as starter,
        ):
            ready = starter.stdout is not None and _says_ready(starter.stdout.fileno())
        if not ready:
            raise NodeError(self._plan.name, self._node.name, f"did not start: {log.read_text().strip()[-500:]}")

    def _start_argv(self, mount_point: Path) -> list[str]:
        binds = [
            word
            for bind in self._node.binds
            for word in ("ro" if bind.read_only else "rw", str(bind.source), bind.target)
        ]
        # setsid --fork: the node belongs to nobody, so it outlives the driver and is reaped by the host's init.
        return [
            *("setsid", "--fork", "sh", str(_HERE / "spawn.sh")),
            *(str(self._directory / "pid"), self._plan.long_name(self._node.name)),
            *("sh", str(_HERE / "node_root.sh"), str(mount_point), self._node.hostname, *binds, "--"),
            *("tini", "--", *(self._node.cmd or ("sleep", "infinity"))),
        ]

    def _env(self) -> dict[str, str]:
        return {**_ENVIRONMENT, **self._node.env}

    def exec_argv(self, argv: Sequence[str]) -> list[str]:
        """Return the host's command for a program in the node.

        Raises:
            NodeError: the node does not run.
        """
        pid = self.pid
        if pid is None:
            raise NodeError(self._plan.name, self._node.name, "does not run")
        env = [f"{key}={value}" for key, value in self._env().items()]
        enter = ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        return [*enter, "env", "-i", *env, *argv]

    def exec(self, argv: Sequence[str], *, stdin: str, timeout_s: float) -> ExecResult:
        """Run a program in the node.

        Raises:
            NodeError: the node does not run.
            ExecTimeoutError: it was ended because it took too long.
        """
        # The limit must hold inside: ending nsenter would leave its child behind.
        limit = ["timeout", "--kill-after=1", str(timeout_s)]
        done = attempt(self.exec_argv([*limit, *argv]), stdin=stdin, timeout_s=timeout_s + _GRACE_S)
        if done.returncode == _TIMED_OUT:
            raise ExecTimeoutError(self._node.name, argv, timeout_s)
        return done


def _says_ready(descriptor: int) -> bool:
    """Wait for the one line that node_root.sh prints; end of file means that it failed."""
    with open(descriptor, "rb", closefd=False) as stream:
        return bool(select.select([descriptor], [], [], _READY_WITHIN_S)[0]) and stream.readline() == b"ready\n"
