"""Files that planning commands write: looked at before the work begins, and a failure is told as any other problem."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from topology.errors import Problem, TopologyError


def expect_writable(*paths: Path) -> None:
    """Raise `TopologyError` with all of the files that cannot be written, so that no work is done in vain."""
    problems = [_problem(path, reason) for path in paths if (reason := _obstacle(path))]
    if problems:
        raise TopologyError(problems)


def expect_picture(path: Path, suffixes: Collection[str]) -> None:
    """Raise `TopologyError` if a picture cannot be written there, or is of a kind that nobody can draw."""
    expect_writable(path)
    if path.suffix.lower() not in suffixes:
        text = f"no picture has the suffix {path.suffix!r}: give one of {', '.join(suffixes)}"
        raise TopologyError([Problem(file=str(path), line=0, text=text)])


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is written into a `TopologyError`."""
    try:
        yield
    except OSError as error:
        raise TopologyError([_problem(path, str(error))]) from error


def _obstacle(path: Path) -> str:
    if path.is_dir():
        return "it is a folder: name a file"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return "no permission"
    return ""


def _problem(path: Path, reason: str) -> Problem:
    return Problem(file=str(path), line=0, text=f"cannot be written: {reason}")
