"""From the death of a daemon to the agent's callback, with `popctl meter` in its own process; and what that costs."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from popctl.model.load import LoadSample
from popctl.model.meter import DaemonDied, DaemonStarted
from popctl.senses.meter_client import MeterClient, UnixMeter
from popctl.senses.meter_events import MeterEvent
from tests.bench.__main__ import Figure
from tests.eventually import eventually_async

_RUNS = 20
_COMMAND = "python -m tests.bench meter_push"
_PROGRAM = shutil.which("sleep") or "/usr/bin/sleep"


@contextmanager
def _running(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, env=environment) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


def _start(directory: Path) -> subprocess.Popen[bytes]:
    """Start a daemon; its pid file is put in place whole, as daemons do."""
    process = subprocess.Popen([_PROGRAM, "300"])
    (directory / "new").write_text(str(process.pid))
    (directory / "new").rename(directory / "pid")
    return process


async def _deaths(directory: Path) -> list[float]:
    """Kill a daemon again and again; return how long each death took to arrive."""
    told: list[tuple[float, MeterEvent]] = []
    path = directory / "meter.sock"
    client = MeterClient(
        1,
        UnixMeter(path=path),
        lambda event: told.append((time.monotonic(), event)),
        clock=time.monotonic,
        rng=Random(1),
    )
    task = asyncio.create_task(client.run())
    gaps = []
    daemon = _start(directory)
    try:
        await eventually_async(lambda: any(isinstance(event, LoadSample) for _, event in told), within_s=20)
        for _ in range(_RUNS):
            told.clear()
            killed_at = time.monotonic()
            daemon.kill()
            await eventually_async(lambda: any(isinstance(event, DaemonDied) for _, event in told), every_s=0.001)
            gaps.append(next(at for at, event in told if isinstance(event, DaemonDied)) - killed_at)
            daemon.wait()
            daemon = _start(directory)
            await eventually_async(lambda: any(isinstance(event, DaemonStarted) for _, event in told))
    finally:
        daemon.kill()
        daemon.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return gaps


def measure() -> list[Figure]:
    """Run it."""
    with tempfile.TemporaryDirectory(prefix="meter-") as name:
        directory = Path(name)
        options = ["--socket", str(directory / "meter.sock"), "--daemon", f"charon={_PROGRAM},{directory / 'pid'}"]
        begin = time.monotonic()
        with _running(sys.executable, "-m", "popctl.meter", *options, "--interval", "1"):
            gaps = sorted(asyncio.run(_deaths(directory)))
        lived_s = time.monotonic() - begin
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    median, worst = statistics.median(gaps) * 1e3, gaps[-1] * 1e3
    name = "meter: daemon killed to agent's callback"
    return [
        Figure(name=f"{name}, median", value=median, unit="ms", bound=5.0, ok=median <= 5.0, command=_COMMAND),
        Figure(name=f"{name}, worst of {_RUNS}", value=worst, unit="ms", bound=None, ok=True, command=_COMMAND),
        Figure(
            name="meter: share of a core, its start included",
            value=(usage.ru_utime + usage.ru_stime) / lived_s,
            unit="cores",
            bound=None,
            ok=True,
            command=_COMMAND,
        ),
    ]
