"""The containerlab driver: the same plan, raised by the `containerlab` program with containers of an image."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence

from lab.driver import ExecResult, NodeState, NodeStatus
from lab.errors import AlreadyUpError, DriverUnavailableError, ExecTimeoutError, NodeError, NotUpError, StepFailedError
from lab.host import HostCommandError, attempt, run
from lab.plan import LINUX, Node, Plan

_DEPLOY_S = 300.0
_TIMED_OUT = 124
_GRACE_S = 5.0
_POLL_S = 0.2


def unavailable() -> list[str]:
    """Return every reason why containerlab cannot be used on this host; none means that it can."""
    reasons = [f"{program} is not on PATH" for program in ("containerlab", "docker") if not shutil.which(program)]
    if shutil.which("docker"):
        try:
            answer = attempt(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=10)
            if answer.returncode != 0:
                reasons.append(f"docker does not answer: {answer.stderr.strip().splitlines()[-1:]}")
        except HostCommandError as error:
            reasons.append(f"docker does not answer: {error}")
    return reasons


class ContainerlabDriver:
    """Raises a plan by way of `containerlab deploy`."""

    def __init__(self, plan: Plan) -> None:
        """Nothing happens before `deploy`.

        Raises:
            DriverUnavailableError: containerlab or docker is missing.
        """
        if reasons := unavailable():
            raise DriverUnavailableError("containerlab", reasons)
        self._plan = plan

    @property
    def plan(self) -> Plan:
        """What this driver raises."""
        return self._plan

    def deploy(self) -> None:
        """Raise the lab; on failure nothing is left.

        Raises:
            AlreadyUpError: a lab of this name exists.
            StepFailedError: containerlab failed, or a node did not become healthy.
        """
        if self._is_up():
            raise AlreadyUpError(self._plan.name)
        try:
            self._containerlab("deploy", timeout_s=_DEPLOY_S)
            self._await_health()
        except BaseException as error:
            self.destroy()
            if isinstance(error, HostCommandError):
                raise StepFailedError(self._plan.name, [str(error)]) from error
            raise

    def _await_health(self) -> None:
        pending = {node.name: node.healthcheck.patience_s for node in self._linux_nodes() if node.healthcheck}
        deadline = time.monotonic() + max(pending.values(), default=0.0)
        while pending:
            healthy = {status.node for status in self.inspect() if status.healthy}
            pending = {name: patience for name, patience in pending.items() if name not in healthy}
            if pending and time.monotonic() >= deadline:
                raise StepFailedError(self._plan.name, [f"{name} is not healthy" for name in pending])
            time.sleep(_POLL_S if pending else 0)

    def destroy(self) -> None:
        """Take everything down.

        Raises:
            HostCommandError: containerlab failed.
        """
        self._containerlab("destroy", "--cleanup", timeout_s=_DEPLOY_S)

    def inspect(self) -> tuple[NodeStatus, ...]:
        """Tell how the nodes are.

        Raises:
            NotUpError: there is no such lab.
        """
        if not self._is_up():
            raise NotUpError(self._plan.name)
        return tuple(self._status(node) for node in self._linux_nodes())

    def _status(self, node: Node) -> NodeStatus:
        long_name = self._plan.long_name(node.name)
        answer = attempt(["docker", "inspect", "--format", "{{json .State}}", long_name])
        state = json.loads(answer.stdout) if answer.returncode == 0 else {}
        health = state.get("Health", {}).get("Status")
        return NodeStatus(
            node=node.name,
            long_name=long_name,
            kind=node.kind,
            image=node.image,
            state=NodeState.RUNNING if state.get("Running") else NodeState.EXITED,
            pid=state.get("Pid") or None,
            healthy=None if health is None else health == "healthy",
        )

    def exec(self, node: str, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 30.0) -> ExecResult:
        """Run a program in a node and wait for it.

        Raises:
            NodeError: there is no such node.
            ExecTimeoutError: it took too long and was ended.
        """
        limit = ["timeout", "--kill-after=1", str(timeout_s)]
        done = attempt(self.exec_argv(node, [*limit, *argv]), stdin=stdin, timeout_s=timeout_s + _GRACE_S)
        if done.returncode == _TIMED_OUT:
            raise ExecTimeoutError(node, argv, timeout_s)
        return done

    def exec_argv(self, node: str, argv: Sequence[str]) -> list[str]:
        """Return the host's command that runs `argv` in a node.

        Raises:
            NodeError: there is no such node.
        """
        if node not in {known.name for known in self._linux_nodes()}:
            raise NodeError(self._plan.name, node, "there is no such linux node")
        return ["docker", "exec", "--interactive", self._plan.long_name(node), *argv]

    def stop(self, node: str) -> None:
        """Stop a node; containerlab keeps its interfaces.

        Raises:
            HostCommandError: containerlab failed.
        """
        self._containerlab("stop", "--node", node)

    def start(self, node: str) -> None:
        """Start a stopped node.

        Raises:
            HostCommandError: containerlab failed.
        """
        self._containerlab("start", "--node", node)

    def _linux_nodes(self) -> list[Node]:
        return [node for node in self._plan.nodes.values() if node.kind == LINUX]

    def _is_up(self) -> bool:
        listing = ["docker", "ps", "--all", "--quiet", "--filter", f"label=containerlab={self._plan.name}"]
        return bool(run(listing).strip())

    def _containerlab(self, action: str, *words: str, timeout_s: float = 60.0) -> None:
        run(
            ["containerlab", action, "--topo", str(self._plan.path), "--name", self._plan.name, *words],
            timeout_s=timeout_s,
        )
