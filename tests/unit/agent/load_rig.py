"""A whole agent that load steers, beside another PoP that it knows of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from popctl.agent.events import FleetChanged, LoadRestored, PlaybookChanged
from popctl.fleet.client import StoreFleet
from popctl.fleet.memory import MemoryHub, MemoryLine
from popctl.model.capacity import LoadMemory, LoadSettings, LoadState
from popctl.model.damping import Penalty
from popctl.model.fleet import FleetView, FloorPolicy, Member, Record, Stance
from popctl.model.floor import FleetSettings
from popctl.model.load import LoadSample, PopLoad, Resource
from popctl.model.meter import UnixMeter
from popctl.model.playbook import DEFAULT_LADDER, Flow, Playbook, PlaybookInForce, Step, StepKey
from popctl.model.reason import Reason
from popctl.model.route import RouteKey
from tests.eventually import eventually_async
from tests.fleet_agents import GOOD, report
from tests.unit.agent import api_rig
from tests.unit.agent.api_rig import TestedAgent

SETTINGS = FleetSettings(name="test", region="eu", endpoints=("http://192.0.2.5:2379",))


def _playbook() -> Playbook:
    steps = {}
    for before, share in enumerate((0.4, 0.5, 1.0)):
        key = StepKey("ams", before, before + 1)
        steps[key] = (Step(key=key, flows=(Flow("ams", "fra", share),)),)
    return Playbook(
        fleet="test", created_unix_s=0.0, ladders=dict.fromkeys(("ams", "fra"), DEFAULT_LADDER), steps=steps
    )


def _member(now: float) -> Member:
    used = {Resource.SESSIONS: 20.0}
    load = PopLoad(level=0, announcing=True, used=used, peak=used, capacity={Resource.SESSIONS: 100.0}, at=now)
    record = Record(report=replace(report("fra", GOOD), load=load), stances={"vpn": Stance.DUTY})
    return Member(record=record, heard_at=now, created=1, modified=1)


@asynccontextmanager
async def steered(run_dir: Path, *, sessions: float = 80.0, level: int = 0) -> AsyncIterator[TestedAgent]:
    """Run a PoP with room for 100 sessions beside another one with 20 of 100."""
    bare = api_rig.small_pop(run_dir)
    backends = {
        number: replace(one, capacity={Resource.SESSIONS: 50.0}, meter=UnixMeter(path=run_dir / "meter.sock"))
        for number, one in bare.backends.items()
    }
    load = LoadSettings(services=frozenset({"vpn"}), playbook=run_dir / "playbook.json")
    pop = replace(bare, name="ams", backends=backends, fleet=SETTINGS, load=load)
    fleet = StoreFleet("ams", "ams-1", MemoryLine("ams", MemoryHub(time.monotonic)), FloorPolicy())
    async with api_rig.running(pop, fleet=fleet) as agent:
        now = time.monotonic()
        state = LoadState(level=level, since=now, reason=Reason.SHED_LOAD if level else None)
        key = RouteKey(pop.neighbors[0].address, pop.services[0].prefixes[0])
        agent.loop.put(LoadRestored(LoadMemory(state=state, ledger={key: Penalty(800.0, now)})))
        agent.loop.put(PlaybookChanged(PlaybookInForce(playbook=_playbook(), created=now - 60.0)))
        agent.all_pass()
        for number in backends:
            agent.loop.put(LoadSample(backend=number, at=now, used={Resource.SESSIONS: sessions / 2}))
        await eventually_async(lambda: agent.loop.decision is not None and agent.world.view().looked_at >= now)
        members = {"fra": _member(now)}
        agent.loop.put(FleetChanged(FleetView(members=members, connected=True, current_at=now)))
        yield agent
