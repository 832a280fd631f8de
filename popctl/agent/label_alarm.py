"""PoPs of a fleet whose labels mean something else than here: told, and no reason to take a new configuration over.

What is in force stays so. Whoever is wrong cannot be known here: were tables given up on another PoP's word, a mistake
in one PoP would take down the one that it contradicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from popctl.agent.events import FleetChanged
from popctl.config.errors import Problem
from popctl.wire.spi_lint import clashes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from popctl.agent.events import Event
    from popctl.core.decide import Decision
    from popctl.model.balancer import Labelling
    from popctl.model.fleet import FleetView
    from popctl.model.instant import Instant
    from popctl.model.pop import Pop

_LOG = structlog.get_logger("popctl.agent")


def clashing(labelling: Labelling | None, own: str, view: FleetView) -> dict[str, tuple[Problem, ...]]:
    """Return what is wrong between this labelling and every other PoP, by the name of the PoP."""
    return {name: told for name, told in _each(labelling, own, view) if told}


def _each(labelling: Labelling | None, own: str, view: FleetView) -> Iterator[tuple[str, tuple[Problem, ...]]]:
    for name, member in view.members.items():
        theirs = member.record.report.labelling
        if name != own and labelling is not None and theirs is not None:
            yield (
                name,
                tuple(
                    Problem(path=one.key, found=f"{name} in the fleet", problem=one.text, remedy=one.remedy)
                    for one in clashes(labelling, name, theirs)
                ),
            )


def new_clashes(old: Pop, new: Pop, view: FleetView) -> tuple[Problem, ...]:
    """Return what is wrong with `new` and was not with `old`, as far as the fleet is heard."""
    if old.fleet is None or new.fleet is None or old.fleet.name != new.fleet.name or not view.connected:
        return ()
    before = {one for told in clashing(old.labelling, old.name, view).values() for one in told}
    after = clashing(new.labelling, old.name, view)
    return tuple(one for told in after.values() for one in told if one not in before)


class LabelAlarm:
    """A sink of the loop."""

    def __init__(self, pop: Pop) -> None:
        self._pop = pop
        self._told: dict[str, tuple[Problem, ...]] = {}

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - a sink
        """Say what began and what ended."""
        views = [event.view for event in events if isinstance(event, FleetChanged)]
        if not views:
            return
        found = clashing(self._pop.labelling, self._pop.name, views[-1])
        for name, told in sorted(found.items()):
            for one in told:
                if one not in self._told.get(name, ()):
                    _LOG.error("labels of another PoP clash with ours", pop=name, problem=str(one))
        for name in sorted(self._told.keys() - found.keys()):
            _LOG.warning("labels of another PoP clash no more", pop=name)
        self._told = found
