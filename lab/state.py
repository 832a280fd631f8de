"""What a lab leaves on disk while it is up: enough to take it down without the topology file.

`/run/popctl-lab/NAME/lab.json` is written before the first namespace exists. `NAME.lock` next to it serialises changes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.errors import BusyError
from lab.plan import Plan

ROOT = Path("/run/popctl-lab")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """The record of a lab that is up, or was when its driver died."""

    name: str
    topology: Path
    namespaces: tuple[str, ...]
    """Every network namespace that the lab may own."""


class StateDirectory:
    """The directory of one lab."""

    def __init__(self, name: str) -> None:
        """`name` is the lab's."""
        self._name = name
        self.path = ROOT / name

    def exists(self) -> bool:
        """Tell whether the lab is up, in whole or in part."""
        return self.path.is_dir()

    def create(self, plan: Plan, namespaces: tuple[str, ...]) -> None:
        """Record what is about to exist."""
        self.path.mkdir(parents=True)
        record = {"name": plan.name, "topology": str(plan.path), "namespaces": namespaces}
        unfinished = self.path / "lab.json.new"
        unfinished.write_text(json.dumps(record, indent=1))
        unfinished.rename(self.path / "lab.json")

    def read(self) -> LabState | None:
        """Return the record; None when there is none, or when the driver died while it wrote it."""
        try:
            record = json.loads((self.path / "lab.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return LabState(name=record["name"], topology=Path(record["topology"]), namespaces=tuple(record["namespaces"]))

    def node(self, node: str) -> Path:
        """Return the directory of one node."""
        return self.path / node

    def remove(self) -> None:
        """Forget the lab."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lab alone. The lock file goes with the lab, and the kernel frees the lock of a dead process.

        Raises:
            BusyError: another process holds it.
        """
        ROOT.mkdir(parents=True, exist_ok=True)
        file = ROOT / f"{self._name}.lock"
        descriptor = _lock(file, self._name)
        try:
            yield
        finally:
            if not self.exists():
                file.unlink(missing_ok=True)
            os.close(descriptor)


def _lock(file: Path, name: str) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise BusyError(name) from error
        # The holder before us may have removed the file between our open and our lock: then it is nobody's.
        if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
            return descriptor
        os.close(descriptor)


def names() -> tuple[str, ...]:
    """Return the labs that are up."""
    return tuple(sorted(entry.name for entry in ROOT.glob("*") if entry.is_dir()))
