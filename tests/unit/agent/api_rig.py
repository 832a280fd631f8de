"""A whole agent without network: the real loop, World, store and API, and a speaker that proves when it is told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from popctl.agent.api import Api
from popctl.agent.api_orders import Clocks
from popctl.agent.api_recent import LastSeen
from popctl.agent.api_status import Build
from popctl.agent.events import ActualChanged, Event, IntentsChanged
from popctl.agent.fleet_hand import FleetHand, Identity
from popctl.agent.intents import IntentStore, StateCorruptError
from popctl.agent.loop import Loop
from popctl.agent.metrics import Metrics, Reading
from popctl.agent.sa_watch import SaWatch
from popctl.agent.steering import Steering
from popctl.agent.world import World
from popctl.fleet.fleet import Fleet
from popctl.fleet.single import SingleFleet
from popctl.lb.memory import MemoryBalancer, MemoryKernel
from popctl.listen.sockets import listening
from popctl.model.desired import Actual
from popctl.model.listen import UnixEndpoint
from popctl.model.observation import Observation, Outcome
from popctl.model.pop import Announce, Backend, Pop, Service
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason
from popctl.model.route import RouteTable, route_table
from tests import pops
from tests.eventually import eventually_async

PATIENT = replace(pops.THRESHOLDS, rise=1, stale_after_s=3600.0)
"""Verdicts that do not go stale while a test waits for a subprocess."""


class TestedSpeaker:
    """Proves what it is given, at once or when told to."""

    __test__ = False

    def __init__(self, pop: Pop) -> None:
        self._pop = pop
        self.proves = True
        self.wanted: RouteTable = route_table()
        self.actual = Actual()
        self.loop: Loop | None = None

    async def set(self, routes: RouteTable) -> None:
        self.wanted = routes
        if self.proves:
            self.prove()
        else:
            before = self.actual.routes
            keys = frozenset(key for key in {*routes, *before} if routes.get(key) != before.get(key))
            self.report(replace(self.actual, pending=keys))

    def prove(self) -> None:
        self.report(replace(self.actual, routes=self.wanted, pending=frozenset(), failed=frozenset()))

    def connect(self, *, up: bool = True) -> None:
        sessions = {neighbor.address: up for neighbor in self._pop.neighbors}
        self.report(replace(self.actual, connected=True, inherited=True, sessions=sessions))

    def report(self, actual: Actual) -> None:
        self.actual = actual
        assert self.loop is not None
        self.loop.put(ActualChanged(actual))

    async def run(self, _: object) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        return


class TestedAgent:
    """What a test holds of it."""

    __test__ = False

    def __init__(self, pop: Pop, store: IntentStore, fleet: Fleet, api_clock: Callable[[], float]) -> None:
        self.pop = pop
        self.store = store
        self.world = World(pop)
        self.speaker = TestedSpeaker(pop)
        self.last_seen = LastSeen()
        readings = (Reading("popctl_lease_renewals", "Lease renewals.", lambda: 7),)
        self.metrics = Metrics(pop=pop, world=self.world, clock=time.monotonic, version="1.2.3", readings=readings)
        identity = Identity(config_digest="sha256:abc", incarnation=f"{pop.name}-1", labelling=pop.labelling)
        self.fleet = FleetHand(fleet, identity, self._put)
        self.steering: Steering | None = None
        if pop.tables is not None:
            self.steering = Steering(pop, MemoryBalancer(MemoryKernel()), self._put, SaWatch(pop, time.monotonic))
        sinks = (self.last_seen, self.metrics)
        self.loop = Loop(self.world, self.speaker, time.monotonic, sinks, steering=self.steering, fleet=self.fleet)
        self.speaker.loop = self.loop
        self.api = Api(
            pop=pop,
            loop=self.loop,
            store=store,
            last_seen=self.last_seen,
            metrics=self.metrics.text,
            clocks=Clocks(monotonic=api_clock, wall=time.time),
            build=Build(version="1.2.3", config_digest="sha256:abc"),
        )

    def _put(self, event: Event) -> None:
        self.loop.put(event)

    @property
    def socket(self) -> Path:
        return self.pop.paths.api_socket

    def observe(self, backend: int, outcome: Outcome, reason: Reason, *, times: int = 1, detail: str = "") -> None:
        for spec in self.pop.backends[backend].probes:
            for _ in range(times):
                key = ProbeKey(backend, spec.name)
                rtt_s = 0.0015 if outcome is Outcome.PASS else None
                at = time.monotonic()
                observation = Observation(key=key, outcome=outcome, reason=reason, at=at, rtt_s=rtt_s, detail=detail)
                self.loop.put(observation)

    def all_pass(self) -> None:
        for backend in self.pop.backends:
            self.observe(backend, Outcome.PASS, Reason.ANSWERED)

    def announced(self) -> dict[str, Announce]:
        decision = self.loop.decision
        return {one.service: one.announce for one in decision.desired.services} if decision else {}

    async def until_announced(self, announce: Announce = Announce.NORMAL) -> None:
        await eventually_async(lambda: set(self.announced().values()) == {announce})

    async def until_proven(self) -> None:
        await eventually_async(
            lambda: not self.world.view().actual.pending and self.world.view().actual.routes == self.speaker.wanted
        )


@asynccontextmanager
async def running(
    pop: Pop,
    *,
    turning: bool = True,
    fleet: Fleet | None = None,
    api_clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[TestedAgent]:
    """Run an agent; `turning` False leaves the loop standing still, as if it hung."""
    store = IntentStore(pop.paths.state_file)
    agent = TestedAgent(pop, store, fleet or SingleFleet(), api_clock)
    try:
        agent.loop.put(IntentsChanged(store.load(unix_s=time.time(), now=time.monotonic())))
    except StateCorruptError:
        agent.loop.put(IntentsChanged((), corrupt=True))
    agent.speaker.connect()
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(agent.loop.run()) if turning else None
        hands = [group.create_task(agent.fleet.run())]
        if agent.steering is not None:
            hands.append(group.create_task(agent.steering.run()))
        with listening(UnixEndpoint(path=agent.socket)) as held:
            async with agent.api.open(held):
                yield agent
        for hand in hands:
            hand.cancel()
        if loop is not None:
            loop.cancel()


@asynccontextmanager
async def healthy(
    pop: Pop, fleet: Fleet | None = None, api_clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[TestedAgent]:
    """Run an agent whose services are announced and proven."""
    async with running(pop, fleet=fleet, api_clock=api_clock) as agent:
        agent.all_pass()
        await agent.until_announced()
        await agent.until_proven()
        yield agent


def small_pop(
    run_dir: Path,
    *,
    minimum_healthy: int = 1,
    services: tuple[Service, ...] | None = None,
    backends: tuple[Backend, ...] | None = None,
) -> Pop:
    """Return two backends, one service, one neighbour, no warm-up, files under `run_dir`."""
    probes = (pops.ike(PATIENT), pops.l2tp(PATIENT))
    timing = replace(pops.TIMING, warm_up_s=0.0, hold_down_s=0.0)
    backends = backends or (pops.backend(1, *probes), pops.backend(2, *probes))
    return pops.pop(
        run_dir=run_dir, minimum_healthy=minimum_healthy, backends=backends, services=services, timing=timing
    )


def with_state_file(pop: Pop, path: Path) -> Pop:
    return replace(pop, paths=replace(pop.paths, state_file=path))


@asynccontextmanager
async def client_of(agent: TestedAgent) -> AsyncIterator[aiohttp.ClientSession]:
    """Return an HTTP client that speaks to the agent's socket."""
    connector = aiohttp.UnixConnector(path=str(agent.socket))
    async with aiohttp.ClientSession("http://agent", connector=connector) as session:
        yield session


def withdraw(**changes: object) -> dict[str, object]:
    return {"kind": "withdraw", "target": "vpn", "reason": "test"} | changes


def drain(backend: str = "b1", **changes: object) -> dict[str, object]:
    return {"kind": "drain", "target": backend, "reason": "test"} | changes
