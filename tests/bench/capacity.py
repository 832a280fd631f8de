"""How long steering by load thinks: one PoP in a fleet of 1000."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from popctl.core import capacity, damping, gate, load
from popctl.model.capacity import CALM
from popctl.model.load import FleetLoad, LoadSample, LoadTiming, PopLoad, Resource
from popctl.model.playbook import DEFAULT_LADDER, Flow, Playbook, Step, StepKey
from popctl.model.reason import Reason
from tests.bench.__main__ import Figure

_POPS = 1000
_RECEIVERS = 20
_COMMAND = "python -m tests.bench capacity"
_UNITS = dict.fromkeys(Resource, 1000.0)


def _pop(used: float, level: int = 0) -> PopLoad:
    amounts = dict.fromkeys(Resource, used)
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


def _median_s(run: Callable[[], object], repeats: int, batch: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(batch):
            run()
        times.append((time.perf_counter() - begin) / batch)
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
    ]
