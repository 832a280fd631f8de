"""One real daemon in a network namespace, known by its pid: start, stop, starve, kill. Never by name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_STOP_S = 5.0


class Daemon:
    """A process with a private directory. Subclasses write its configuration and say how to tell that it is up."""

    program: str

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        # Short, because the path of a unix socket has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="peer-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._earlier = ""

    def __enter__(self) -> Self:
        """Start. When that fails, nothing is left behind, and the log is in the error."""
        try:
            self.start()
        except BaseException as error:
            error.add_note(self.log()[-4000:])
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"--- log of {self.program}\n{self.log()[-4000:]}")
        self.close()

    def start(self) -> None:
        """Start the process; after `kill()`, start it again."""
        raise NotImplementedError

    def spawn(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Run `argv` in the namespace; `ip netns exec` becomes the program, so that the pid is the daemon's."""
        self._earlier = self.log()
        for path in self._log_files():
            path.unlink()
        with (self.directory / "stdout").open("ab") as out:
            self._process = subprocess.Popen(
                # A shell's background makes everything in it deaf to SIGINT.
                ["env", "--default-signal=INT", "ip", "netns", "exec", self.namespace, *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The pid of the daemon."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is there (stopped counts)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """What it ended with, as `Popen.returncode`; None while it is there."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End it at once (SIGKILL): what a crash looks like."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(_STOP_S)

    def stop(self) -> None:
        """Freeze it (SIGSTOP): sockets stay open, nothing answers."""
        self._signal(signal.SIGSTOP)
        eventually(lambda: _state_of(self.pid) == "T")

    def cont(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """All that it wrote so far, in all its lives."""
        return self._earlier + self.log_of_this_life()

    def log_of_this_life(self) -> str:
        """All that it wrote since it was last started."""
        return "".join(path.read_text(errors="replace") for path in self._log_files())

    def _log_files(self) -> list[Path]:
        return sorted(path for path in self.directory.glob("*") if path.name == "stdout" or path.suffix == ".log")

    def close(self) -> None:
        """End it, politely first, and remove its directory."""
        if self.alive and self._process is not None:
            self.cont()
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _state_of(pid: int) -> str:
    """Return the state letter of a process, as in proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
