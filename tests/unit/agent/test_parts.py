"""A part of the agent that ends by itself is noticed."""

from __future__ import annotations

import asyncio

import pytest

from popctl.agent.parts import PartEndedError, lasting


async def test_a_part_that_returns_is_an_error() -> None:
    async def part() -> None:
        return

    with pytest.raises(PartEndedError, match="part ended by itself"):
        await lasting(part())


async def test_a_part_that_cancels_itself_is_an_error() -> None:
    async def part() -> None:
        raise asyncio.CancelledError

    with pytest.raises(PartEndedError):
        await lasting(part())


async def test_a_part_that_fails_keeps_its_error() -> None:
    async def part() -> None:
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        await lasting(part())


async def test_a_caller_that_is_cancelled_ends_the_part_and_waits_for_its_last_words() -> None:
    begun = asyncio.Event()
    said: list[str] = []

    async def part() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("closed")

    task = asyncio.create_task(lasting(part()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["closed"]
