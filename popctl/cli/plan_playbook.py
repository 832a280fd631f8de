"""`popctl plan playbook`: the file that an agent's what-if gate reads."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter, validators

from popctl.cli.bars import watched
from popctl.cli.exits import Exit
from popctl.cli.plan_output import expect_writable, writing
from popctl.cli.plan_world import THE_WORLD, NotInFleetError, Sites, World, as_filed, attempt, study_of
from popctl.config.defaults import DEPREFERRED_PREPEND
from popctl.model.playbook import Level, Playbook
from popctl.wire import playbook as wire
from popctl.wire.errors import WireError
from topology.errors import Problem, TopologyError
from topology.fleet import Fleet
from topology.keys import MOST_PREPENDS
from topology.playbook import Ladders, ladders_of, playbook_of, rows_of

_UNNAMED: Final = 'name is missing: agents read only a playbook of their own fleet, so say what they call it: "name"'

Prepend = Annotated[int, Parameter(name="--prepend", validator=validators.Number(gte=1, lte=MOST_PREPENDS))]


def playbook(
    *,
    out: Annotated[Path, Parameter(name="--out")] = Path("playbook.json"),
    ladders: Annotated[Ladders, Parameter(name="--ladders")] = Ladders.DEFAULT,
    at: Annotated[tuple[str, ...], Parameter(name="--at")] = (),
    prepend: Prepend = DEPREFERRED_PREPEND,
    world: World = THE_WORLD,
) -> int:
    """Answer every step of every PoP in advance, for the live what-if gate.

    Parameters
    ----------
    out
        The file to write. It is replaced in one move, so that nobody reads half of it.
    ladders
        default: all upstreams together, as agents have it; planned: by upstream, as rehearsals find best.
    at
        POP=LEVEL of a PoP that is not on level 0. Rows hold while all whom they touch stand where this says.
    prepend
        How many prepends "depreferred" adds in the agents' configuration.
    """

    def work() -> int:
        expect_writable(out)
        study = study_of(world, _named)
        fleet = study.fleet
        levels_of = ladders_of(study, ladders, prepend)
        rows = rows_of(study, levels_of, _levels(fleet, levels_of, at), prepend=prepend)
        steps = {key: rows[key] for key in watched(rows, len(rows))}
        book = playbook_of(study, levels_of, steps, time.time())
        _write(out, book, world)
        sys.stdout.write(f"{out}: {_told(book)}\n")
        return Exit.OK

    return attempt(work, as_json=world.json)


def _named(world: World) -> Sites:
    sites = as_filed(world)
    if not sites.fleet.name:
        raise TopologyError([Problem(file=str(world.fleet), line=1, text=_UNNAMED)])
    return sites


def _levels(fleet: Fleet, ladders: Sequence[Sequence[Level]], words: Sequence[str]) -> list[int]:
    """Return where every PoP stands."""
    levels = [0] * len(fleet.pops)
    for word in words:
        name, _, number = word.rpartition("=")
        try:
            pop = fleet.pop_named(name)
        except KeyError:
            raise NotInFleetError(f"--at {word}: not POP=LEVEL of a PoP of the fleet") from None
        if not number.isdecimal() or int(number) >= len(ladders[pop]):
            raise NotInFleetError(f"--at {word}: {name} has the levels 0 to {len(ladders[pop]) - 1}")
        levels[pop] = int(number)
    return levels


def _write(out: Path, book: Playbook, world: World) -> None:
    """Replace the file, after a look at it with the agents' own eyes."""
    data = wire.encode(book)
    try:
        wire.decode(data)
    except WireError as error:
        raise TopologyError([Problem(file=str(world.fleet), line=0, text=f"no agent could read it: {error}")]) from None
    new = out.with_name(f"{out.name}.new")
    with writing(out):
        new.write_bytes(data)
        new.replace(out)


def _told(book: Playbook) -> str:
    rows = [row for several in book.steps.values() for row in several]
    moving = [row.error for row in rows if row.flows]
    band = f", error bands {min(moving):.0%} to {max(moving):.0%}" if moving else ""
    return f"fleet {book.fleet!r}, {len(book.ladders)} PoPs, {len(rows)} steps, {len(moving)} of which move users{band}"
