"""A balancer process of its own, to be killed: `python -m tests.peers.lb_agent NAMESPACE BACKENDS`."""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popctl.lb.balancer import RefusedTablesError
from popctl.lb.nft import NftBalancer
from popctl.model.balancer import BalancerActual
from tests.balancers import rows, tables

ROOT = Path(__file__).resolve().parents[2]
_LINE_WITHIN_S = 15.0


class BalancerProcess:
    """The process as its test sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def report(self) -> str:
        """Return the next report. Raises `AssertionError` with the process's complaint when none comes."""
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], _LINE_WITHIN_S)
        assert ready, f"no report within {_LINE_WITHIN_S} s"
        line = self._process.stdout.readline()
        assert line, f"the process ended: {self._complaint()}"
        return line.decode().strip()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait(timeout=10)

    def _complaint(self) -> str:
        return f"status {self._process.wait(timeout=10)}: {self._process.communicate()[1].decode()}"


@contextmanager
def balancer_process(namespace: str, backends: int) -> Iterator[BalancerProcess]:
    """Run a balancer in a process; it is gone afterwards, whatever the test did."""
    words = [sys.executable, "-m", "tests.peers.lb_agent", namespace, str(backends)]
    # Unbuffered: `select` does not see a line that already waits in a buffer of ours.
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, cwd=ROOT) as process:
        try:
            yield BalancerProcess(process)
        finally:
            process.kill()


def report(actual: BalancerActual) -> None:
    """Say in one line what is in force."""
    print(actual.in_force, actual.writes, actual.drift_repairs, actual.problem, flush=True)  # noqa: T201 - the test reads it


async def main(namespace: str, backends: int) -> None:
    """Keep the tables in force for ever."""
    balancer = NftBalancer(netns=namespace, audit_s=0.2)
    try:
        await balancer.set(tables(backends, rows=rows(backends, size=512)))
        await balancer.run(report)
    finally:
        await balancer.close()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], int(sys.argv[2])))
    except RefusedTablesError as refused:
        print(refused, flush=True)  # noqa: T201 - the test reads it
        sys.exit(1)
