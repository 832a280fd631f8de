"""The daemons of a node, by name: started and signalled through `/opt/lab/bin/daemon` in the node."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from lab.driver import Driver
from lab.errors import NodeError


def start(driver: Driver, node: str, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> None:
    """Start a daemon. Its output goes to `/var/log/lab/NAME.log` in the node.

    Raises:
        NodeError: it runs already, or the node does not run.
    """
    settings = [f"{key}={value}" for key, value in (env or {}).items()]
    _daemon(driver, node, ["start", name, *(["env", *settings] if settings else []), *argv])


def send(driver: Driver, node: str, name: str, signum: signal.Signals) -> None:
    """Send a signal to a daemon: SIGKILL is a crash, SIGSTOP a hang, SIGTERM an orderly stop.

    Raises:
        NodeError: it does not run.
    """
    _daemon(driver, node, ["signal", name, signum.name.removeprefix("SIG")])


def runs(driver: Driver, node: str, name: str) -> bool:
    """Tell whether a daemon's process exists."""
    return driver.exec(node, ["daemon", "pid", name]).returncode == 0


def log(driver: Driver, node: str, name: str) -> str:
    """Return what a daemon has printed so far."""
    return driver.exec(node, ["cat", f"/var/log/lab/{name}.log"]).stdout


def _daemon(driver: Driver, node: str, words: Sequence[str]) -> None:
    done = driver.exec(node, ["daemon", *words])
    if done.returncode != 0:
        raise NodeError(driver.plan.name, node, done.stderr.strip())
