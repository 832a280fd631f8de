"""Watch VPN daemons by pidfd: the kernel says that one ended within the millisecond, however it ended.

A daemon is found by its pid file, checked against its executable, or by its executable alone. Only what was seen
running can die: a daemon that was never found is absent, which may as well be a wrong path here.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from popctl.model.meter import Daemon, DaemonState, DaemonWatch
from popctl.wire import proc_text
from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LOOK_EVERY_S: Final = 0.5
"""For a daemon that does not run. One that runs costs nothing."""
_DELETED: Final = " (deleted)"
"""What /proc/PID/exe ends with once an upgrade has replaced the file of a process that still runs."""


class DaemonWatcher:
    """Calls back in the event loop when a daemon dies and when it is found running (again)."""

    def __init__(
        self,
        watches: Iterable[DaemonWatch],
        changed: Callable[[Daemon], None],
        *,
        proc: Path = Path("/proc"),
        look_every_s: float = _LOOK_EVERY_S,
    ) -> None:
        """Prepare; nothing is watched before `start`. `changed` must not block."""
        self._watches = {watch.name: watch for watch in watches}
        self._changed = changed
        self._proc = proc
        self._look_every_s = look_every_s
        self._daemons = {name: Daemon(name=name, state=DaemonState.ABSENT) for name in self._watches}
        self._descriptors: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """What is known now."""
        return tuple(self._daemons.values())

    def start(self) -> None:
        """Look for all daemons, and go on looking for those that do not run. Calls back for each one found."""
        self._look()

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for name in list(self._descriptors):
            self._release(name)

    def _look(self) -> None:
        missing = [watch for name, watch in self._watches.items() if name not in self._descriptors]
        for watch in missing:
            self._find(watch)
        if len(self._descriptors) < len(self._watches):
            self._timer = asyncio.get_running_loop().call_later(self._look_every_s, self._look)
        else:
            self._timer = None

    def _find(self, watch: DaemonWatch) -> None:
        for pid in self._candidates(watch):
            if (life := self._held(watch, pid)) is not None:
                self._report(Daemon(name=watch.name, state=DaemonState.RUNNING, pid=pid, life=life))
                return

    def _held(self, watch: DaemonWatch, pid: int) -> str | None:
        """Open a pidfd of the process and watch it; return its life, None if it is not the daemon or just ended."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        # Checked after the pidfd was opened: from here on the pid cannot come to mean another process unnoticed.
        life = self._life(watch, pid)
        if life is None:
            os.close(descriptor)
            return None
        self._descriptors[watch.name] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._died, watch.name)
        return life

    def _candidates(self, watch: DaemonWatch) -> list[int]:
        if watch.pid_file is not None:
            try:
                text = watch.pid_file.read_text(encoding="ascii", errors="replace").strip()
            except OSError:
                return []
            return [int(text)] if text.isascii() and text.isdigit() and 0 < len(text) < 10 else []  # noqa: PLR2004 - a pid
        try:
            return sorted(int(name) for name in os.listdir(self._proc) if name.isdigit())  # noqa: PTH208 - names only
        except OSError:
            return []

    def _life(self, watch: DaemonWatch, pid: int) -> str | None:
        """Return what names this process for ever, None if it is not the daemon."""
        home = self._proc / str(pid)
        try:
            if watch.executable is not None:
                found = os.readlink(home / "exe").removesuffix(_DELETED)  # noqa: PTH115 - the text, not a path
                if found != os.path.realpath(watch.executable):
                    return None
            began = proc_text.start_ticks((home / "stat").read_text(errors="replace"))
        except (OSError, WireError):
            return None
        return None if began is None else f"{began}-{pid}"

    def _died(self, name: str) -> None:
        self._release(name)
        self._report(replace(self._daemons[name], state=DaemonState.DIED, pid=None))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._look_every_s, self._look)

    def _release(self, name: str) -> None:
        descriptor = self._descriptors.pop(name)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _report(self, daemon: Daemon) -> None:
        self._daemons[daemon.name] = daemon
        self._changed(daemon)
