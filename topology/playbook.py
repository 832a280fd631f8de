"""The playbook of a fleet: where every step of every PoP would land, for the live what-if gate.

The values are `popctl.model.playbook`'s and the file is `popctl.wire.playbook`'s; what is decided here is what the
model knows of each step. Everybody else stands where `levels` says, so make it anew when PoPs have stepped.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from popctl.config.defaults import DEPREFERRED_PREPEND
from popctl.model.playbook import DEFAULT_LADDER, Playbook
from topology.simulation.curves import UNIT
from topology.simulation.ladder import told
from topology.simulation.ladder_plan import LadderPlanner
from topology.simulation.routing import Routing
from topology.simulation.rows import Band, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from popctl.model.playbook import Level, Step, StepKey
    from topology.announce import Announcement, Plan
    from topology.fleet import Fleet
    from topology.whatif import Study

BAND: Final = Band(certain=0.1, tied=0.5)
"""Published studies find that 14 to 35 % of real routing decisions deviate from this model. Where nothing is tied it
has little to get wrong; a session with a tie may as well land elsewhere."""


class Ladders(StrEnum):
    """Which ladders a playbook is made for."""

    DEFAULT = "default"
    """Normal, depreferred, graceful shutdown, withdrawn; for all upstreams together."""
    PLANNED = "planned"
    """By upstream, as rehearsals find best (`topology.simulation.ladder_plan`)."""


def ladders_of(study: Study, kind: Ladders, prepend: int = DEPREFERRED_PREPEND) -> tuple[tuple[Level, ...], ...]:
    """Return the ladder of every PoP, in the fleet's order."""
    pops = range(len(study.fleet.pops))
    if kind is Ladders.DEFAULT:
        return tuple(DEFAULT_LADDER for _ in pops)
    planner = LadderPlanner(Routing(study.model, study.demand, study.plan), study.profile, prepend, BAND.certain)
    return tuple(planner.ladder(pop) for pop in pops)


def rows_of(
    study: Study,
    ladders: Sequence[tuple[Level, ...]],
    levels: Sequence[int],
    *,
    prepend: int = DEPREFERRED_PREPEND,
    band: Band = BAND,
) -> Rows:
    """Return every step of every PoP while all others stand on their level of `levels`.

    Args:
        study: model, demand and profile; measured sessions are taken to be measured with these levels.
        ladders: of every PoP.
        levels: where every PoP stands.
        prepend: what "depreferred" adds to the path.
        band: how wrong a row may be.
    """
    plan = _plan_at(study.fleet, ladders, levels, prepend)
    return Rows(
        routing=Routing(study.model, study.demand, plan),
        plan=plan,
        levels=levels,
        ladders=ladders,
        factors=np.full(len(study.model.attachment.graph.regions) + 1, UNIT, dtype=np.int64),
        band=band,
        prepend=prepend,
    )


def playbook_of(
    study: Study,
    ladders: Sequence[tuple[Level, ...]],
    steps: Mapping[StepKey, tuple[Step, ...]],
    created_unix_s: float,
) -> Playbook:
    """Return the playbook with these rows."""
    return Playbook(
        fleet=study.fleet.name,
        created_unix_s=created_unix_s,
        ladders={pop.name: ladder for pop, ladder in zip(study.fleet.pops, ladders, strict=True)},
        steps=steps,
        reconnect_window_s=float(study.profile.reconnect_window_s),
    )


def _plan_at(fleet: Fleet, ladders: Sequence[tuple[Level, ...]], levels: Sequence[int], prepend: int) -> Plan:
    plan: list[Announcement | None] = []
    for session in fleet.sessions:
        level = ladders[session.pop][levels[session.pop]]
        plan += told(level, [session], prepend)
    return tuple(plan)
