"""Rows built in a process of their own, which ends: numpy would cost the agent a sixth of its memory for ever.

`python -m popctl.agent.rows` reads recipes from standard input and writes rows to standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import Process
from typing import Any

from popctl.core.seeds import recipes, whole
from popctl.model.balancer import ROWS, BalancedService, Rows
from popctl.model.pop import Pop

BUILT_WITHIN_S = 60.0


class RowsError(Exception):
    """The rows could not be built."""


async def services_with_rows(pop: Pop) -> tuple[BalancedService, ...]:
    """Return the balanced services of `pop`, whole.

    Raises:
        RowsError: the other process could not be started, failed, or took too long.
    """
    wanted = recipes(pop)
    question = json.dumps(
        [{"weights": list(one.weights.items()), "seed": one.seed.hex(), "rows": ROWS} for one in wanted]
    )
    process = await _started()
    try:
        async with asyncio.timeout(BUILT_WITHIN_S):
            answer, complaint = await process.communicate(question.encode())
    except TimeoutError as error:
        raise RowsError(f"rows were not built within {BUILT_WITHIN_S:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lengths = [len(one.weights) * ROWS for one in wanted]
    if process.returncode != 0 or len(answer) != sum(lengths):
        lines = complaint.decode(errors="replace").strip().splitlines()
        raise RowsError(f"rows were not built: {lines[-1] if lines else f'exit status {process.returncode}'}")
    found, at = [], 0
    for one, length in zip(wanted, lengths, strict=True):
        found.append(Rows(width=len(one.weights), order=answer[at : at + length]))
        at += length
    return whole(pop, found)


async def _started() -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "popctl.agent.rows",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        # Such as EAGAIN or ENOMEM on a host that is short of processes or memory: it may pass.
        raise RowsError(f"rows were not built: {error}") from error


def main() -> None:
    """Build what standard input asks for."""
    from popctl.core.rendezvous import build  # noqa: PLC0415 - numpy: only in this process

    question: list[dict[str, Any]] = json.load(sys.stdin)
    for one in question:
        built = build(dict(one["weights"]), bytes.fromhex(one["seed"]), one["rows"])
        sys.stdout.buffer.write(built.order)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
