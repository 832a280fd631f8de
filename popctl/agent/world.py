"""The one mutable object: what has been heard, folded. Touched by the loop's task only; reads no clock."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

from popctl.agent.events import (
    ActualChanged,
    Event,
    FleetChanged,
    IntentsChanged,
    LoadRestored,
    PlaybookChanged,
    ServicesRestored,
    StopOrdered,
    TablesChanged,
    TablesInherited,
)
from popctl.core import damping, health, load, push
from popctl.core.decide import Decision, decide
from popctl.model.balancer import BalancerActual
from popctl.model.capacity import CALM, LoadMemory, LoadState
from popctl.model.damping import Ledger
from popctl.model.desired import Actual
from popctl.model.fleet import FleetView
from popctl.model.instant import NEVER, Instant
from popctl.model.load import BackendLoad, LoadSample
from popctl.model.meter import DaemonDied, DaemonStarted, MeterEvent, MeterLost, Overloaded
from popctl.model.observation import Intent, IntentKind, Observation
from popctl.model.past import Past, ServicePast
from popctl.model.playbook import PlaybookInForce
from popctl.model.pop import Pop
from popctl.model.probe import ProbeKey, Thresholds
from popctl.model.view import Health, Memory, View


class World:
    """All that the agent knows. `fold` takes events in, `decide` asks the core what follows."""

    def __init__(self, pop: Pop) -> None:
        self.pop = pop
        self._thresholds: dict[ProbeKey, Thresholds] = {
            ProbeKey(backend.id, spec.name): spec.thresholds
            for backend in pop.backends.values()
            for spec in backend.probes
        }
        self._health: dict[ProbeKey, Health] = {}
        self._intents: tuple[Intent, ...] = ()
        self._actual = Actual()
        self._balancer = BalancerActual()
        self._alive: frozenset[int] | None = None
        self._loads: dict[int, BackendLoad] = {}
        self._load_state: LoadState = CALM
        self._ledger: Ledger = {}
        self._playbook: PlaybookInForce | None = None
        self._looked_at: Instant = -NEVER
        self._weighs = pop.load is not None or (pop.fleet is not None and _limited(pop))
        self._fleet = FleetView()
        self._memory: dict[str, Memory] = {}
        self._stopping_since: Instant | None = None
        self._state_corrupt = False
        self._wake_at: Instant = 0.0

    @property
    def wake_at(self) -> Instant:
        """When time alone may change the decision. May be early, never late."""
        return self._wake_at

    @property
    def stopping(self) -> bool:
        """The agent was told to stop for good."""
        return self._stopping_since is not None

    def fold(self, event: Event, now: Instant) -> bool:
        """Take one event in. Returns whether the decision can have changed by it.

        Nearly all observations of a quiet PoP confirm what is known and return False; that keeps thousands of probes
        per second away from `decide`.
        """
        match event:
            case Observation():
                return self._observe(event)
            case LoadSample() | DaemonDied() | DaemonStarted() | Overloaded() | MeterLost():
                return self._told(event, now)
            case ActualChanged(actual):
                return self._proven(actual, now)
            case TablesInherited() | TablesChanged():
                return self._balanced(event)
            case FleetChanged(view):
                changed = view != self._fleet
                self._fleet = view
                return changed
            case IntentsChanged(intents, corrupt):
                self._intents, self._state_corrupt = intents, corrupt
                return True
            case PlaybookChanged() | LoadRestored() | ServicesRestored():
                return self._read(event)
            case StopOrdered():
                if self._stopping_since is None:
                    self._stopping_since = now
                return True
            case _:
                assert_never(event)

    def _proven(self, actual: Actual, now: Instant) -> bool:
        before, self._actual = self._actual, actual
        if self.pop.load is not None and before.inherited and actual.inherited and before.routes != actual.routes:
            # Only what is known to have been told before is a change; what was found at the start is not ours.
            figures = self.pop.load.policies.damping
            self._ledger = damping.charge_routes(self._ledger, before.routes, actual.routes, now, figures)
        return actual != before

    def _balanced(self, event: TablesInherited | TablesChanged) -> bool:
        match event:
            case TablesInherited(alive):
                self._alive = alive if self._alive is None else self._alive
                return True
            case TablesChanged(balancer):
                changed = balancer != self._balancer
                self._balancer = balancer
                return changed

    def _read(self, event: PlaybookChanged | LoadRestored | ServicesRestored) -> bool:
        """Take in what stood in a file."""
        match event:
            case PlaybookChanged(found):
                self._playbook = found
            case LoadRestored(memory):
                self._load_state, self._ledger = memory.state, memory.ledger
            case ServicesRestored(past):
                for name, one in past.services.items():
                    known = self._memory.get(name, Memory())
                    self._memory[name] = replace(known, flaps=one.flaps, bad_before=one.bad_since, lowered=one.lowered)
        return True

    def _observe(self, observation: Observation) -> bool:
        need = self._thresholds.get(observation.key)
        if need is None:
            # A late result of a probe that the present configuration does not have.
            return False
        before = self._health.get(observation.key, health.UNHEARD)
        after = health.step(before, observation, need)
        self._health[observation.key] = after
        return health.probe_verdict(before, need, observation.at) != health.probe_verdict(after, need, observation.at)

    def _told(self, event: MeterEvent, now: Instant) -> bool:
        match event:
            case DaemonDied():
                return self._died(event, now)
            case LoadSample():
                return self._measured(event, now)
            case Overloaded():
                # What has just been measured is looked at now and not in a while. Symptoms themselves decide nothing.
                return self._weighs and event.backend in self.pop.backends
            case _:
                # A push only ever makes things worse faster, and nothing else says that a backend is down.
                return False

    def _died(self, death: DaemonDied, now: Instant) -> bool:
        backend = self.pop.backends.get(death.backend)
        if backend is None:
            return False
        changed = False
        for key, down in push.died(backend, death.at, self._health).items():
            known = self._health.get(key, health.UNHEARD)
            self._health[key] = down
            need = self._thresholds[key]
            # Down it may have been before; that its kernel says so is new.
            changed |= health.probe_verdict(known, need, now) != health.probe_verdict(down, need, now)
        return changed

    def _measured(self, sample: LoadSample, now: Instant) -> bool:
        if sample.backend not in self.pop.backends:
            return False
        before = self._loads.get(sample.backend, load.UNHEARD)
        self._loads[sample.backend] = load.fold(before, sample, self.pop.load_timing)
        if self._weighs and now >= self._looked_at + self.pop.load_timing.look_after_s:
            return True
        # Planned work waits for the last session to go.
        return any(intent.kind is IntentKind.WITHDRAW for intent in self._intents)

    @property
    def load_memory(self) -> LoadMemory:
        """What must not be forgotten of steering by load."""
        return LoadMemory(state=self._load_state, ledger=self._ledger)

    @property
    def past(self) -> Past:
        """What must not be forgotten of the services."""
        every = {
            name: ServicePast(flaps=one.flaps, bad_since=one.known_bad_since, lowered=one.lowered)
            for name, one in self._memory.items()
        }
        return Past({name: one for name, one in every.items() if one != ServicePast()})

    def view(self) -> View:
        """Return what is known, as the core reads it. Valid until the next `fold`."""
        return View(
            health=MappingProxyType(self._health),
            intents=self._intents,
            actual=self._actual,
            balancer=self._balancer,
            alive=self._alive,
            memory=MappingProxyType(self._memory),
            loads=MappingProxyType(self._loads),
            load_state=self._load_state,
            ledger=self._ledger,
            playbook=self._playbook,
            looked_at=self._looked_at,
            fleet=self._fleet,
            stopping_since=self._stopping_since,
            state_corrupt=self._state_corrupt,
        )

    def restore(self, view: View, wake_at: Instant) -> None:
        """Begin from what was known at another time: the start of a journal file."""
        self._wake_at = wake_at
        self._health = dict(view.health)
        self._intents = view.intents
        self._actual = view.actual
        self._balancer = view.balancer
        self._alive = view.alive
        self._memory = dict(view.memory)
        self._loads = dict(view.loads)
        self._load_state = view.load_state
        self._ledger = view.ledger
        self._playbook = view.playbook
        self._looked_at = view.looked_at
        self._fleet = view.fleet
        self._stopping_since = view.stopping_since
        self._state_corrupt = view.state_corrupt

    def decide(self, now: Instant) -> Decision:
        """Ask the core what follows, and remember what it wants remembered."""
        decision = decide(self.pop, self.view(), now)
        self._memory = dict(decision.memory)
        self._load_state = decision.load_state
        self._looked_at = now
        if decision.desired.tables is not None:
            self._alive = decision.desired.tables.alive
        self._wake_at = decision.wake_at
        return decision


def _limited(pop: Pop) -> bool:
    return all(backend.capacity is not None for backend in pop.backends.values())
