"""A playbook's file -> the playbook, or what is wrong with it for this PoP. For the agent and `popctl check` alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from popctl.config.errors import Problem
from popctl.model.playbook import CLOCKS_DIFFER_S
from popctl.wire import playbook as wire
from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from popctl.model.capacity import LoadSettings
    from popctl.model.playbook import Level, Playbook
    from popctl.model.pop import Pop

KEY = "load.playbook"
_MAKE_ANEW = "make a playbook of the present fleet (popctl plan playbook)"


def judge(content: bytes, pop: Pop, *, unix_s: float) -> tuple[Playbook | None, Problem | None]:
    """Return the part of the playbook that `pop` needs, and what speaks against using it.

    With a playbook *and* a problem it can be read, and the gate would refuse to go by it.
    """
    if pop.load is None:
        raise ValueError("no playbook is looked at where load steers nothing")
    try:
        found = wire.decode(content)
    except WireError as error:
        remedy = "make it anew (popctl plan playbook); popctl/wire/playbook.py describes the format"
        return None, _problem(str(error.found) or "no playbook", error.problem, remedy)
    part = replace(found, steps={key: rows for key, rows in found.steps.items() if key.pop == pop.name})
    return part, _unfit(found, pop, pop.load, unix_s)


def unreadable(path: object, error: OSError) -> Problem:
    """Return what is wrong with a file that cannot be read."""
    return _problem(str(path), f"cannot be read: {error.strerror or error}", "put the playbook there, or name another")


def _unfit(found: Playbook, pop: Pop, load: LoadSettings, unix_s: float) -> Problem | None:
    fleet = "" if pop.fleet is None else pop.fleet.name
    if found.fleet != fleet:
        return _problem(found.fleet, f"was made for another fleet than {fleet}", _MAKE_ANEW)
    if pop.name not in found.ladders:
        return _problem(", ".join(sorted(found.ladders)[:5]), f"does not know the PoP {pop.name}", _MAKE_ANEW)
    differs = _differing(found.ladders[pop.name], load.ladder)
    if differs is not None:
        remedy = "write the same ladder in load.ladder, or make the playbook anew"
        return _problem(f"level {differs}", f"has another ladder of levels for {pop.name}", remedy)
    age_s = unix_s - found.created_unix_s
    most_s = load.policies.gate.playbook_max_age_s
    if age_s > most_s:
        return _problem(f"{age_s / 3600:.0f} h old", f"is older than {most_s / 3600:g} h", _MAKE_ANEW)
    if age_s < -CLOCKS_DIFFER_S:
        remedy = "set the clock of this host, or of the one that made it"
        return _problem(f"made in {-age_s / 3600:.1f} h", "was made in the future", remedy)
    return None


def _differing(theirs: tuple[Level, ...], ours: tuple[Level, ...]) -> int | None:
    if theirs == ours:
        return None
    pairs = enumerate(zip(theirs, ours, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(theirs), len(ours)))


def _problem(found: str, problem: str, remedy: str) -> Problem:
    return Problem(path=KEY, found=found, problem=problem, remedy=remedy)
