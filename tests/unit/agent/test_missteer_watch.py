"""What backends tell of mis-steers becomes counters and alarms; what nobody tells stays unknown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from popctl.agent.missteer_watch import ALARM_S, MissteerWatch
from popctl.lb.sas import Walk
from popctl.model.balancer import SpiPlan
from popctl.model.load import LoadSample
from popctl.model.missteer import ClientAt
from popctl.model.pop import Pop, ViciEndpoint
from popctl.vici.errors import ViciError
from tests import pops
from tests.eventually import eventually_async

CLIENT = "203.0.113.2"


class Charons:
    """Answer for all backends: one number each, and SAs by backend."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.clients: dict[int, tuple[ClientAt, ...]] = {}
        self.label_problem = ""
        self.second = asyncio.Event()
        """Backend 2 answers after it."""
        self.second.set()

    async def count(self, endpoint: ViciEndpoint) -> int:
        if endpoint.host not in self.refused:
            raise ViciError("no answer")
        return self.refused[endpoint.host]

    async def walk(self, _: ViciEndpoint, backend: int, __: tuple[SpiPlan, ...], ___: int) -> Walk:
        if backend == 2:
            await asyncio.wait_for(self.second.wait(), 10)
        return Walk(clients=self.clients.get(backend, ()), label_problem=self.label_problem)


class Of(Collector):
    """The metrics of one watch."""

    def __init__(self, watch: MissteerWatch) -> None:
        self.collect = watch.families  # type: ignore[method-assign]  # what a collector is


def pop() -> Pop:
    bare = pops.balanced(pops.pop())
    asked = {
        number: replace(one, vici=ViciEndpoint(host=f"10.9.0.{number}", port=4502))
        for number, one in bare.backends.items()
    }
    return replace(bare, backends=asked)


def text(watch: MissteerWatch) -> str:
    registry = CollectorRegistry()
    registry.register(Of(watch))
    return generate_latest(registry).decode()


def sample(backend: int, ike: int | None, esp: int | None) -> LoadSample:
    return LoadSample(backend=backend, at=0.0, used={}, refused_ike=ike, refused_esp=esp)


def test_nobody_tells_is_unknown_and_not_zero() -> None:
    watch = MissteerWatch(pop(), lambda: 0.0)
    assert watch.total() is None
    watch.turn(0.0, (sample(1, None, None),), None)
    assert watch.total() is None
    assert "popctl_missteered_packets_total{" not in text(watch)


def test_growth_of_a_meters_counters_is_an_alarm_that_ends() -> None:
    watch = MissteerWatch(pop(), lambda: 0.0)
    name = pop().backends[1].name
    watch.turn(0.0, (sample(1, 7, 100),), None)
    assert (watch.total(), watch.alarms(0.0)) == (0, ())
    watch.turn(5.0, (sample(1, 7, 103),), None)
    assert watch.total() == 3
    (alarm,) = watch.alarms(5.0)
    assert alarm.startswith(f"{name} got ESP for SAs that it does not have: 3 packets")
    assert f'popctl_missteered_packets_total{{backend="{name}",kind="esp"}} 3.0' in text(watch)
    assert f'popctl_missteered_packets_total{{backend="{name}",kind="ike"}} 0.0' in text(watch)
    assert watch.alarms(5.0 + ALARM_S + 1) == ()


def test_a_backend_of_no_balanced_service_is_nobodys_mis_steer() -> None:
    watch = MissteerWatch(replace(pop(), tables=None), lambda: 0.0)
    watch.turn(0.0, (sample(1, 1, 1),), None)
    assert watch.total() is None


@asynccontextmanager
async def running(charons: Charons, clock: list[float], walk_every_s: float = 30.0) -> AsyncIterator[MissteerWatch]:
    ask = {"refused": charons.count, "walk": charons.walk}
    watch = MissteerWatch(pop(), lambda: clock[0], walk_every_s=walk_every_s, **ask)  # type: ignore[arg-type]  # by name
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_lasts_where_nobody_can_be_asked() -> None:
    watch = MissteerWatch(pops.pop(), lambda: 0.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await watch.run()


async def test_charon_is_asked_where_no_meter_tells() -> None:
    charons = Charons()
    charons.refused["10.9.0.1"] = 4
    async with running(charons, [0.0]) as watch:
        await eventually_async(lambda: watch.total() == 0)


async def test_a_client_that_is_not_answered_where_it_sends_is_an_alarm() -> None:
    charons = Charons()
    charons.clients[1] = (ClientAt(address=CLIENT, port=4500, received=True, answered=True),)
    charons.clients[2] = (ClientAt(address=CLIENT, port=4500, received=True, answered=False),)
    charons.second.clear()
    one, two = (pop().backends[number].name for number in (1, 2))
    async with running(charons, [0.0], walk_every_s=0.05) as watch:
        await eventually_async(lambda: f'popctl_backend_labels{{backend="{one}"}}' in text(watch))
        assert watch.alarms(0.0) == ()
        charons.second.set()
        await eventually_async(lambda: watch.splits == 1)
        (alarm,) = watch.alarms(0.0)
        assert alarm.startswith(
            f"client {CLIENT} port 4500 was answered by {one} and sends to {two}, which never answers"
        )
        assert "popctl_split_clients_total 1.0" in text(watch)


async def test_a_backend_that_runs_without_its_label_is_an_alarm() -> None:
    charons = Charons()
    charons.label_problem = "charon.spi_label: IKE SPI 11 does not follow the plan; set it"
    async with running(charons, [0.0]) as watch:
        await eventually_async(lambda: len(watch.alarms(0.0)) == len(pop().backends))
        assert all("does not label" in alarm for alarm in watch.alarms(0.0))
        assert f'popctl_backend_labels{{backend="{pop().backends[1].name}"}} 0.0' in text(watch)
