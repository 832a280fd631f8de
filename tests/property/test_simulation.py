"""Invariants of the closed loop over random small Internets, crowds and faults."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popctl.core import damping
from topology.generate import REGIONS
from topology.scenario import Crowd, Diurnal, Event, EventKind, Internet, Network, Scenario, Sites, Telemetry
from topology.simulation.build import CONTROLLERS, Stage, play, stage_of
from topology.simulation.verdicts import judge

_TICK_S = 60.0
_DURATION_S = 2400.0


def moments() -> st.SearchStrategy[float]:
    return st.integers(0, int(_DURATION_S / _TICK_S) - 1).map(lambda tick: tick * _TICK_S + 1.0)


@st.composite
def spans(draw: st.DrawFn) -> tuple[float, float]:
    begin = draw(moments())
    return begin, begin + draw(st.integers(1, 30)) * _TICK_S


@st.composite
def events(draw: st.DrawFn) -> Event:
    at_s, until_s = draw(spans())
    kind = draw(st.sampled_from([one for one in EventKind if one is not EventKind.UPSTREAM_FAILURE]))
    share = draw(st.sampled_from([0.3, 1.0]))
    return Event(kind=kind, at_s=at_s, until_s=until_s, largest=draw(st.integers(1, 4)), share=share)


@st.composite
def crowds(draw: st.DrawFn) -> Crowd:
    from_s, until_s = draw(spans())
    region = draw(st.sampled_from(sorted(REGIONS)))
    return Crowd(region=region, from_s=from_s, until_s=until_s, rise=draw(st.sampled_from([0.4, 0.8, 1.5])))


@st.composite
def scenarios(draw: st.DrawFn, *, faults: bool = True) -> Scenario:
    return Scenario(
        name="drawn",
        seed=draw(st.integers(0, 2**32)),
        duration_s=_DURATION_S,
        tick_s=_TICK_S,
        internet=Internet(ases=draw(st.sampled_from([200, 350]))),
        sites=Sites(pops=draw(st.integers(2, 9)), upstreams=draw(st.integers(1, 3)), users=20_000),
        network=Network(damping_share=draw(st.sampled_from([0.0, 0.5]))),
        telemetry=Telemetry(loss=draw(st.sampled_from([0.0, 0.1])) if faults else 0.0),
        diurnal=Diurnal(amplitude=0.3) if faults and draw(st.booleans()) else None,
        crowds=tuple(draw(st.lists(crowds(), min_size=1, max_size=2))),
        events=tuple(draw(st.lists(events(), max_size=3))) if faults else (),
    )


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    """Draw a scenario with what only its fleet knows: which upstreams there are to fail, for all PoPs or for one."""
    stage = stage_of(draw(scenarios()), engine="numpy")
    fleet = stage.model.attachment.fleet
    found = []
    for session in draw(st.lists(st.sampled_from(fleet.sessions), max_size=2)):
        at_s, until_s = draw(spans())
        pops = draw(st.sampled_from([(), (fleet.pops[session.pop].name,)]))
        kind = EventKind.UPSTREAM_FAILURE
        found.append(Event(kind=kind, at_s=at_s, until_s=until_s, upstream=session.upstream, pops=pops))
    return replace(stage, scenario=replace(stage.scenario, events=(*stage.scenario.events, *found)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stages())
def test_whatever_fails_popctl_keeps_its_invariants(stage: Stage) -> None:
    run, baseline, again = (play(stage, name, judged=True) for name in ("popctl", "none", "popctl"))
    assert not [one for one in judge(run, baseline, again) if not one.holds]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios(faults=False))
def test_in_a_crowd_without_faults_popctl_does_no_harm(scenario: Scenario) -> None:
    calm = replace(scenario, telemetry=Telemetry(noise=0.0), crowds=scenario.crowds[:1])
    stage = stage_of(calm, engine="numpy")
    run, baseline = play(stage, "popctl"), play(stage, "none")
    settled = [
        tick.lost <= other.lost + 0.002 * tick.demand for tick, other in zip(run.ticks, baseline.ticks, strict=True)
    ]
    moving = [any(0 <= tick.at_s - act.at_s <= 300.0 for act in run.acts) for tick in run.ticks]
    assert all(fine or busy for fine, busy in zip(settled, moving, strict=True))
    assert run.highest_penalty is not None
    assert run.highest_penalty < damping.Figures().limit


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stages(), st.sampled_from(CONTROLLERS))
def test_sessions_are_conserved_under_every_controller(stage: Stage, controller: str) -> None:
    run = play(stage, controller)
    assert run.exact
    assert all(tick.conserved for tick in run.ticks)
    assert all(0 <= tick.lost <= tick.demand for tick in run.ticks)
