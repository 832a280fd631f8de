"""Fifty agents against one etcd: how fast all see a change, what it costs each of them, how often they write.

Each agent is the whole fleet side: client, ledger, guard. They share this process, so its CPU time is divided by them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from statistics import median

from popctl.core.guard import Cause, Withdrawal, judge, wants_standing
from popctl.fleet.client import StoreFleet
from popctl.fleet.etcd import EtcdLine, EtcdSettings
from popctl.model.fleet import FleetView, FleetWish, FloorPolicy, Permit, PermitState
from popctl.model.load import PopLoad, Resource
from tests.eventually import eventually_async
from tests.fleet_agents import GOOD, SERVICE, bad, member, report
from tests.peers.etcd import Cluster

COMMAND = "python -m tests.bench fleet"
AGENTS = 50
STEADY_S = 20.0
ROUNDS = 20
POPS = 1000
POLICY = FloorPolicy(minimum_announcing=2)


class _Agent:
    """Reports a new load every second, judges after every view, and notes when it sees what the bench waits for."""

    def __init__(self, name: str, fleet: StoreFleet) -> None:
        self.name = name
        self.fleet = fleet
        self.healthy = 2
        self.view = FleetView()
        self.saw: dict[int, float] = {}
        self.watched = ""
        self._load = 0.0

    def on_view(self, view: FleetView) -> None:
        self.view = view
        seen = view.members.get(self.watched)
        if seen is not None:
            self.saw.setdefault(len(seen.record.report.services[SERVICE].announced), time.monotonic())
            self.saw.setdefault(-1 if seen.record.report.services[SERVICE].good else -2, time.monotonic())
        wants_standing(GOOD, self.name, "eu", POLICY, view, time.monotonic())

    def wish(self, *, good: bool = True) -> None:
        self._load += 1.0
        amounts = {Resource.SESSIONS: self._load, Resource.CPU: self._load / 100}
        load = PopLoad(level=0, announcing=True, used=amounts, peak=amounts, capacity=amounts, at=time.monotonic())
        service = GOOD if good else bad(time.monotonic())
        self.fleet.set(FleetWish(report=replace(report(self.name, service), load=load)))


async def _run(urls: tuple[str, ...]) -> dict[str, float]:
    agents = [_agent(f"pop{number:02}", urls) for number in range(AGENTS)]
    tasks = [asyncio.create_task(agent.fleet.run(agent.on_view)) for agent in agents]
    for agent in agents:
        agent.wish()
    await eventually_async(lambda: all(len(agent.view.members) == AGENTS for agent in agents), within_s=60.0)
    steady = await _steady(agents)
    spread = [await _change(agents, good=number % 2 == 1) for number in range(ROUNDS)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {**steady, "median_ms": 1000 * median(spread), "worst_ms": 1000 * max(spread)}


def _agent(name: str, urls: tuple[str, ...]) -> _Agent:
    line = EtcdLine(name, EtcdSettings(fleet="bench", endpoints=urls))
    return _Agent(name, StoreFleet(name, f"{name}-1", line, POLICY))


async def _steady(agents: list[_Agent]) -> dict[str, float]:
    began, cpu = time.monotonic(), time.process_time()
    writes = [agent.fleet.writes for agent in agents]
    for second in range(int(STEADY_S)):
        for number, agent in enumerate(agents):
            asyncio.get_running_loop().call_at(
                asyncio.get_running_loop().time() + second + number / len(agents), agent.wish
            )
    await asyncio.sleep(STEADY_S)
    took_s = time.monotonic() - began
    most = max(agent.fleet.writes - before for agent, before in zip(agents, writes, strict=True))
    return {
        "cpu_percent": 100 * (time.process_time() - cpu) / took_s / len(agents),
        # So many writes have one interval less between them.
        "writes": (most - 1) / took_s,
    }


async def _change(agents: list[_Agent], *, good: bool) -> float:
    """Let one PoP turn bad or good; return how long until the last agent has it in its view."""
    wanted = -1 if good else -2
    for agent in agents:
        agent.watched = agents[0].name
        agent.saw.clear()
    began = time.monotonic()
    agents[0].wish(good=good)
    await eventually_async(lambda: all(wanted in agent.saw for agent in agents), every_s=0.002)
    return max(agent.saw[wanted] for agent in agents) - began


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
    with Cluster() as cluster:
        found = asyncio.run(_run(cluster.urls))
    return [
        _row("fleet of 50, a change seen by all, median", found["median_ms"], "ms", None),
        _row("fleet of 50, a change seen by all, worst of 20", found["worst_ms"], "ms", 1000.0),
        _row("fleet of 50, CPU per agent, steady", found["cpu_percent"], "% of a core", 2.0),
        _row("fleet of 50, writes of the busiest PoP", found["writes"], "1/s", 0.5),
        _row("guard, one decision with 1000 PoPs, median", _judged_ms(), "ms", 1.0),
    ]


def _row(name: str, value: float, unit: str, bound: float | None) -> dict[str, object]:
    ok = bound is None or value <= bound
    return {"name": name, "value": round(value, 3), "unit": unit, "bound": bound, "ok": ok, "command": COMMAND}
