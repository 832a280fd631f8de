"""Controllers that break what popctl's keeps, each in one way: for tests of the verdicts."""

from __future__ import annotations

from dataclasses import replace

from popctl.core.capacity import Choice
from popctl.model.load import Amounts, PopLoad, Resource, Tightness
from topology.controllers import Act
from topology.controllers_popctl import Popctl, policies_for
from topology.simulation.world import World

_ANYTHING = -1e12


class Reckless(Popctl):
    """Its gate takes every step that a hot PoP wants, wherever the load lands."""

    name = "reckless"

    def __init__(self, world: World) -> None:
        policies = policies_for(world.scenario.tick_s)
        gate = replace(policies.gate, watermark=1e9, minimum_gain=_ANYTHING, minimum_gain_sessions=_ANYTHING)
        super().__init__(world.fleet, world, replace(policies, gate=gate))


class Domino(Reckless):
    """Besides, it keeps from the others that a step is not verified yet, so that they build on it."""

    name = "domino"

    def _own(self, *arguments: object) -> tuple[PopLoad, Tightness]:
        own, tightness = super()._own(*arguments)  # type: ignore[arg-type]
        return replace(own, settling=False), tightness

    def _stepped(self, pop: int, before: int, choice: Choice, own: PopLoad, moment: float) -> Act:
        act = super()._stepped(pop, before, choice, own, moment)
        at_s, name, word = self._store.late.pop()
        self._store.late.append((at_s, name, replace(word, settling=False)))
        return act


class Forgetful(Popctl):
    """It forgets that those who are moved must do handshakes."""

    name = "forgetful"

    def __init__(self, world: World) -> None:
        super().__init__(world.fleet, world)

    def _capacity(self, pop: int, alive: float) -> Amounts:
        known = super()._capacity(pop, alive)
        return {resource: limit for resource, limit in known.items() if resource is not Resource.HANDSHAKES}
