"""Fifty agents against one etcd: how fast all see a change, what it costs each of them, how often they write.

Each agent is all of it but probes, meters and BGP: the loop with its World, every decision, journal, metrics, and the
client of the store. They share this process, so its CPU time is divided by them, and their turns wait for each other.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import replace
from math import ceil
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from popctl.agent.events import FleetChanged
from popctl.agent.fleet_hand import FleetHand, Identity
from popctl.agent.journal import Journal
from popctl.agent.loop import Loop
from popctl.agent.metrics import Metrics
from popctl.agent.world import World
from popctl.core.guard import Cause, Withdrawal, judge
from popctl.fleet.client import StoreFleet
from popctl.fleet.etcd import EtcdLine, EtcdSettings
from popctl.model.fleet import FleetView, FloorPolicy, Permit, PermitState, Stance
from popctl.model.floor import FleetSettings
from popctl.model.load import LoadSample, Resource
from popctl.model.observation import Observation, Outcome
from popctl.model.pop import Pop
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason
from tests.eventually import eventually_async
from tests.fleet_agents import GOOD, SERVICE, bad, member
from tests.peers.etcd import Cluster
from tests.unit.agent.api_rig import TestedSpeaker, small_pop

if TYPE_CHECKING:
    from popctl.agent.events import Event
    from popctl.core.decide import Decision
    from popctl.fleet.fleet import Fleet

COMMAND = "python -m tests.bench fleet"
AGENTS = 50
STEADY_S = 20.0
ROUNDS = 20
POPS = 1000
POLICY = FloorPolicy(minimum_announcing=2)
READY = ceil(POLICY.standing_share * (AGENTS - POLICY.minimum_announcing))
"""PoPs that hold a permit ahead of need, once each has taken it from the one before."""


class _Agent:
    """Measures a new load every second, and notes when it sees what the bench waits for."""

    def __init__(self, pop: Pop, fleet: Fleet) -> None:
        self.pop = pop
        self.world = World(pop)
        self.decisions = 0
        self.watched = ""
        self.saw: dict[bool, float] = {}
        self._used = 0.0
        speaker = TestedSpeaker(pop)
        self.journal = Journal(
            pop.paths.journal, world=self.world, config_text="", source="bench", wall_clock=time.time
        )
        metrics = Metrics(pop=pop, world=self.world, clock=time.monotonic, version="0")
        self.hand = FleetHand(fleet, Identity(config_digest="", incarnation=f"{pop.name}-1"), self.put)
        sinks = (self.journal, metrics, self)
        self.loop = Loop(self.world, speaker, time.monotonic, sinks, fleet=self.hand)
        speaker.loop = self.loop
        speaker.connect()

    def put(self, event: Event) -> None:
        if isinstance(event, FleetChanged) and self.watched in event.view.members:
            service = event.view.members[self.watched].record.report.services[SERVICE]
            self.saw.setdefault(service.good, time.monotonic())
        self.loop.put(event)

    def turn(self, now: float, events: tuple[Event, ...], decision: Decision | None) -> None:  # noqa: ARG002 - TurnSink
        """Count, as a sink of the loop."""
        self.decisions += decision is not None

    @property
    def settled(self) -> bool:
        """It serves, knows everybody, and nobody waits for a permit ahead of need any more."""
        decision = self.loop.decision
        serves = decision is not None and decision.desired.services[0].reason is Reason.HEALTHY
        members = self.world.view().fleet.members
        ready = sum(one.record.stance("vpn") is Stance.PERMIT for one in members.values())
        return serves and (len(members), ready) == (AGENTS, READY)

    def probed(self, outcome: Outcome, reason: Reason) -> None:
        for number, backend in self.pop.backends.items():
            for spec in backend.probes:
                self.put(
                    Observation(key=ProbeKey(number, spec.name), outcome=outcome, reason=reason, at=time.monotonic())
                )

    def metered(self) -> None:
        self._used += 1.0
        for number in self.pop.backends:
            amounts = {Resource.SESSIONS: self._used, Resource.CPU: self._used / 100}
            self.put(LoadSample(backend=number, at=time.monotonic(), used=amounts))


async def _run(urls: tuple[str, ...], directory: Path) -> dict[str, float]:
    agents, fleets = [], []
    for number in range(AGENTS):
        name = f"pop{number:02}"
        fleets.append(_fleet(name, urls))
        agents.append(_Agent(_pop(name, urls, directory), fleets[-1]))
    tasks = [asyncio.create_task(run()) for agent in agents for run in (agent.loop.run, agent.hand.run)]
    for agent in agents:
        agent.journal.open(time.monotonic())
        agent.probed(Outcome.PASS, Reason.ANSWERED)
        agent.metered()
    await eventually_async(lambda: all(agent.settled for agent in agents), within_s=60.0)
    steady = await _steady(agents, fleets)
    spread = [await _change(agents, good=number % 2 == 1) for number in range(ROUNDS)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {**steady, "median_ms": 1000 * median(spread), "worst_ms": 1000 * max(spread)}


def _pop(name: str, urls: tuple[str, ...], directory: Path) -> Pop:
    folder = directory / name
    folder.mkdir()
    bare = small_pop(folder)
    limits = {Resource.SESSIONS: 1000.0, Resource.CPU: 100.0}
    backends = {number: replace(one, capacity=limits) for number, one in bare.backends.items()}
    settings = FleetSettings(name="bench", region="eu", endpoints=urls, floor=POLICY)
    return replace(bare, name=name, backends=backends, fleet=settings)


def _fleet(name: str, urls: tuple[str, ...]) -> StoreFleet:
    return StoreFleet(name, f"{name}-1", EtcdLine(name, EtcdSettings(fleet="bench", endpoints=urls)), POLICY)


async def _steady(agents: list[_Agent], fleets: list[StoreFleet]) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    began, cpu, decisions = time.monotonic(), time.process_time(), sum(agent.decisions for agent in agents)
    writes = [fleet.writes for fleet in fleets]
    for second in range(int(STEADY_S)):
        for number, agent in enumerate(agents):
            loop.call_at(loop.time() + second + number / len(agents), agent.metered)
    await asyncio.sleep(STEADY_S)
    took_s = time.monotonic() - began
    most = max(fleet.writes - before for fleet, before in zip(fleets, writes, strict=True))
    return {
        "cpu_percent": 100 * (time.process_time() - cpu) / took_s / len(agents),
        "decisions": (sum(agent.decisions for agent in agents) - decisions) / took_s / len(agents),
        # So many writes have one interval less between them.
        "writes": (most - 1) / took_s,
    }


async def _change(agents: list[_Agent], *, good: bool) -> float:
    """Let one PoP turn bad or good; return how long until the last agent has it in its view."""
    for agent in agents:
        agent.watched = agents[0].pop.name
        agent.saw.clear()
    began = time.monotonic()
    agents[0].probed(*((Outcome.PASS, Reason.ANSWERED) if good else (Outcome.FAIL, Reason.REFUSED)))
    await eventually_async(lambda: all(good in agent.saw for agent in agents), every_s=0.002)
    return max(agent.saw[good] for agent in agents) - began


def _judged_ms() -> float:
    """Return what one decision costs with a thousand PoPs in view: the best of many."""
    members = {f"p{number}": member(f"p{number}", service=bad() if number % 7 == 0 else GOOD) for number in range(POPS)}
    permit = Permit(service=SERVICE, state=PermitState.HELD, since=0.0)
    view = FleetView(members=members, permits={SERVICE: permit}, connected=True, current_at=0.0)
    wanted = Withdrawal(
        pop="p1", region="eu", service=SERVICE, cause=Cause.HEALTH, carried=True, bad_since=0.0, stage="l2tp"
    )
    took: list[float] = []
    for _ in range(200):
        began = time.perf_counter()
        judge(wanted, POLICY, view, 1.0)
        took.append(time.perf_counter() - began)
    return 1000 * median(took)


def measure() -> list[dict[str, object]]:
    """Return one row per figure."""
    with Cluster() as cluster, tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(_run(cluster.urls, Path(directory)))
    return [
        _row("fleet of 50, a change seen by all, median", found["median_ms"], "ms", None),
        _row("fleet of 50, a change seen by all, worst of 20", found["worst_ms"], "ms", 1000.0),
        _row("fleet of 50, CPU per agent, steady", found["cpu_percent"], "% of a core", 2.0),
        _row("fleet of 50, decisions of each agent, steady", found["decisions"], "1/s", None),
        _row("fleet of 50, writes of the busiest PoP", found["writes"], "1/s", 0.5),
        _row("guard, one decision with 1000 PoPs, median", _judged_ms(), "ms", 1.0),
    ]


def _row(name: str, value: float, unit: str, bound: float | None) -> dict[str, object]:
    ok = bound is None or value <= bound
    return {"name": name, "value": round(value, 3), "unit": unit, "bound": bound, "ok": ok, "command": COMMAND}
