"""Secrets come from files of their own, which must not be open to everybody. Nothing here ever shows a content."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from popctl.config.errors import KeyPath, Problem, render_path
from popctl.model.md5_key import md5_key_flaw
from popctl.model.pop import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from popctl.config.shape import Parts

_MAX_BYTES = 4096


class SecretFileError(Exception):
    """A secret file cannot be used. Carries no part of its content."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


SecretReader: TypeAlias = Callable[[Path], str]
"""Return the text of a secret file without its line end. Raises `SecretFileError`."""

Secrets: TypeAlias = Mapping[Path, Secret]


def read_secret_file(path: Path) -> str:
    """Read a secret: one line of UTF-8 text in a regular file that others cannot open.

    Raises:
        SecretFileError: it is missing, unreadable, open to everybody, empty or not one line.
    """
    try:
        # Non-blocking, because opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        problem = f"the secret file cannot be opened ({os.strerror(error.errno or 0)})"
        raise SecretFileError(problem, "create it, readable by the agent's user only") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SecretFileError("the secret file is not a regular file", "name a file that holds one line")
        if mode & stat.S_IRWXO:
            problem = f"the secret file is open to every user (mode {stat.S_IMODE(mode):04o})"
            raise SecretFileError(problem, f"chmod 640 {path}")
        content = os.read(descriptor, _MAX_BYTES + 1)
    except OSError as error:
        problem = f"the secret file cannot be read ({os.strerror(error.errno or 0)})"
        raise SecretFileError(problem, "repair it or the file system it is on") from None
    finally:
        os.close(descriptor)
    return _one_line(content)


def _one_line(content: bytes) -> str:
    remedy = "write the secret into it as one line of text"
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretFileError("the secret file is not UTF-8 text", remedy) from None
    if not text.strip():
        raise SecretFileError("the secret file is empty", remedy)
    if len(content) > _MAX_BYTES or not text.isprintable():
        raise SecretFileError("the secret file is not one line of printable text", remedy)
    return text


def _check_md5(key: str) -> None:
    flaw = md5_key_flaw(key)
    if flaw:
        raise SecretFileError(flaw, "agree on another key with the neighbour")


def collect(parts: Parts, read: SecretReader) -> tuple[Secrets, tuple[Problem, ...]]:
    """Read every secret file that the parts name, each once."""
    secrets: dict[Path, Secret] = {}
    problems: list[Problem] = []
    for key_path, file in _named(parts):
        try:
            text = read(file)
            if key_path[-1] == "md5_file":
                _check_md5(text)
            secrets[file] = Secret(text)
        except SecretFileError as error:
            path = render_path(key_path)
            problems.append(Problem(path=path, found=str(file), problem=error.problem, remedy=error.remedy))
    return secrets, tuple(problems)


def _named(parts: Parts) -> Iterator[tuple[KeyPath, Path]]:
    """Yield every secret file and the key that names it."""
    for neighbor in parts.neighbors:
        if neighbor.value.md5_file:
            yield (*neighbor.path, "md5_file"), neighbor.value.md5_file
    if parts.balancer and parts.balancer.secret_file:
        yield ("balancer", "secret_file"), parts.balancer.secret_file
    lists = [(part.path, part.value.root) for part in parts.probes.values()]
    lists += [
        ((*part.path, "probes"), part.value.probes) for part in parts.backends if isinstance(part.value.probes, list)
    ]
    for path, entries in lists:
        for index, entry in enumerate(entries):
            if entry.ike_deep:
                yield (*path, index, "ike_deep", "psk_file"), entry.ike_deep.psk_file
            if entry.l2tp and entry.l2tp.secret_file:
                yield (*path, index, "l2tp", "secret_file"), entry.l2tp.secret_file
