"""The ordered stop: drain, withdraw, proof; and staying for as long as the fleet's guard does not let the PoP go."""

from __future__ import annotations

import asyncio
import signal
from enum import Enum
from typing import Final

import structlog

from popctl.agent.events import StopOrdered
from popctl.agent.loop import Loop

_LOG = structlog.get_logger("popctl.agent")

PROOF_TIMEOUT_S: Final = 10.0
"""How long a stop waits for the proof of the last withdraw, counted from when nothing is wanted announced any more."""


class Ending(Enum):
    """Why the agent leaves its main loop."""

    STOPPED = "stopped"
    UNPROVEN = "unproven"
    REPLACE = "replace"


async def stop(loop: Loop, signals: asyncio.Queue[signal.Signals], *, proof_s: float = PROOF_TIMEOUT_S) -> Ending:
    """Order the stop and see it through, while all parts still work.

    An agent that ends takes its routes with it, permit or not: the lease runs out. So one that the guard holds stays
    and says so, until others serve, or until whoever runs it insists: by a second signal, given after the hold was
    told.
    """
    loop.put(StopOrdered())
    proof = asyncio.create_task(_proven(loop, proof_s), name="proof of the stop")
    others = [asyncio.create_task(_insisted(loop, signals)), asyncio.create_task(_tell_holds(loop))]
    try:
        done, _ = await asyncio.wait((proof, *others), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return proof.result() if proof.done() else Ending.UNPROVEN
    finally:
        for task in (proof, *others):
            task.cancel()


def held(loop: Loop) -> tuple[str, ...]:
    """Return the services that a stop has to leave announced, by the guard's word."""
    if loop.decision is None or not loop.world.stopping:
        return ()
    return tuple(one.service for one in loop.decision.desired.services if one.held)


async def _proven(loop: Loop, proof_s: float) -> Ending:
    while True:
        await loop.until(_nothing_wanted)
        try:
            async with asyncio.timeout(proof_s):
                await loop.until(lambda loop: _all_withdrawn(loop) or not _nothing_wanted(loop))
        except TimeoutError:
            pending = sorted(map(str, loop.world.view().actual.pending))
            _LOG.error("stopped without proof of the last withdraw", pending=pending)
            return Ending.UNPROVEN
        if _all_withdrawn(loop):
            return Ending.STOPPED


async def _insisted(loop: Loop, signals: asyncio.Queue[signal.Signals]) -> None:
    while True:
        number = await signals.get()
        if number is signal.SIGHUP:
            _LOG.warning("no reload: the agent is stopping")
        elif services := held(loop):
            _LOG.error("stopped against the fleet's guard, as ordered twice", services=services)
            return
        else:
            # It cannot be meant against a hold that nobody was told of yet.
            _LOG.info("stopping already")


async def _tell_holds(loop: Loop) -> None:
    while True:
        await loop.until(lambda loop: bool(held(loop)))
        _LOG.error("the stop is held, the agent stays; a second SIGTERM ends it all the same", services=held(loop))
        await loop.until(lambda loop: not held(loop))


def _nothing_wanted(loop: Loop) -> bool:
    return loop.decision is not None and loop.world.stopping and not loop.decision.desired.routes


def _all_withdrawn(loop: Loop) -> bool:
    actual = loop.world.view().actual
    return _nothing_wanted(loop) and actual.inherited and not actual.routes and not actual.pending
