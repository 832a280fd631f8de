"""The speaker without a relay that takes it: it says why, goes on asking, and says nothing else any more afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from popctl.wire.relay_api import PROTOCOL
from tests import pops
from tests.eventually import eventually_async
from tests.peers.bgp_edge import Spoken, speaking

REFUSED = {
    "type": "refused",
    "reason": "exabgp-version",
    "detail": "ExaBGP 6.0.0 found, at least 5.0.14 and below 6 needed",
}
WELCOME = {"type": "welcome", "protocol": PROTOCOL, "exabgp": "5.0.14", "lease_s": 3.0, "sessions": {}}


@asynccontextmanager
async def answering(path: Path, message: dict[str, object]) -> AsyncIterator[None]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(json.dumps(message).encode() + b"\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield


async def problem_of(spoken: Spoken) -> str:
    await eventually_async(lambda: spoken.actual.problem)
    assert not spoken.actual.connected
    return spoken.actual.problem


@pytest.mark.parametrize("left_behind", [False, True], ids=["never started", "killed"])
async def test_without_exabgp_the_speaker_names_the_socket_and_what_to_look_at(
    tmp_path: Path, *, left_behind: bool
) -> None:
    pop = pops.pop(run_dir=tmp_path)
    if left_behind:
        async with answering(pop.paths.relay_socket, WELCOME):
            pass
    async with speaking(pop) as spoken:
        reason = "Connection refused" if pop.paths.relay_socket.exists() else "No such file or directory"
        assert await problem_of(spoken) == f"no relay at {pop.paths.relay_socket}: {reason}; does ExaBGP run?"


async def test_a_relay_that_refuses_is_quoted_until_one_takes_the_agent(tmp_path: Path) -> None:
    pop = pops.pop(run_dir=tmp_path)
    async with speaking(pop) as spoken:
        async with answering(pop.paths.relay_socket, REFUSED):
            await eventually_async(lambda: "refuses" in spoken.actual.problem)
            assert await problem_of(spoken) == f"the relay refuses: exabgp-version: {REFUSED['detail']}"
        async with answering(pop.paths.relay_socket, WELCOME):
            await eventually_async(lambda: spoken.actual.connected)
            assert spoken.actual.problem == ""
