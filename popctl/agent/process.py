"""The agent as a process: what it starts with, its exit codes, and the next image of itself.

The four ways to end and what each means for the routes: docs/decisions/001.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from popctl.agent.configured import Configured
from popctl.agent.main import Agent
from popctl.agent.stop import Ending
from popctl.config.errors import ConfigError
from popctl.config.lint import lint
from popctl.listen.errors import ListenError

if TYPE_CHECKING:
    from pathlib import Path

_LOG = structlog.get_logger("popctl.agent")
EXIT_UNPROVEN = 75
"""EX_TEMPFAIL: the agent ended, but the last withdraw was not proven."""
EXIT_SOCKET = 71
"""EX_OSERR: the API's unix socket cannot be opened; somebody else may serve this PoP already."""
EXIT_CONFIG = 78
"""EX_CONFIG."""


def _allow_many_sockets() -> None:
    """Raise the soft limit of open files to the hard one: every datagram probe holds a connected socket."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(source: Path) -> int:
    """Run the agent of the configuration `source` and return the exit code."""
    _allow_many_sockets()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        configured = Configured.load(source)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIG
    for warning in lint(configured.pop):
        _LOG.warning("the configuration breaks something", warning=str(warning))
    agent = Agent(configured)
    ending: Ending | None = None
    try:
        ending = asyncio.run(agent.run())
    except* ListenError as errors:
        sys.stderr.write("".join(f"{error}\n" for error in errors.exceptions))
    if ending is None:
        return EXIT_SOCKET
    if ending is Ending.REPLACE:
        agent.leave_signals()
        with suppress(OSError):
            sys.stderr.flush()
        # The same pid goes on as a new process image: new code, new configuration, the same routes.
        os.execv(sys.executable, [sys.executable, "-m", "popctl.agent", str(source)])  # noqa: S606 - no shell wanted
    return EXIT_UNPROVEN if ending is Ending.UNPROVEN else 0
