"""Finding and ending the processes of a network namespace, whoever started them."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from lab.errors import LabError

NETNS = Path("/run/netns")


class StuckProcessError(LabError):
    """Processes outlived SIGKILL."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.pids = tuple(pids)
        super().__init__(f"processes that do not die: {', '.join(map(str, self.pids))}")


def inside(namespaces: Iterable[str]) -> tuple[int, ...]:
    """Return the processes whose network namespace is one of these, as seen right now."""
    wanted = set()
    for name in namespaces:
        try:
            found = (NETNS / name).stat()
        except OSError:
            continue
        wanted.add((found.st_dev, found.st_ino))
    if not wanted:
        return ()
    return tuple(pid for pid in _all_pids() if _namespace(pid) in wanted)


def end(namespaces: Iterable[str], *, within_s: float = 10.0) -> None:
    """Kill every process inside, and look again until none is left: one may have been forking.

    Raises:
        StuckProcessError: some are still there after `within_s`.
    """
    names = tuple(namespaces)
    deadline = time.monotonic() + within_s
    while pids := inside(names):
        if time.monotonic() >= deadline:
            raise StuckProcessError(pids)
        kill(pids, until=deadline)


def kill(pids: Iterable[int], *, until: float) -> None:
    """Send SIGKILL and wait for the ends, at the latest `until` (monotonic)."""
    handles = [handle for pid in pids if (handle := _killed(pid)) is not None]
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(max(0.0, until - time.monotonic()) * 1000)
        os.close(handle)


def _killed(pid: int) -> int | None:
    """Send SIGKILL; return a handle that becomes readable at the end of the process, None when it is gone already."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        os.close(handle)
        return None
    return handle


def init_of(pid_file: Path, namespace: str) -> int | None:
    """Return the first process of a node, as the host numbers it; None when the node does not run.

    The file names its parent. A number that meanwhile belongs to somebody else is told by its network namespace.
    """
    try:
        parent = int(pid_file.read_text())
        namespace_stat = (NETNS / namespace).stat()
    except (OSError, ValueError):
        return None
    if _namespace(parent) != (namespace_stat.st_dev, namespace_stat.st_ino):
        return None
    return _only_child(parent)


def _only_child(pid: int) -> int | None:
    """Return the child of a process that has exactly one; None when it has gone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if len(children) == 1 else None


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _namespace(pid: int) -> tuple[int, int] | None:
    """Return device and inode of a process's network namespace. A zombie has none, and needs no killing."""
    try:
        found = Path(f"/proc/{pid}/ns/net").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
