"""What every Speaker promises, asked of the in-memory twin and of real relay, ExaBGP and BIRD alike."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import pytest

from popctl.bgp.exabgp import ExaBgpSpeaker
from popctl.bgp.memory import MemorySpeaker, ProtocolBreachError
from popctl.bgp.speaker import RefusedRouteError
from popctl.model.desired import Actual
from popctl.model.route import route_table
from tests.eventually import eventually_async
from tests.peers.bgp_edge import BOTH, NOTHING, edge
from tests.peers.exabgp import COMMUNITY, EDGE4, KEY4, KEY6, ROUTE4, ROUTER4, ROUTER6, edge_pop
from tests.pops import VIP4, VIP6

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from popctl.bgp.speaker import Speaker
    from popctl.model.route import Prefix
    from tests.peers.bgp_edge import Edge

FIRST = route_table([(KEY4, ROUTE4)])
CHANGED = route_table([(KEY4, replace(ROUTE4, med=7, communities=(COMMUNITY,)))])


class World(Protocol):
    """What surrounds a speaker in these tests."""

    def speaker(self) -> Speaker:
        """Return a fresh speaker, as after a restart of the agent."""

    def at_peer(self) -> set[Prefix]:
        """Return what the routers hold."""

    def updates(self) -> int:
        """Return how many UPDATEs the routers received."""

    def router(self, *, up: bool) -> None:
        """Let both routers go away or come back."""


class InMemory:
    """The twin; what a router would hold lives in it, so a fresh one inherits from the last."""

    def __init__(self, directory: Path) -> None:
        self._pop = edge_pop(directory)
        self._speakers: list[MemorySpeaker] = []

    def speaker(self) -> Speaker:
        inherited = route_table((key, route) for peer in self._tables() for key, route in peer.items())
        self._speakers.append(MemorySpeaker(self._pop, inherited=inherited))
        return self._speakers[-1]

    def at_peer(self) -> set[Prefix]:
        return {key.prefix for table in self._tables() for key in table}

    def updates(self) -> int:
        return sum(speaker.updates for speaker in self._speakers)

    def router(self, *, up: bool) -> None:
        for address in (ROUTER4, ROUTER6):
            self._speakers[-1].session(address, up=up)

    def _tables(self) -> list[object]:
        last = self._speakers[-1:]
        return [speaker.at_peer(address) for speaker in last for address in (ROUTER4, ROUTER6)]


class Real:
    """The relay, ExaBGP and BIRD."""

    def __init__(self, e: Edge) -> None:
        self._edge = e

    def speaker(self) -> Speaker:
        return ExaBgpSpeaker(self._edge.exabgp.pop)

    def at_peer(self) -> set[Prefix]:
        return {prefix for prefix in (VIP4, VIP6) if self._edge.bird.alive and self._edge.bird.has(prefix)}

    def updates(self) -> int:
        return sum(self._edge.bird.imports(name).changes for name in ("edge4", "edge6"))

    def router(self, *, up: bool) -> None:
        if up:
            self._edge.bird.start()
        else:
            self._edge.bird.kill()


@contextmanager
def in_memory(directory: Path) -> Iterator[World]:
    yield InMemory(directory)


@contextmanager
def real(_: Path) -> Iterator[World]:
    with edge() as e:
        yield Real(e)


@pytest.fixture(params=[pytest.param(in_memory, id="memory"), pytest.param(real, id="real", marks=pytest.mark.peer)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with request.param(tmp_path) as made:
        yield made


@asynccontextmanager
async def running(speaker: Speaker) -> AsyncIterator[list[Actual]]:
    """Run a speaker until it has taken over; yields its reports, the last one first in reach at [-1]."""
    actuals: list[Actual] = []
    task = asyncio.create_task(speaker.run(actuals.append))
    try:
        await eventually_async(lambda: actuals and actuals[-1].inherited)
        yield actuals
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def proven(actuals: list[Actual], routes: object) -> None:
    await eventually_async(lambda: dict(actuals[-1].routes) == dict(routes) and not actuals[-1].pending)  # type: ignore[call-overload]


async def sessions(actuals: list[Actual], *, up: bool) -> None:
    await eventually_async(lambda: all(state is up for state in actuals[-1].sessions.values()))


async def test_a_set_table_is_proven_and_stands_at_the_routers(world: World) -> None:
    speaker = world.speaker()
    async with running(speaker) as actuals:
        await sessions(actuals, up=True)
        await speaker.set(BOTH)
        await proven(actuals, BOTH)
        await eventually_async(lambda: world.at_peer() == {VIP4, VIP6})
        assert actuals[0] == Actual(sessions={ROUTER4: False, ROUTER6: False}), "nothing is claimed at first"


async def test_the_same_table_again_costs_no_update(world: World) -> None:
    speaker = world.speaker()
    async with running(speaker) as actuals:
        await sessions(actuals, up=True)
        await speaker.set(BOTH)
        await proven(actuals, BOTH)
        await eventually_async(lambda: world.at_peer() == {VIP4, VIP6})
        before = world.updates()
        await speaker.set(BOTH)
        await proven(actuals, BOTH)
        await speaker.set(CHANGED)
        await proven(actuals, CHANGED)
        await eventually_async(lambda: world.at_peer() == {VIP4})
        assert world.updates() == before + 2, "one replacement, one withdraw"


async def test_what_a_predecessor_announced_is_kept_until_the_first_set_and_known_at_once(world: World) -> None:
    first = world.speaker()
    async with running(first) as actuals:
        await sessions(actuals, up=True)
        await first.set(BOTH)
        await proven(actuals, BOTH)
        await eventually_async(lambda: world.at_peer() == {VIP4, VIP6})
        before = world.updates()
        await first.release()
    second = world.speaker()
    async with running(second) as actuals:
        assert dict(actuals[-1].routes) == dict(BOTH)
        await second.set(FIRST)
        await proven(actuals, FIRST)
        await eventually_async(lambda: world.at_peer() == {VIP4})
        assert world.updates() == before + 1


async def test_a_refused_table_changes_nothing(world: World) -> None:
    speaker = world.speaker()
    foreign = replace(ROUTE4, next_hop=type(EDGE4)("192.0.2.66"))
    async with running(speaker) as actuals:
        await speaker.set(FIRST)
        await proven(actuals, FIRST)
        with pytest.raises(RefusedRouteError) as refused:
            await speaker.set(route_table([(KEY4, foreign)]))
        assert (refused.value.field, refused.value.found) == ("next-hop", "192.0.2.66")
        await proven(actuals, FIRST)
        await eventually_async(lambda: world.at_peer() == {VIP4})


async def test_a_table_set_before_the_connection_is_applied_after_it(world: World) -> None:
    speaker = world.speaker()
    await speaker.set(FIRST)
    async with running(speaker) as actuals:
        await proven(actuals, FIRST)
        await eventually_async(lambda: world.at_peer() == {VIP4})


async def test_without_routers_the_table_is_proven_as_what_would_be_replayed(world: World) -> None:
    speaker = world.speaker()
    async with running(speaker) as actuals:
        await sessions(actuals, up=True)
        world.router(up=False)
        await sessions(actuals, up=False)
        await speaker.set(BOTH)
        await proven(actuals, BOTH)
        assert world.at_peer() == set()
        world.router(up=True)
        await eventually_async(lambda: world.at_peer() == {VIP4, VIP6})
        await sessions(actuals, up=True)
        await speaker.set(NOTHING)
        await proven(actuals, NOTHING)
        await eventually_async(lambda: world.at_peer() == set())


async def test_the_twin_refuses_callers_that_break_the_protocol(tmp_path: Path) -> None:
    speaker = MemorySpeaker(edge_pop(tmp_path))
    async with running(speaker):
        with pytest.raises(ProtocolBreachError):
            await speaker.run(lambda _: None)
        await speaker.release()
    with pytest.raises(ProtocolBreachError):
        await speaker.set(NOTHING)
    with pytest.raises(ProtocolBreachError):
        await speaker.run(lambda _: None)


async def test_the_twin_leaves_changes_pending_when_told_to(tmp_path: Path) -> None:
    speaker = MemorySpeaker(edge_pop(tmp_path), prove=False)
    async with running(speaker) as actuals:
        await speaker.set(BOTH)
        assert actuals[-1].pending == {KEY4, KEY6}
        assert not actuals[-1].routes
        speaker.prove()
        assert dict(actuals[-1].routes) == dict(BOTH)
