"""The relay as a process under an ExaBGP that tells one version or another: with whom it speaks, and with whom not."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from popctl.bgp.exabgp import ExaBgpSpeaker
from popctl.bgp.render import RELAY, render
from popctl.model.pop import Lease
from tests.eventually import eventually_async
from tests.peers.exabgp import CHECKOUT, KEY4, ROUTE4, edge_pop
from tests.unit.bgp.test_render import INSTALLATION

STAND_IN = Path(__file__).with_name("exabgp_of_version.py")
HANDSHAKE = ["reset", "version"]


class Edge:
    """A speaker, the relay, and what the relay said to its ExaBGP."""

    def __init__(self, speaker: ExaBgpSpeaker) -> None:
        self.speaker = speaker
        self.said: list[str] = []

    async def listen(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            self.said.append(line.decode().strip())


@asynccontextmanager
async def edge(directory: Path, version: str) -> AsyncIterator[Edge]:
    """Let a speaker that wants a route meet the relay of an ExaBGP of this version."""
    # Long, because at its end the relay ends ExaBGP, whatever it is.
    pop = replace(edge_pop(directory), lease=Lease(duration_s=60.0))
    (directory / RELAY).write_text(render(pop, INSTALLATION)[RELAY])
    relay = [sys.executable, "-I", str(CHECKOUT / "exabgp" / "relay"), str(directory / RELAY)]
    exabgp = await asyncio.create_subprocess_exec(sys.executable, str(STAND_IN), version, *relay, stdout=PIPE)
    assert exabgp.stdout is not None
    found = Edge(ExaBgpSpeaker(pop))
    await found.speaker.set({KEY4: ROUTE4})
    tasks = [
        asyncio.create_task(found.listen(exabgp.stdout)),
        asyncio.create_task(found.speaker.run(lambda _: None)),
    ]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        exabgp.kill()
        await exabgp.wait()


@pytest.mark.parametrize("version", ["4.2.25", "5.0.13", "6.0.0"])
async def test_under_an_exabgp_of_another_line_no_agent_is_let_in_and_nothing_is_said(
    tmp_path: Path, version: str
) -> None:
    async with edge(tmp_path, version) as found:
        problem = f"ExaBGP {version} found, at least 5.0.14 and below 6 needed"
        await eventually_async(lambda: problem in (found.speaker.problem or ""))
        assert found.said == HANDSHAKE
        assert found.speaker.renewals == 0


async def test_under_the_known_line_an_agent_is_let_in_and_heard(tmp_path: Path) -> None:
    async with edge(tmp_path, "5.0.15") as found:
        await eventually_async(lambda: len(found.said) > len(HANDSHAKE))
        assert found.said[:2] == HANDSHAKE
