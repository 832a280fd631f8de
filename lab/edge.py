"""The daemons of a PoP's edge host: ExaBGP with the relay, and the agent. Everything else is in the topology file."""

from __future__ import annotations

import contextlib
import signal

from lab import daemons
from lab.driver import Driver
from lab.errors import NodeError

GROUP = "edge"
PYTHON = "/opt/popctl/.venv/bin/python"
CONFIG = "/etc/popctl/popctl.yaml"
AGENT, EXABGP = "agent", "exabgp"
_LAUNCHER = "/opt/popctl/exabgp/launch.py"
_RENDERED = "/run/popctl/exabgp"
_EXABGP_ENVIRONMENT = {"EXABGP_ENVFILE": f"{_RENDERED}/exabgp.ini"}
_PYTHON_ENVIRONMENT = {"PYTHONPATH": "/opt/popctl", "PYTHONDONTWRITEBYTECODE": "1"}


def start(driver: Driver, node: str) -> None:
    """Start what an edge host runs, from its `popctl.yaml`.

    Raises:
        NodeError: the configuration is refused, something runs already, or the node does not run.
    """
    settings = [f"{key}={value}" for key, value in _PYTHON_ENVIRONMENT.items()]
    command = [PYTHON, "-m", "popctl.cli.main", "check", CONFIG, "--write", _RENDERED, "--user", "root"]
    checked = driver.exec(node, ["env", *settings, *command])
    if checked.returncode != 0:
        raise NodeError(driver.plan.name, node, f"popctl check: {checked.stdout}{checked.stderr}".strip())
    start_exabgp(driver, node)
    start_agent(driver, node)


def start_exabgp(driver: Driver, node: str) -> None:
    """Start ExaBGP, which starts the relay.

    Raises:
        NodeError: it runs already, or the node does not run.
    """
    argv = [PYTHON, "-I", _LAUNCHER, "server", f"{_RENDERED}/exabgp.conf"]
    daemons.start(driver, node, EXABGP, argv, env=_EXABGP_ENVIRONMENT)


def start_agent(driver: Driver, node: str) -> None:
    """Start the agent.

    Raises:
        NodeError: it runs already, or the node does not run.
    """
    daemons.start(driver, node, AGENT, [PYTHON, "-m", "popctl.agent", CONFIG], env=_PYTHON_ENVIRONMENT)


def start_all(driver: Driver) -> None:
    """Start every edge host of the lab.

    Raises:
        NodeError: as in `start`.
    """
    for node in driver.plan.group(GROUP):
        start(driver, node)


def stop(driver: Driver, node: str) -> None:
    """Tell both to end, without waiting: the agent withdraws, and ExaBGP's closed sessions take what is left.

    Raises:
        NodeError: it does not run.
    """
    with contextlib.suppress(NodeError):
        daemons.send(driver, node, AGENT, signal.SIGTERM)
    daemons.send(driver, node, EXABGP, signal.SIGTERM)
