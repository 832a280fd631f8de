"""The exec prober: real programs, and that nothing of them outlives the run."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import tracemalloc
from ipaddress import ip_address
from pathlib import Path

from popctl.model.observation import Outcome
from popctl.model.probe import Exec, Http, ProbeKey
from popctl.model.reason import Reason
from popctl.senses.exec import ExecProber
from popctl.senses.prober import Result, Target
from popctl.senses.run import run_probe
from tests.eventually import eventually_async
from tests.unit.senses.peers import open_descriptors

PROBERS = {Exec: ExecProber()}


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code, *arguments)


async def run(*argv: str, within_s: float = 20.0) -> Result:
    whom = Target(key=ProbeKey(7, "script"), method=Exec(argv=argv), address=ip_address("192.0.2.1"))
    return await run_probe(PROBERS, whom, deadline=time.monotonic() + within_s, clock=time.monotonic)


def alive(pid: int) -> bool:
    """Say whether the process is there and no zombie: one without a parent of ours is init's to reap."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def our_zombies() -> list[str]:
    zombies = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text(encoding="ascii").rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state == "Z" and int(parent) == os.getpid():
            zombies.append(path.parent.name)
    return zombies


async def test_exit_status_0_passes_with_the_output_as_detail() -> None:
    result = await run("echo", "all well")
    assert (result.outcome, result.reason, result.detail) == (Outcome.PASS, Reason.ANSWERED, "all well")
    assert result.rtt_s is not None


async def test_any_other_exit_status_fails_with_the_output_as_detail() -> None:
    result = await run(*python("import sys; print('no\\x1b[31m route', file=sys.stderr); sys.exit(3)"))
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.EXIT_STATUS)
    assert result.detail == "exit status 3: no [31m route"


async def test_death_by_a_signal_fails() -> None:
    result = await run(*python("import os; os.kill(os.getpid(), 9)"))
    assert (result.outcome, result.reason, result.detail) == (Outcome.FAIL, Reason.EXIT_STATUS, "signal 9")


async def test_no_shell_reads_the_arguments() -> None:
    assert (await run("echo", "$HOME; false")).detail == "$HOME; false"


async def test_the_program_learns_whom_to_probe_and_nothing_of_our_environment() -> None:
    assert set(os.environ) > {"PATH"}
    result = await run("env", "-u", "PATH", "/usr/bin/env")
    found = set(result.detail.split())
    assert found == {"LANG=C.UTF-8", "POPCTL_ADDRESS=192.0.2.1", "POPCTL_BACKEND=7", "POPCTL_PROBE=script"}


async def test_a_missing_program_says_nothing_about_the_backend() -> None:
    result = await run("/no/such/program")
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, Reason.PROBE_ERROR)
    assert result.detail.startswith("ENOENT")


async def test_a_program_that_we_may_not_run_is_a_lack_of_permission() -> None:
    result = await run("/etc/passwd")
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, Reason.NO_PERMISSION)


async def test_huge_output_neither_blocks_nor_is_kept() -> None:
    result = await run(*python("import sys; sys.stdout.write('x' * (8 << 20))"))
    assert result.reason is Reason.ANSWERED
    assert len(result.detail) <= 200


async def test_output_without_end_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        await run(*python("import sys; [sys.stdout.write('x' * (1 << 20)) for _ in range(32)]"))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 << 20


async def test_a_hanging_program_times_out_and_its_whole_group_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    code = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"])
with open(sys.argv[1] + ".new", "w") as note:
    note.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(1000)
"""
    result = await run(*python(code, str(note)), within_s=3.0)
    assert result.reason in {Reason.TIMED_OUT, Reason.OVERLOADED}
    pids = [int(word) for word in note.read_text().split()]
    assert len(pids) == 2
    await eventually_async(lambda: not any(alive(pid) for pid in pids))
    assert our_zombies() == []


async def test_a_grandchild_that_keeps_the_output_open_does_not_delay_the_result_and_is_killed() -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid, flush=True)"
    began = time.monotonic()
    result = await run(*python(code), within_s=60.0)
    assert result.reason is Reason.ANSWERED
    assert time.monotonic() - began < 30
    await eventually_async(lambda: not alive(int(result.detail)))


async def test_a_program_that_closes_its_output_is_still_waited_for() -> None:
    result = await run(*python("import os, time; os.close(1); os.close(2); time.sleep(0.05); os._exit(5)"))
    assert result.detail == "exit status 5"


async def test_cancellation_kills_the_program(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = "import os, sys, time; open(sys.argv[1], 'w').write(f'{os.getpid()}.'); time.sleep(1000)"
    running = asyncio.create_task(run(*python(code, str(note))))
    await eventually_async(lambda: note.exists() and note.read_text().endswith("."))
    pid = int(note.read_text()[:-1])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert not alive(pid)
    assert our_zombies() == []


async def test_many_runs_leave_neither_descriptors_nor_zombies() -> None:
    gc.collect()
    await run("true")
    before = open_descriptors()
    for _ in range(100):
        await run("true")
        await run("false")
    assert open_descriptors() == before
    assert our_zombies() == []


async def test_another_kind_of_method_says_nothing_about_the_backend() -> None:
    method = Http(url="http://x", statuses=frozenset())
    whom = Target(key=ProbeKey(1, "x"), method=method, address=ip_address("192.0.2.1"))
    result = await run_probe({Http: ExecProber()}, whom, deadline=time.monotonic() + 9, clock=time.monotonic)
    assert result.reason is Reason.PROBE_ERROR
