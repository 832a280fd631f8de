"""The parts of the agent: none of them may end by itself, whatever the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine


class PartEndedError(Exception):
    """A part of the agent ended although nobody told it to; always a bug. It takes the process down, as any failure."""

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} ended by itself")
        self.part = part


async def end(parts: Collection[asyncio.Task[None]]) -> None:
    """Cancel parts and wait until they have ended. What they failed with is left to their task group."""
    for part in parts:
        part.cancel()
    await asyncio.wait(parts)


async def lasting(part: Coroutine[object, object, None]) -> None:
    """Run a part until cancelled.

    A task group lets parts go that return or that are cancelled from within. A PoP without its fleet, or its probes,
    would go on as if nothing had happened.

    Raises:
        PartEndedError: the part returned, or was cancelled by something else than the caller.
    """
    name = getattr(part, "__qualname__", "a part")
    # In a task of its own, so that a cancelled part is told from a cancelled caller.
    inner = asyncio.create_task(part, name=name)
    try:
        await asyncio.wait((inner,))
    finally:
        if not inner.done():
            inner.cancel()
            await asyncio.wait((inner,))
    if inner.cancelled():
        raise PartEndedError(name)
    inner.result()
    raise PartEndedError(name)
