"""What would have been without a step: whenever something happens the world is copied, with the controller frozen.

A fault can hit sessions where a step has put them, or where it has taken them from; neither is the step's merit. So a
step is compared with a copy of the world that was made when the last thing before it happened, in which the controller
stays as it was then, until the next thing happens. A copy without a step in its time is not played: it is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topology.announce import Announcement
    from topology.controllers import Act, Controller, Seen
    from topology.scenario import Scenario
    from topology.simulation.run import Simulation


class Frozen:
    """A controller that stays as another one was."""

    name = "frozen"

    def __init__(self, other: Controller) -> None:
        self.levels = list(other.levels)
        self._other = other

    def turn(self, seen: Seen) -> list[Act]:
        """Do nothing."""
        del seen
        return []

    def routes(self, pop: int, level: int) -> tuple[Announcement | None, ...]:
        """Return what the other one's level says."""
        return self._other.routes(pop, level)


def happenings(scenario: Scenario) -> list[float]:
    """Return when the scenario changes the world at once; the sun and ramps do so all the time."""
    times = {at_s for event in scenario.events for at_s in (event.at_s, event.until_s)}
    times |= {at_s for one in scenario.crowds for at_s in (one.from_s, one.until_s)}
    times |= {event.at_s + scenario.network.hold_time_s for event in scenario.events}
    return sorted(times)


class Oracle:
    """Plays the copies beside a run, span by span, and adds their ticks to its result."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._ahead = happenings(simulation.scenario)
        self._ahead.reverse()
        self._copy = simulation.frozen()
        self._begin = 0
        self._acts = 0
        self._health_changes = 0

    def before(self, number: int, now_s: float) -> None:
        """Look whether anything happens between the tick before and this one."""
        result = self._simulation.result
        happened = len(result.health) > self._health_changes
        while self._ahead and self._ahead[-1] <= now_s:
            self._ahead.pop()
            happened = True
        if happened:
            self.close(number)
            self._copy = self._simulation.frozen()
            self._begin, self._acts = number, len(result.acts)
            self._health_changes = len(result.health)

    def close(self, end: int) -> None:
        """Play the copy up to a tick, without it."""
        result = self._simulation.result
        if len(result.acts) == self._acts:
            result.frozen += result.ticks[self._begin : end]
            return
        for number in range(self._begin, end):
            self._copy.tick(number)
        result.frozen += self._copy.result.ticks
