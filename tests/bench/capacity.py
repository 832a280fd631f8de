"""How long steering by load thinks: one PoP in a fleet of 1000. CPU time, so that a busy machine measures the same."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from popctl.core import capacity, damping, gate, load
from popctl.core.decide import decide
from popctl.model.announce import Announce
from popctl.model.capacity import CALM, LoadSettings, LoadState
from popctl.model.desired import Actual
from popctl.model.fleet import FleetView, Member, Permit, PermitState, Record, Stance
from popctl.model.floor import FleetSettings
from popctl.model.load import FleetLoad, LoadSample, LoadTiming, PopLoad, Resource
from popctl.model.playbook import DEFAULT_LADDER, Flow, Playbook, PlaybookInForce, Step, StepKey
from popctl.model.pop import Pop
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason
from popctl.model.view import Health, Memory, Phase, Verdict, View
from tests import pops
from tests.bench.__main__ import Figure
from tests.fleet_agents import GOOD, report

_POPS = 1000
_RECEIVERS = 20
_COMMAND = "python -m tests.bench capacity"
_UNITS = dict.fromkeys(Resource, 1000.0)


def _amounts(used: float) -> dict[Resource, float]:
    """Return a load whose handshakes are easy: where they are not, nobody may leave, and there is nothing to time."""
    return dict.fromkeys(Resource, used) | {Resource.HANDSHAKES: used / 3}


def _pop(used: float, level: int = 0) -> PopLoad:
    amounts = _amounts(used)
    return PopLoad(level=level, announcing=True, used=amounts, peak=amounts, capacity=_UNITS, at=0.0)


def _inputs(own: float, level: int) -> capacity.Inputs:
    pops = {f"p{number}": _pop(300.0) for number in range(_POPS)} | {"p0": _pop(own, level)}
    share = 0.2 / _RECEIVERS
    flows = tuple(Flow("p0", f"p{number}", share) for number in range(1, _RECEIVERS + 1))
    key = StepKey("p0", level, level + 1)
    book = Playbook(
        fleet="bench",
        created_unix_s=0.0,
        ladders=dict.fromkeys(pops, DEFAULT_LADDER),
        steps={key: (Step(key=key, flows=flows),)},
        reconnect_window_s=3600.0,
    )
    fleet = FleetLoad(fleet="bench", pops=pops, at=0.0)
    case = gate.Case(pop="p0", ladder=DEFAULT_LADDER, playbook=book, playbook_age_s=0.0, fleet=fleet)
    return capacity.Inputs(
        tightness=load.tightness(pops["p0"].used, _UNITS, {}),
        case=case,
        penalties=dict.fromkeys((65000, 65001, 65002), damping.NONE),
    )


def _whole(own: float, level: int) -> tuple[Pop, View]:
    """Return an agent of four backends with the same fleet in view, and a step that is due."""
    inputs = _inputs(own, level)
    seen, book = inputs.case.fleet, inputs.case.playbook
    if seen is None or book is None:
        raise AssertionError("the bench has both")
    bare = pops.pop(backends=tuple(pops.backend(number) for number in range(1, 5)))
    backends = {number: replace(one, capacity=dict.fromkeys(Resource, 250.0)) for number, one in bare.backends.items()}
    settings = FleetSettings(name="bench", region="eu", endpoints=("http://192.0.2.5:2379",))
    pop = replace(bare, name="p0", backends=backends, fleet=settings, load=LoadSettings(services=frozenset({"vpn"})))
    members = {name: _member(name, one) for name, one in seen.pops.items()}
    up = Health(verdict=Verdict.UP, leaning=Verdict.UP, heard_at=0.0)
    sample = LoadSample(backend=1, at=0.0, used=_amounts(own / 4))
    one = load.fold(load.UNHEARD, sample, LoadTiming())
    view = View(
        health={ProbeKey(number, spec.name): up for number, one in backends.items() for spec in one.probes},
        actual=Actual(connected=True, inherited=True, sessions={neighbor.address: True for neighbor in pop.neighbors}),
        memory={"vpn": Memory(phase=Phase.IN)},
        loads=dict.fromkeys(backends, one),
        load_state=LoadState(level=level, since=-3600.0, hot_since=-60.0),
        playbook=PlaybookInForce(playbook=book, created=0.0),
        fleet=FleetView(members=members, connected=True, current_at=0.0, settled_at=0.0),
    )
    routes = decide(pop, replace(view, load_state=replace(view.load_state, hot_since=None)), 0.0).desired.routes
    return pop, replace(view, actual=replace(view.actual, routes=routes))


def _member(name: str, found: PopLoad) -> Member:
    told = replace(report(name, GOOD), load=found)
    record = Record(report=told, stances={GOOD.service: Stance.DUTY})
    return Member(record=record, heard_at=0.0, created=1, modified=1)


def _wishing(pop: Pop, view: View, *, ratio: float | None, permit: bool, failed: bool) -> tuple[Pop, View]:
    """Return the same agent with a floor of capacity, with a permit in hand, or with all its backends down."""
    settings = pop.fleet
    if settings is None:
        raise AssertionError("the bench has a fleet")
    floor = replace(settings.floor, minimum_capacity_ratio=ratio)
    held = {"vpn": Permit(service="vpn", state=PermitState.HELD, since=-1.0)} if permit else {}
    down = Health(verdict=Verdict.DOWN, leaning=Verdict.DOWN, heard_at=0.0, reason=Reason.REFUSED)
    health = dict.fromkeys(view.health, down) if failed else view.health
    fleet = replace(view.fleet, permits=held)
    return replace(pop, fleet=replace(settings, floor=floor)), replace(view, fleet=fleet, health=health)


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """One kind of whole decision, and where it must lead for the bench to measure what it says."""

    name: str
    used: float = 300.0
    level: int = 0
    ratio: float | None = None
    failed: bool = False
    announce: Announce = Announce.NORMAL

    def figure(self) -> Figure:
        leaves = self.announce is Announce.WITHDRAWN
        bare = _whole(self.used, self.level)
        pop, view = _wishing(*bare, ratio=self.ratio, permit=leaves, failed=self.failed)
        found = decide(pop, view, 0.0).desired.services[0]
        if found.announce is not self.announce:
            raise AssertionError(f"{self.name}: the bench must measure {self.announce}, not {found}")
        took_s = _median_s(lambda: decide(pop, view, 0.0), 15, 20)
        return _figure(f"decide: whole agent {self.name}, 1000-PoP view", took_s, 1000.0)


_TURNS = (
    _Turn(name="with load steering quiet"),
    _Turn(name="with load steering sheds", used=980.0, announce=Announce.DEPREFERRED),
    _Turn(name="withdraws for load", used=980.0, level=2, announce=Announce.WITHDRAWN),
    _Turn(name="quiet, floor of capacity", ratio=1.2),
    _Turn(name="withdraws for health, floor of capacity", ratio=1.2, failed=True, announce=Announce.WITHDRAWN),
    _Turn(name="withdraws for load, floor of capacity", used=980.0, level=2, ratio=1.2, announce=Announce.WITHDRAWN),
)


def _median_s(run: Callable[[], object], repeats: int, batch: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        for _ in range(batch):
            run()
        times.append((time.process_time() - begin) / batch)
    return statistics.median(times)


def _figure(name: str, value_s: float, bound_us: float | None) -> Figure:
    value = value_s * 1e6
    ok = bound_us is None or value <= bound_us
    return Figure(name=name, value=value, unit="us", bound=bound_us, ok=ok, command=_COMMAND)


def measure() -> list[Figure]:
    """Time a step that is taken, the costliest one (a withdraw, which looks at the whole fleet), and a quiet PoP."""
    policies = capacity.Policies()
    hot = replace(CALM, hot_since=-60.0)
    shed, leave, quiet = _inputs(980.0, 0), _inputs(980.0, 2), _inputs(300.0, 0)
    last = replace(hot, level=2)
    for state, inputs in ((hot, shed), (last, leave)):
        found = capacity.choose(state, inputs, policies, 0.0)
        if found.reason is not Reason.SHED_LOAD:
            raise AssertionError(f"the bench must measure a step that is taken, not {found.reason}")
    sample = LoadSample(backend=1, at=1.0, used=dict.fromkeys(Resource, 1.0))
    loads = [load.fold(load.UNHEARD, sample, LoadTiming())] * 100
    return [
        _figure(
            "capacity: one PoP sheds, 1000-PoP view",
            _median_s(lambda: capacity.choose(hot, shed, policies, 0.0), 15, 10),
            1000.0,
        ),
        _figure(
            "capacity: one PoP withdraws for load, 1000-PoP view",
            _median_s(lambda: capacity.choose(last, leave, policies, 0.0), 15, 5),
            1000.0,
        ),
        _figure("capacity: quiet PoP", _median_s(lambda: capacity.choose(CALM, quiet, policies, 0.0), 15, 1000), 5.0),
        _figure("load: sum over 100 backends", _median_s(lambda: load.total(loads, LoadTiming(), 2.0), 15, 10), None),
        *(turn.figure() for turn in _TURNS),
    ]
