"""Running programs of the host: argument vectors, a time limit, and an error that says what was run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from lab.driver import ExecResult
from lab.errors import LabError

_LIMIT_S = 30.0


class HostCommandError(LabError):
    """A program of the host failed."""

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str) -> None:
        super().__init__(f"{' '.join(argv)}: exit {returncode}: {stderr.strip()}")
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr = stderr


def attempt(argv: Sequence[str], *, stdin: str = "", timeout_s: float = _LIMIT_S) -> ExecResult:
    """Run a program and return how it ended.

    Raises:
        HostCommandError: it cannot be run, or took longer than `timeout_s`.
    """
    try:
        done = subprocess.run(
            list(argv), input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise HostCommandError(argv, -1, f"took longer than {timeout_s} s") from error
    except OSError as error:
        raise HostCommandError(argv, -1, str(error)) from error
    return ExecResult(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


def run(argv: Sequence[str], *, stdin: str = "", timeout_s: float = _LIMIT_S) -> str:
    """Run a program that must succeed; return its output.

    Raises:
        HostCommandError: it failed.
    """
    done = attempt(argv, stdin=stdin, timeout_s=timeout_s)
    if done.returncode != 0:
        raise HostCommandError(argv, done.returncode, done.stderr)
    return done.stdout


def ip_batch(lines: Iterable[str], *, namespace: str = "", keep_going: bool = False) -> None:
    """Run many `ip` commands in one process.

    Raises:
        HostCommandError: one failed; with `keep_going` failures are accepted.
    """
    batch = "\n".join(lines)
    if not batch:
        return
    argv = ["ip", *(["-netns", namespace] if namespace else []), *(["-force"] if keep_going else []), "-batch", "-"]
    if keep_going:
        attempt(argv, stdin=batch)
    else:
        run(argv, stdin=batch)


def missing_programs(wanted: Mapping[str, str]) -> list[str]:
    """Return a sentence for every program that is not on PATH; the values name Debian packages."""
    return [
        f"{name} is missing (Debian package {package})" for name, package in wanted.items() if not shutil.which(name)
    ]


def is_root() -> bool:
    """Tell whether this process may change the network."""
    return os.geteuid() == 0
