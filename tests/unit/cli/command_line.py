"""Run `popctl` as operators do: a process of its own, against an agent in this one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.out)


async def start(*words: str, socket: Path | None = None, environment: Mapping[str, str] | None = None) -> Process:
    environment = {**os.environ, "NO_COLOR": "1", **(environment or {})}
    if socket is not None:
        environment["POPCTL_SOCKET"] = str(socket)
    # A shell's background makes everything in it deaf to SIGINT.
    argv = ("env", "--default-signal=INT", sys.executable, "-m", "popctl.cli.main", *words)
    return await asyncio.create_subprocess_exec(*argv, stdout=PIPE, stderr=PIPE, env=environment)


async def ended(process: Process) -> Ended:
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def popctl(*words: str, socket: Path | None = None, environment: Mapping[str, str] | None = None) -> Ended:
    return await ended(await start(*words, socket=socket, environment=environment))
