"""Whole agents that share a store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from popctl.fleet.client import StoreFleet
from popctl.fleet.memory import MemoryHub, MemoryLine
from popctl.model.fleet import FloorPolicy, Stance
from popctl.model.floor import FleetSettings
from popctl.model.observation import Outcome
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.agent.api_rig import TestedAgent

POLICY = FloorPolicy(permit_wait_s=0.2)


@asynccontextmanager
async def member(name: str, run_dir: Path, hub: MemoryHub) -> AsyncIterator[TestedAgent]:
    folder = run_dir / name
    folder.mkdir()
    settings = FleetSettings(name="test", region="eu", endpoints=("http://192.0.2.5:2379",), floor=POLICY)
    pop = replace(api_rig.small_pop(folder), name=name, fleet=settings)
    fleet = StoreFleet(name, f"{name}-1", MemoryLine(name, hub), POLICY)
    async with api_rig.healthy(pop, fleet) as agent:
        yield agent


@asynccontextmanager
async def two(tmp_path: Path) -> AsyncIterator[tuple[TestedAgent, TestedAgent]]:
    """Two PoPs that know of each other."""
    hub = MemoryHub(time.monotonic)
    async with member("ams", tmp_path, hub) as ams, member("fra", tmp_path, hub) as fra:
        for agent in (ams, fra):
            await eventually_async(lambda agent=agent: known(agent) == {"ams", "fra"})
        yield ams, fra


def known(agent: TestedAgent) -> set[str]:
    members = agent.world.view().fleet.members
    return {name for name, one in members.items() if one.record.stance("vpn") is not Stance.OUT}


def decided(agent: TestedAgent) -> tuple[Announce, Reason, bool]:
    assert agent.loop.decision is not None
    (service,) = agent.loop.decision.desired.services
    return service.announce, service.reason, service.held


def all_refuse(agent: TestedAgent) -> None:
    for number in agent.pop.backends:
        agent.observe(number, Outcome.FAIL, Reason.REFUSED)
