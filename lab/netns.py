"""The namespace driver: raises a plan with `ip`, `unshare` and overlayfs. Needs root; no images, no engine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lab import processes, wiring
from lab.container import Container
from lab.driver import ExecResult, NodeState, NodeStatus
from lab.errors import AlreadyUpError, DriverUnavailableError, LabError, NodeError, NotUpError, StepFailedError
from lab.host import is_root, missing_programs
from lab.plan import LINUX, Healthcheck, Milestone, Node, Plan, Stage
from lab.progress import AbortedError, Progress
from lab.state import StateDirectory

_PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "sysctl": "procps",
    "ethtool": "ethtool",
    "tini": "tini",
}
_STEP_S = 60.0
"""The longest time for one command of the configure stage, and for one wait on another node."""
_FIRST_RETRY_S = 0.05


class NetnsDriver:
    """Raises a plan as processes in namespaces on this host."""

    def __init__(self, plan: Plan) -> None:
        """Nothing happens before `deploy`.

        Raises:
            DriverUnavailableError: not root, or a program is missing.
        """
        reasons = missing_programs(_PROGRAMS) + ([] if is_root() else ["root is needed"])
        if reasons:
            raise DriverUnavailableError("netns", reasons)
        self._plan = plan
        self._state = StateDirectory(plan.name)

    @property
    def plan(self) -> Plan:
        """What this driver raises."""
        return self._plan

    def deploy(self) -> None:
        """Raise the lab; on failure or interruption nothing is left.

        Raises:
            AlreadyUpError: a lab of this name exists.
            BusyError: another process is changing it.
            StepFailedError: something did not come up.
        """
        with self._state.locked():
            if self._state.exists():
                raise AlreadyUpError(self._plan.name)
            names = wiring.namespaces(self._plan)
            if present := wiring.taken(names):
                raise StepFailedError(self._plan.name, [f"network namespace {name} exists already" for name in present])
            self._state.create(self._plan, names)
            try:
                wiring.create(self._plan)
                wiring.connect(self._plan)
                self._raise_nodes(self._linux_nodes())
            except BaseException:
                self._remove()
                raise

    def _linux_nodes(self) -> list[Node]:
        return [node for node in self._plan.nodes.values() if node.kind == LINUX]

    def _raise_nodes(self, nodes: Sequence[Node]) -> None:
        progress = Progress()
        with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
            try:
                failures = [
                    failure for failure in pool.map(lambda node: self._raise_node(node, progress), nodes) if failure
                ]
            except BaseException:
                # Interrupted: a command that still runs in a node would hold up the clean-up.
                progress.abort()
                processes.end(wiring.namespaces(self._plan))
                raise
        if failures:
            raise StepFailedError(self._plan.name, failures)

    def _raise_node(self, node: Node, progress: Progress) -> str | None:
        """Take a node through its stages; return what went wrong."""
        try:
            for stage in Stage:
                progress.wait_for(node.waits.get(stage, ()), within_s=_STEP_S)
                self._pass_stage(node, stage, progress)
                progress.reach(Milestone(node.name, stage))
        except AbortedError:
            return None
        except LabError as error:
            progress.abort()
            return f"{node.name}: {error}"
        return None

    def _pass_stage(self, node: Node, stage: Stage, progress: Progress) -> None:
        match stage:
            case Stage.CREATE:
                progress.pause(node.startup_delay_s)
                self._container(node.name).start()
            case Stage.CREATE_LINKS:
                wiring.activate(self._plan, node.name)
            case Stage.CONFIGURE:
                self._configure(node)
            case Stage.HEALTHY:
                if node.healthcheck:
                    self._await_health(node, node.healthcheck, progress)

    def _configure(self, node: Node) -> None:
        for argv in node.exec:
            done = self.exec(node.name, argv, timeout_s=_STEP_S)
            if done.returncode != 0:
                raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")

    def _await_health(self, node: Node, check: Healthcheck, progress: Progress) -> None:
        wait_s, waited_s = _FIRST_RETRY_S, 0.0
        while not self._is_healthy(node.name, check):
            if waited_s >= check.patience_s:
                raise LabError(f"not healthy within {check.patience_s} s: {' '.join(check.argv)}")
            progress.pause(wait_s)
            waited_s += wait_s
            wait_s = min(wait_s * 1.5, check.interval_s)

    def _is_healthy(self, node: str, check: Healthcheck) -> bool:
        try:
            return self.exec(node, check.argv, timeout_s=check.timeout_s).returncode == 0
        except LabError:
            return False

    def destroy(self) -> None:
        """Take everything down: what the record names, and what the plan would have made.

        Raises:
            BusyError: another process is changing the lab.
        """
        with self._state.locked():
            self._remove()

    def _remove(self) -> None:
        record = self._state.read()
        names = tuple({*wiring.namespaces(self._plan), *(record.namespaces if record else ())})
        processes.end(names)
        wiring.delete(names)
        self._state.remove()

    def inspect(self) -> tuple[NodeStatus, ...]:
        """Tell how the nodes are.

        Raises:
            NotUpError: there is no such lab.
        """
        self._require_up()
        return tuple(self._status(node) for node in self._linux_nodes())

    def _status(self, node: Node) -> NodeStatus:
        pid = self._container(node.name).pid
        return NodeStatus(
            node=node.name,
            long_name=self._plan.long_name(node.name),
            kind=node.kind,
            image=node.image,
            state=NodeState.EXITED if pid is None else NodeState.RUNNING,
            pid=pid,
            healthy=self._is_healthy(node.name, node.healthcheck) if pid and node.healthcheck else None,
        )

    def exec(self, node: str, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 30.0) -> ExecResult:
        """Run a program in a node and wait for it.

        Raises:
            NodeError: there is no such node, or it does not run.
            ExecTimeoutError: it took too long and was ended.
        """
        return self._container(node).exec(argv, stdin=stdin, timeout_s=timeout_s)

    def exec_argv(self, node: str, argv: Sequence[str]) -> list[str]:
        """Return the host's command that runs `argv` in a node.

        Raises:
            NodeError: there is no such node, or it does not run.
        """
        return self._container(node).exec_argv(argv)

    def stop(self, node: str) -> None:
        """Kill a node and park its interfaces.

        Raises:
            NodeError: there is no such node, or it does not run.
        """
        with self._state.locked():
            if self._container(node).pid is None:
                raise NodeError(self._plan.name, node, "does not run")
            processes.end([self._plan.long_name(node)])
            wiring.park(self._plan, node)

    def start(self, node: str) -> None:
        """Start a stopped node afresh.

        Raises:
            NodeError: there is no such node, or it runs.
            StepFailedError: it did not come up.
        """
        with self._state.locked():
            if self._container(node).pid is not None:
                raise NodeError(self._plan.name, node, "runs already")
            if not wiring.taken((wiring.parked(self._plan, node),)):
                # It died without us: its interfaces are still in its namespace.
                wiring.park(self._plan, node)
            wiring.unpark(self._plan, node)
            # Without waits: the others are where they are.
            self._raise_nodes([replace(self._plan.nodes[node], waits={})])

    def _container(self, node: str) -> Container:
        found = self._plan.nodes.get(node)
        if found is None or found.kind != LINUX:
            raise NodeError(self._plan.name, node, "there is no such linux node")
        self._require_up()
        return Container(self._plan, found, self._state.node(node))

    def _require_up(self) -> None:
        if not self._state.exists():
            raise NotUpError(self._plan.name)
