"""The record of ids beside the state file, read: whether a configuration may follow what SAs were made under."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.config import kept_files
from popctl.config.errors import Problem
from popctl.wire.errors import WireError
from popctl.wire.registry import Place, Record, decode, succeed

if TYPE_CHECKING:
    from pathlib import Path

    from popctl.model.pop import Pop


def record_path(pop: Pop) -> Path:
    """Return where the record is kept."""
    return kept_files.record_of_ids(pop.paths.state_file)


def followed(pop: Pop, *, unix_s: float) -> tuple[Record | None, tuple[Problem, ...]]:
    """Return the record under this configuration, and why the configuration must be refused.

    None: there is nothing to record, because no packet was ever steered by an id. A record that was never written
    refuses nothing; one that cannot be believed refuses everything, unless the configuration starts without state.
    """
    path = record_path(pop)
    try:
        before = decode(path.read_bytes())
    except FileNotFoundError:
        if pop.tables is None:
            return None, ()
        before = None
    except (OSError, WireError) as error:
        if not pop.start_without_state:
            problem, remedy = _told(error)
            return None, (Problem(path="backends", found=str(path), problem=problem, remedy=remedy),)
        before = None
    record, found = succeed(
        before,
        pop=pop.id,
        plans=pop.spi_plans,
        configured={number: pop.backends[number].name for number in (pop.tables.backends if pop.tables else ())},
        now_unix_s=unix_s,
        longest_sa_s=pop.longest_sa_s,
        place=Place.of(pop.tables.marks) if pop.tables else None,
    )
    return record, tuple(Problem(path=one.key, found=str(path), problem=one.text, remedy=one.remedy) for one in found)


def _told(error: OSError | WireError) -> tuple[str, str]:
    """Return what is wrong and what to do about it."""
    if isinstance(error, PermissionError):
        # Nothing is wrong with the record: removing it would let an id change hands unnoticed.
        problem = f"the record of ids may not be read by this user ({error.strerror})"
        return problem, "run this as the agent's user or root; if it is the agent, let its user read the file"
    what = error.problem if isinstance(error, WireError) else error.strerror
    remedy = "restore it; or remove it, if no id changed hands within balancer.longest_sa"
    return f"the record of ids cannot be read: {what}", remedy
