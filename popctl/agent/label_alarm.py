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
    from popctl.agent.events import Event
    from popctl.core.decide import Decision
    from popctl.model.balancer import Labelling
    from popctl.model.fleet import FleetView, Member
    from popctl.model.instant import Instant
    from popctl.model.pop import Pop

_LOG = structlog.get_logger("popctl.agent")


def clashing(labelling: Labelling | None, own: str, view: FleetView) -> dict[str, tuple[Problem, ...]]:
    """Return what is wrong between this labelling and every other PoP, by the name of the PoP."""
    found = {name: _between(labelling, name, member) for name, member in view.members.items() if name != own}
    return {name: told for name, told in found.items() if told}


def _between(labelling: Labelling | None, name: str, member: Member) -> tuple[Problem, ...]:
    theirs = member.record.report.labelling
    if labelling is None or theirs is None:
        return ()
    return tuple(
        Problem(path=one.key, found=f"{name} in the fleet", problem=one.text, remedy=one.remedy)
        for one in clashes(labelling, name, theirs)
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
        self._seen: dict[str, tuple[Member, tuple[Problem, ...]]] = {}

    def turn(self, now: Instant, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - a sink
        """Say what began and what ended."""
        views = [event.view for event in events if isinstance(event, FleetChanged)]
        if not views:
            return
        members = views[-1].members
        for name in self._seen.keys() - members.keys():
            self._tell(name, self._seen.pop(name)[1], ())
        for name, member in members.items():
            before = self._seen.get(name)
            # A fleet of a thousand PoPs is not compared anew for every word of one.
            if name == self._pop.name or (before is not None and before[0] is member):
                continue
            found = _between(self._pop.labelling, name, member)
            self._seen[name] = (member, found)
            self._tell(name, () if before is None else before[1], found)

    def _tell(self, name: str, before: tuple[Problem, ...], after: tuple[Problem, ...]) -> None:
        for one in after:
            if one not in before:
                _LOG.error("labels of another PoP clash with ours", pop=name, problem=str(one))
        if before and not after:
            _LOG.warning("labels of another PoP clash no more", pop=name)
