"""Exec prober: a program of the operator exits 0. No shell; its whole process group ends with the run.

The program is watched through a pidfd and reaped by us, not by asyncio: as long as the zombie is not reaped, its
process group id cannot be given away, so killing the group can never hit a stranger. No thread, no child watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from popctl.model.observation import Outcome
from popctl.model.probe import Exec
from popctl.model.reason import Reason
from popctl.senses.failure import printable
from popctl.senses.prober import Result, Target

if TYPE_CHECKING:
    from popctl.model.instant import Instant

OUTPUT_BYTES_MAX: Final = 4096
"""What is kept of the output; the rest is read and dropped, so that a talkative program does not block."""

_READ_BYTES: Final = 65536
_KILL_S: Final = 1.0


class ExecProber:
    """Runs `argv` with an environment of its own: nothing of the agent's leaks into it."""

    async def run(self, target: Target, *, deadline: Instant) -> Result:  # noqa: ARG002 - run_probe keeps the deadline
        """Run the program once. Errors on starting it are raised; `run_probe` knows what each means."""
        if not isinstance(target.method, Exec):
            raise TypeError(type(target.method).__name__)
        began = time.perf_counter()
        program = _Program(target.method.argv, _environment(target))
        try:
            await program.ended()
        finally:
            await program.end()
        return _judge(program.status, program.output, time.perf_counter() - began)


def _environment(target: Target) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "POPCTL_ADDRESS": str(target.address),
        "POPCTL_BACKEND": str(target.key.backend),
        "POPCTL_PROBE": target.key.probe,
    }


class _Program:
    """A running program, the leader of its own session and process group."""

    def __init__(self, argv: tuple[str, ...], environment: dict[str, str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._reaped = asyncio.Event()
        self.output = bytearray()
        self._pipe, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(write_end)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except BaseException:
            self._process.kill()
            self._process.wait()
            os.close(self._pipe)
            raise
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._pipe, self._collect)
        self._loop.add_reader(self._pidfd, self._note_end)

    @property
    def status(self) -> int:
        """Exit status, or the negative number of the signal; only after `end`."""
        return int(self._process.returncode)

    async def ended(self) -> None:
        """Wait until the program itself ends, whoever else still holds its output."""
        await self._ended.wait()
        self._collect()

    async def end(self) -> None:
        """Kill what is left of the group, then reap the leader; in this order, see above.

        A program stuck in the kernel survives SIGKILL for a while. It is reaped when it goes, but not waited for.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already, or it changed its user id
            os.killpg(self._process.pid, signal.SIGKILL)
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        if self._ended.is_set():
            self._reap()
            return
        self._loop.add_reader(self._pidfd, self._reap)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_S):
                await self._reaped.wait()

    def _collect(self) -> None:
        """Read some output, keeping the beginning."""
        try:
            data = os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return
        self.output += data[: OUTPUT_BYTES_MAX - len(self.output)]
        if not data:
            self._loop.remove_reader(self._pipe)

    def _note_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._ended.set()

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        self._reaped.set()


def _judge(status: int, output: bytearray, duration_s: float) -> Result:
    said = printable(output.decode(errors="replace"))
    if status == 0:
        return Result(Outcome.PASS, Reason.ANSWERED, said, duration_s)
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return Result(Outcome.FAIL, Reason.EXIT_STATUS, f"{how}: {said}" if said else how, duration_s)
