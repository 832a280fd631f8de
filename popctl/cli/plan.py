"""`popctl plan` and `popctl topology`: where clients go when a PoP changes its announcement, before it does.

Exit code 0 says that every answer is safe, 3 that one is not, 1 that an input is bad.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators

from popctl.cli.bars import watched
from popctl.cli.exits import Exit
from popctl.cli.options import write_json
from popctl.cli.plan_output import expect_picture, writing
from popctl.cli.plan_playbook import playbook
from popctl.cli.plan_render import (
    as_document,
    cycles_document,
    load_document,
    risk_document,
    show_answer,
    show_answers,
    show_load,
)
from popctl.cli.plan_topology import topology_app
from popctl.cli.plan_world import THE_WORLD, NotInFleetError, Sites, World, attempt, study_of
from popctl.cli.render import console
from topology import fleet_file
from topology.catchment import at_risk
from topology.fleet import announced_pops
from topology.keys import MOST_PREPENDS
from topology.whatif import Answer, Study

plan_app = App(name="popctl plan", help="Predict where clients go when a PoP changes its announcement.")
plan_app.command(playbook)
__all__ = ["plan_app", "topology_app"]


def _pop(study: Study, name: str) -> int:
    try:
        return study.fleet.pop_named(name)
    except KeyError:
        known = ", ".join(pop.name for pop in study.fleet.pops[:20])
        raise NotInFleetError(f"no PoP is named {name!r}; there are {known}") from None


def _upstream(study: Study, pop: int, asn: int | None) -> int | None:
    """Return the AS number after looking it up, because a prepend towards nobody would look safe."""
    upstreams = {session.upstream for session in study.fleet.sessions if session.pop == pop}
    if asn is not None and asn not in upstreams:
        known = ", ".join(map(str, sorted(upstreams)))
        raise NotInFleetError(f"{study.fleet.pops[pop].name} has no session with AS {asn}, only with {known}")
    return asn


def _grown(world: World, file: Path) -> Sites:
    """Return the fleet with the PoP of one more file, which does not announce yet."""
    fleet = fleet_file.load(world.fleet)
    grown = fleet_file.load_pop(file, fleet)
    new = frozenset(range(len(fleet.sessions), len(grown.sessions)))
    return Sites(fleet=grown, unannounced=new, sized_for=fleet, added=file)


def _tell(answer: Answer, study: Study, world: World) -> int:
    if world.json:
        write_json(as_document(answer) | cycles_document(study))
    else:
        show_answer(answer, console())
    return Exit.OK if answer.safe else Exit.UNSAFE


def _tell_all(answers: Iterable[Answer], expected: int, study: Study, world: World) -> int:
    found = list(watched(answers, expected))
    if world.json:
        answered = [as_document(one) for one in found]
        write_json({"safe": all(one.safe for one in found), **cycles_document(study), "answers": answered})
    else:
        show_answers(found, console())
    return Exit.OK if all(answer.safe for answer in found) else Exit.UNSAFE


@plan_app.command
def load(
    *,
    risks: Annotated[int, Parameter(name="--risks", validator=validators.Number(gte=0))] = 10,
    world: World = THE_WORLD,
) -> int:
    """Show what every PoP carries now, how certain that is, and which client ASes may flip between PoPs.

    Parameters
    ----------
    risks
        How many of the ASes that may flip are listed.
    """

    def work() -> int:
        study = study_of(world)
        found = at_risk(study.model, study.demand, study.baseline, study.where, most=risks)
        if world.json:
            names = [pop.name for pop in study.fleet.pops]
            write_json(load_document(study) | {"at_risk": [risk_document(one, names) for one in found]})
        else:
            show_load(study, found, console())
        return Exit.OK

    return attempt(work, as_json=world.json)


@plan_app.command
def withdraw(pop: str, /, *more: str, world: World = THE_WORLD) -> int:
    """Ask what happens when PoPs stop announcing.

    Parameters
    ----------
    pop
        Name of a PoP.
    more
        PoPs that stop at the same time.
    """

    def work() -> int:
        study = study_of(world)
        return _tell(study.withdraw([_pop(study, name) for name in (pop, *more)]), study, world)

    return attempt(work, as_json=world.json)


@plan_app.command
def prepend(
    pop: str,
    /,
    *,
    times: Annotated[int, Parameter(name="--times", validator=validators.Number(gte=0, lte=MOST_PREPENDS))] = 1,
    upstream: Annotated[int | None, Parameter(name="--upstream")] = None,
    world: World = THE_WORLD,
) -> int:
    """Ask what happens when a PoP prepends its AS number more often than the fleet file says.

    Parameters
    ----------
    pop
        Name of the PoP.
    times
        How many times more.
    upstream
        AS number of one upstream; all of the PoP's when left out.
    """

    def work() -> int:
        study = study_of(world)
        site = _pop(study, pop)
        return _tell(study.prepend(site, times, upstream=_upstream(study, site, upstream)), study, world)

    return attempt(work, as_json=world.json)


@plan_app.command(name="add-pop")
def add_pop(file: Path, /, *, world: World = THE_WORLD) -> int:
    """Ask what happens when one more PoP announces.

    Parameters
    ----------
    file
        The new PoP in JSON, as an entry of the fleet file's `pops`.
    """

    def work() -> int:
        study = study_of(world, lambda world: _grown(world, file))
        return _tell(study.ask(f"add {study.fleet.pops[-1].name}", study.fleet.plan()), study, world)

    return attempt(work, as_json=world.json)


@plan_app.command(name="n-1")
def one_down(*, world: World = THE_WORLD) -> int:
    """Ask for every PoP what happens when it fails."""

    def work() -> int:
        study = study_of(world)
        return _tell_all(study.one_down(), len(study.fleet.pops), study, world)

    return attempt(work, as_json=world.json)


@plan_app.command(name="n-2")
def two_down(
    *, top: Annotated[int, Parameter(name="--top", validator=validators.Number(gte=2))] = 10, world: World = THE_WORLD
) -> int:
    """Ask for every pair of the most loaded PoPs what happens when both fail.

    Parameters
    ----------
    top
        How many of the most loaded PoPs are paired.
    """

    def work() -> int:
        study = study_of(world)
        count = min(top, len(announced_pops(study.fleet, study.plan)))
        if count < 2:  # noqa: PLR2004 - a pair
            raise NotInFleetError("fewer than two PoPs announce, so no two of them can fail")
        return _tell_all(study.two_down(top), count * (count - 1) // 2, study, world)

    return attempt(work, as_json=world.json)


@plan_app.command(name="map")
def draw_map(
    *,
    out: Annotated[Path, Parameter(name="--out")] = Path("catchments.svg"),
    withdraw: Annotated[tuple[str, ...], Parameter(name="--withdraw")] = (),
    world: World = THE_WORLD,
) -> int:
    """Draw PoPs and their shares, before and after a withdraw.

    Parameters
    ----------
    out
        The file to write; its suffix, such as .svg or .png, says what kind.
    withdraw
        PoPs that are withdrawn in the second picture.
    """
    # matplotlib takes a second, and only this command needs it.
    from topology.picture import SUFFIXES  # noqa: PLC0415
    from topology.worldmap import draw  # noqa: PLC0415

    def work() -> int:
        expect_picture(out, SUFFIXES)
        study = study_of(world)
        gone = [_pop(study, name) for name in withdraw]
        answer = study.withdraw(gone) if gone else study.ask("nothing changes", study.plan)
        with writing(out):
            draw(study.fleet, answer, out)
        sys.stdout.write(f"{out}\n")
        return Exit.OK

    return attempt(work, as_json=world.json)
