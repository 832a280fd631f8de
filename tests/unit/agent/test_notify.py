"""What the service manager hears, and what becomes of the agent when it cannot be told."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from popctl.agent.notify import Notifier


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Use up all descriptors of this process, of which there are few meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(one.name) for one in Path("/proc/self/fd").iterdir())
    with ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 5, hard))
        with suppress(OSError):
            while True:
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield


def test_manager_is_told_line_by_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).send("READY=1", "STATUS=serving")
        manager.settimeout(5)
        assert manager.recv(100) == b"READY=1\nSTATUS=serving"


def test_manager_that_is_gone_or_was_never_there_is_no_error(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).send("READY=1")
    Notifier({}).send("READY=1")


def test_agent_without_a_descriptor_left_goes_on_and_is_heard_again_later(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with no_descriptors_left():
            notifier.send("WATCHDOG=1")
        notifier.send("WATCHDOG=2")
        assert manager.recv(100) == b"WATCHDOG=2"
