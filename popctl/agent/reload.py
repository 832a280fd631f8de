"""Whether a running agent may give way to its next image, which reads the configuration anew: the answer to SIGHUP.

Whatever is wrong with the new configuration, and were it our own code that fails over it, the present one serves on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from popctl.agent.configured import Configured
from popctl.agent.label_alarm import new_clashes
from popctl.config.diff import Change, diff
from popctl.config.errors import ConfigError

if TYPE_CHECKING:
    from popctl.agent.loop import Loop
    from popctl.model.route import Prefix

_LOG = structlog.get_logger("popctl.agent")
_REFUSED = "new configuration refused; the present one stays in force"


async def may_follow(configured: Configured, loop: Loop) -> bool:
    """Read the file again; say what it costs to take it over, or why it is refused."""
    try:
        change = await _change(configured, loop)
    except ConfigError as error:
        _LOG.error(_REFUSED, problems=str(error).splitlines())
        return False
    except Exception:  # noqa: BLE001 - a bug in a check must not end an agent that serves
        _LOG.exception(_REFUSED)
        return False
    for cost in change.costs():
        _LOG.warning("the new configuration has a cost", cost=cost)
    return True


async def _change(configured: Configured, loop: Loop) -> Change:
    """Return what the file changes.

    Raises `ConfigError`, too, for what routers would be left alone with, and for labels that another PoP has.
    """
    new = await asyncio.to_thread(Configured.load, configured.source)
    change = diff(configured.pop, new.pop)
    problems = (*change.orphans(_announced(loop)), *new_clashes(configured.pop, new.pop, loop.world.view().fleet))
    if problems:
        raise ConfigError(str(configured.source), problems)
    return change


def _announced(loop: Loop) -> frozenset[Prefix]:
    """Return what routers have, or are about to be told."""
    wanted = () if loop.decision is None else loop.decision.desired.routes
    return frozenset(key.prefix for key in (*loop.world.view().actual.routes, *wanted))
