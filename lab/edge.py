"""The daemons of a PoP's edge host. Everything else of the lab comes from the topology file; this is what popctl adds.

For now an edge runs ExaBGP alone, with a fixed announcement.
"""

from __future__ import annotations

import signal

from lab import daemons
from lab.driver import Driver

GROUP = "edge"
PYTHON = "/opt/popctl/.venv/bin/python"
_EXABGP = "exabgp"
_EXABGP_ENVIRONMENT = {
    "exabgp_daemon_user": "root",
    "exabgp_api_cli": "false",
    "exabgp_log_destination": "stdout",
    "exabgp_log_statistics": "false",
}


def start(driver: Driver, node: str) -> None:
    """Start what an edge host runs.

    Raises:
        NodeError: it runs already, or the node does not run.
    """
    argv = [PYTHON, "-m", "exabgp", "server", "/etc/popctl/exabgp-static.conf"]
    daemons.start(driver, node, _EXABGP, argv, env=_EXABGP_ENVIRONMENT)


def start_all(driver: Driver) -> None:
    """Start every edge host of the lab.

    Raises:
        NodeError: as in `start`.
    """
    for node in driver.plan.group(GROUP):
        start(driver, node)


def stop(driver: Driver, node: str) -> None:
    """End what `start` started, in good order.

    Raises:
        NodeError: it does not run.
    """
    daemons.send(driver, node, _EXABGP, signal.SIGTERM)
