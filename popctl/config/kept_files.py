"""Every file that a PoP keeps or listens at on its host: one list, so that no two of them are ever one file.

What the configuration names decides where the others are; who writes a file takes its place from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

LOAD: Final = "load.json"
"""Where load has put the PoP; beside the state file."""
SERVICES: Final = "services.json"
"""What services have been through; beside the state file."""
AUDIT: Final = "audit.jsonl"
"""Who ordered what; beside the state file."""
OLDER_JOURNALS: Final = 4
"""So many journals are kept besides the one that is written."""

_BESIDE_STATE: Final = {
    LOAD: "what load has done",
    SERVICES: "what services have been through",
    AUDIT: "the audit file",
}


class Named(Protocol):
    """The places that a configuration names: `paths`, as written or as built."""

    @property
    def relay_socket(self) -> Path:
        """Return where the relay listens."""

    @property
    def api_socket(self) -> Path:
        """Return where the operator API listens."""

    @property
    def state_file(self) -> Path:
        """Return where orders are kept."""

    @property
    def journal(self) -> Path | None:
        """Return where decisions are logged; None: nowhere."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One file."""

    path: Path
    key: str
    """The key of `paths` that it follows from."""
    what: str = ""
    """What it is, if it is not the very file that the key names."""


def record_of_ids(state_file: Path) -> Path:
    """Return where the record of ids is kept: beside the orders, for it must live as long."""
    return state_file.with_name(f"{state_file.stem}.ids{state_file.suffix}")


def unfinished(path: Path) -> Path:
    """Return where a file is written until it takes the place of the one before."""
    return path.with_name(f"{path.name}.new")


def older_journals(journal: Path) -> tuple[Path, ...]:
    """Return where earlier journals are kept, the youngest first."""
    return tuple(journal.with_name(f"{journal.name}.{number}") for number in range(1, OLDER_JOURNALS + 1))


def everything(named: Named) -> Iterator[Kept]:
    """Yield every file, those that the configuration names first."""
    for key in ("relay_socket", "api_socket", "state_file", "journal"):
        path: Path | None = getattr(named, key)
        if path is not None:
            yield Kept(path, key)
    state = named.state_file
    yield Kept(unfinished(state), "state_file", "the state file while it is written")
    others = {record_of_ids(state): "the record of ids"}
    others |= {state.with_name(name): what for name, what in _BESIDE_STATE.items()}
    for path, what in others.items():
        yield Kept(path, "state_file", what)
        yield Kept(unfinished(path), "state_file", f"{what} while it is written")
    if named.journal is not None:
        for path in older_journals(named.journal):
            yield Kept(path, "journal", "an earlier journal")
