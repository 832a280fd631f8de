"""The daemon watcher with real processes: death, restart, pid files that lie, executables that were replaced."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from popctl.model.meter import Daemon, DaemonState, DaemonWatch
from popctl.senses.watch_daemons import DaemonWatcher
from tests.eventually import eventually_async

PROGRAM = shutil.which("sleep") or "/usr/bin/sleep"


@contextmanager
def running(program: str | Path = PROGRAM) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([str(program), "300"]) as process:
        try:
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def watching(
    *watches: DaemonWatch, told: list[Daemon], look_every_s: float = 0.01
) -> AsyncIterator[DaemonWatcher]:
    watcher = DaemonWatcher(watches, told.append, look_every_s=look_every_s)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.close()


def states(told: Iterable[Daemon]) -> list[DaemonState]:
    return [daemon.state for daemon in told]


def _watch(directory: Path, program: str | Path = PROGRAM) -> DaemonWatch:
    return DaemonWatch(name="charon", pid_file=directory / "pid", executable=Path(program))


async def test_a_killed_daemon_is_known_dead_before_anybody_reaps_it(tmp_path: Path) -> None:
    told: list[Daemon] = []
    with running() as process:
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        async with watching(_watch(tmp_path), told=told):
            assert states(told) == [DaemonState.RUNNING]
            process.send_signal(signal.SIGKILL)
            await eventually_async(lambda: len(told) > 1, within_s=5, every_s=0.001)
            # It is a zombie now, and its pid file still names it: that must not look like a restart.
            await eventually_async(lambda: _zombie(process.pid))
            assert states(told) == [DaemonState.RUNNING, DaemonState.DIED]


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


async def test_a_restarted_daemon_is_found_again_with_another_life(tmp_path: Path) -> None:
    told: list[Daemon] = []
    with running() as first:
        (tmp_path / "pid").write_text(str(first.pid))
        async with watching(_watch(tmp_path), told=told):
            first.kill()
            await eventually_async(lambda: len(told) == 2)
            with running() as second:
                (tmp_path / "pid").write_text(str(second.pid))
                await eventually_async(lambda: len(told) == 3)
                assert states(told)[2] is DaemonState.RUNNING
                assert told[2].life != told[0].life
                assert told[2].pid == second.pid


async def test_a_pid_file_that_names_another_program_names_no_daemon(tmp_path: Path) -> None:
    told: list[Daemon] = []
    with running() as process:
        (tmp_path / "pid").write_text(str(process.pid))
        async with watching(_watch(tmp_path, "/usr/sbin/charon-systemd"), told=told) as watcher:
            assert not told
            assert states(watcher.daemons) == [DaemonState.ABSENT]


async def test_a_daemon_without_a_pid_file_is_found_by_its_executable(tmp_path: Path) -> None:
    told: list[Daemon] = []
    own = tmp_path / "charon"
    shutil.copy(PROGRAM, own)
    with running(own) as process:
        async with watching(DaemonWatch(name="charon", executable=own), told=told):
            assert [daemon.pid for daemon in told] == [process.pid]
            process.kill()
            await eventually_async(lambda: len(told) == 2)


async def test_a_daemon_whose_file_was_upgraded_is_still_the_daemon(tmp_path: Path) -> None:
    told: list[Daemon] = []
    own = tmp_path / "charon"
    shutil.copy(PROGRAM, own)
    with running(own) as process:
        await eventually_async(lambda: Path(f"/proc/{process.pid}/exe").resolve() == own)
        own.unlink()
        shutil.copy(PROGRAM, own)
        async with watching(DaemonWatch(name="charon", executable=own), told=told):
            assert states(told) == [DaemonState.RUNNING]


@pytest.mark.parametrize("text", ["", "x", "-1", "999999999", "99999999999999999999", "\xff"])
async def test_a_pid_file_with_nonsense_or_without_a_process_is_an_absent_daemon(tmp_path: Path, text: str) -> None:
    told: list[Daemon] = []
    (tmp_path / "pid").write_text(text)
    async with watching(_watch(tmp_path), told=told) as watcher:
        assert states(watcher.daemons) == [DaemonState.ABSENT]
    assert not told


async def test_a_death_reaches_the_callback_within_milliseconds(tmp_path: Path) -> None:
    """0.6 ms were measured on a quiet host; the bound leaves room for a busy one."""
    told: list[float] = []
    with running() as process:
        (tmp_path / "pid").write_text(str(process.pid))
        watcher = DaemonWatcher([_watch(tmp_path)], lambda _: told.append(time.monotonic()))
        watcher.start()
        killed_at = time.monotonic()
        process.kill()
        await eventually_async(lambda: len(told) == 2, every_s=0.0)
        watcher.close()
    assert told[1] - killed_at < 0.5
