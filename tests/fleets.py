"""A small fleet whose catchments are known exactly: users go to the nearest PoP, and levels make a PoP look farther.

The playbook that `Fleet.playbook` writes is right by construction; `wrong_by` makes it lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from popctl.core import capacity, damping, gate
from popctl.core.load import tightness
from popctl.model.capacity import CALM, LoadState
from popctl.model.load import Amounts, FleetLoad, PopLoad, Resource
from popctl.model.playbook import DEFAULT_LADDER, Flow, Playbook, Step, StepKey

LADDER = DEFAULT_LADDER
ASN = 65000
_FARTHER = (0, 40, 90)
"""What the levels of the default ladder add to a distance; on the last one a PoP is not there."""


@dataclass(frozen=True, slots=True)
class Users:
    """Users of one place."""

    sessions: int
    distances: tuple[int, ...]
    """To every PoP."""


@dataclass(slots=True)
class Fleet:
    """PoPs, their users, and where each service stands."""

    capacities: list[int]
    users: list[Users]
    policies: capacity.Policies = field(default_factory=capacity.Policies)
    wrong_by: float = 1.0
    """What the playbook's shares are multiplied with."""
    states: list[LoadState] = field(default_factory=list)
    ledgers: list[damping.Penalty] = field(default_factory=list)
    highest: float = 0.0
    """The highest penalty that any neighbour has kept."""

    def __post_init__(self) -> None:
        self.states = self.states or [CALM] * len(self.capacities)
        self.ledgers = [damping.NONE] * len(self.capacities)

    @property
    def levels(self) -> list[int]:
        return [state.level for state in self.states]

    def landing(self, levels: list[int]) -> list[int | None]:
        """Return the PoP of every place's users; None when nobody announces."""
        found: list[int | None] = []
        for place in self.users:
            seen = [
                (place.distances[pop] + _FARTHER[level], pop)
                for pop, level in enumerate(levels)
                if level < len(_FARTHER)
            ]
            found.append(min(seen)[1] if seen else None)
        return found

    def sessions(self, levels: list[int]) -> list[int]:
        sums = [0] * len(self.capacities)
        for place, pop in zip(self.users, self.landing(levels), strict=True):
            if pop is not None:
                sums[pop] += place.sessions
        return sums

    def phi(self, levels: list[int]) -> float:
        saturation = self.policies.gate.saturation
        carried = self.sessions(levels)
        over = sum(max(0.0, used - saturation * limit) for used, limit in zip(carried, self.capacities, strict=True))
        return over + sum(place.sessions for place in self.users) - sum(carried)

    def view(self, now: float) -> FleetLoad:
        pops = {}
        for number, used in enumerate(self.sessions(self.levels)):
            amounts: Amounts = {Resource.SESSIONS: float(used)}
            pops[f"p{number}"] = PopLoad(
                level=self.levels[number],
                announcing=self.levels[number] < len(_FARTHER),
                used=amounts,
                peak=amounts,
                capacity={Resource.SESSIONS: float(self.capacities[number])},
                at=now,
                settling=self.states[number].settling,
            )
        return FleetLoad(fleet="test", pops=pops, at=now)

    def playbook(self, pop: int) -> Playbook:
        """Return what the steps of one PoP would do from here."""
        names = [f"p{number}" for number in range(len(self.capacities))]
        here = self.levels[pop]
        when = {name: level for name, level in zip(names, self.levels, strict=True) if level and name != names[pop]}
        steps: dict[StepKey, tuple[Step, ...]] = {}
        for after in (here - 1, here + 1):
            if 0 <= after < len(LADDER):
                key = StepKey(names[pop], here, after)
                steps[key] = (Step(key=key, flows=self._flows(pop, after), when=when),)
        return Playbook(fleet="test", created_unix_s=0.0, ladders=dict.fromkeys(names, LADDER), steps=steps)

    def _flows(self, pop: int, after: int) -> tuple[Flow, ...]:
        levels = self.levels
        before = self.landing(levels)
        carried = self.sessions(levels)
        levels[pop] = after
        moved: dict[tuple[int, int | None], int] = {}
        for place, source, target in zip(self.users, before, self.landing(levels), strict=True):
            if source is not None and source != target:
                moved[source, target] = moved.get((source, target), 0) + place.sessions
        return tuple(
            Flow(
                f"p{source}", None if target is None else f"p{target}", min(1.0, self.wrong_by * sum_ / carried[source])
            )
            for (source, target), sum_ in moved.items()
            if carried[source]
        )

    def inputs(self, pop: int, now: float) -> capacity.Inputs:
        view = self.view(now)
        own = view.pops[f"p{pop}"]
        case = gate.Case(pop=f"p{pop}", ladder=LADDER, playbook=self.playbook(pop), playbook_age_s=0.0, fleet=view)
        return capacity.Inputs(
            tightness=tightness(own.used, own.capacity, {}), case=case, penalties={ASN: self.ledgers[pop]}
        )

    def turn(self, pop: int, now: float) -> capacity.Choice:
        """Let one PoP choose; charge what it changes, as its neighbours would."""
        inputs = self.inputs(pop, now)
        before = self.states[pop]
        choice = capacity.choose(before, inputs, self.policies, now)
        again = capacity.choose(choice.state, inputs, self.policies, now)
        assert again == choice, "a second look at the same world at the same time must see the same"
        self.states[pop] = choice.state
        cost = damping.cost(LADDER[before.level].others, choice.rungs.others, self.policies.damping)
        self.ledgers[pop] = damping.charge(self.ledgers[pop], cost, now, self.policies.damping)
        self.highest = max(self.highest, self.ledgers[pop].value)
        return choice

    def live(self, begin: float, end: float, every: float = 15.0) -> list[tuple[float, int, int, int]]:
        """Let all PoPs choose in turn; return every step: when, which PoP, from which level, to which."""
        steps = []
        now = begin
        while now < end:
            for pop in range(len(self.capacities)):
                before = self.states[pop].level
                after = self.turn(pop, now).level
                if after != before:
                    steps.append((now, pop, before, after))
            now += every
        return steps


def amounts(**named: float) -> Mapping[Resource, float]:
    """Return amounts by the names of the resources' members, in lower case."""
    return {Resource[name.upper()]: value for name, value in named.items()}
