"""What an earlier configuration left in the kernel: removed once nobody is sent there any more.

The counterpart of "rules survive the agent": they must not survive their own configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from popctl.agent.configured import Configured
from popctl.agent.loop import Loop
from popctl.lb.balancer import BalancerError
from popctl.model.balancer import Marks

_LOG = structlog.get_logger("popctl.steering")

RETRY_S = 10.0

Remove = Callable[[tuple[Marks, ...], bool], int]
"""Takes rules and routes at these places away, and with True the tables of nftables; blocks."""


def remove_here(places: tuple[Marks, ...], tables: bool) -> int:  # noqa: FBT001 - as `Remove` says
    """Remove on this host. Raises `BalancerError`."""
    # A PoP that never had a balancer holds neither netlink nor nftables in its memory.
    from popctl.lb.remove import remove  # noqa: PLC0415

    return remove(places, tables=tables)


async def keep_clean(configured: Configured, loop: Loop) -> None:
    """Remove them once, and last as long as the agent: a part that ends would end it."""
    await remove_leftovers(configured, loop)
    await asyncio.Event().wait()


async def remove_leftovers(configured: Configured, loop: Loop, *, remove: Remove = remove_here) -> None:
    """Remove them, however often it takes, and say in the record that they are gone."""
    if not configured.leftovers:
        return
    gone = configured.place is None
    await loop.until(_unneeded)
    places = tuple(
        Marks(base=one.base, table_base=one.table_base, priority=one.priority) for one in configured.leftovers
    )
    while True:
        try:
            removed = await asyncio.to_thread(remove, places, gone)
        except BalancerError as error:
            _LOG.error("balancer of an earlier configuration not removed", problem=str(error))
            await asyncio.sleep(RETRY_S)
        else:
            break
    await asyncio.to_thread(configured.cleaned().remember_ids)
    _LOG.info("balancer of an earlier configuration removed", changes=removed)


def _unneeded(loop: Loop) -> bool:
    """Return whether routes that are not wanted any more are proven gone, and the new balancer, if any, is in force."""
    view = loop.world.view()
    if loop.decision is None or not (view.actual.connected and view.actual.inherited):
        return False
    heard = {key.prefix for key in (*view.actual.routes, *view.actual.pending, *view.actual.failed)}
    wanted = {prefix for service in loop.world.pop.services for prefix in service.prefixes}
    return heard <= wanted and (loop.world.pop.tables is None or view.balancer.in_force)
