"""How far a drain has come: told by VICI, estimated from what went so far, ended when ordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from popctl.agent.events import IntentsChanged
from popctl.agent.sa_watch import EVERY_S, SaWatch
from popctl.lb.sas import SaCount
from popctl.model.instant import NEVER
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Pop, ViciEndpoint
from popctl.vici.errors import ViciError
from tests import pops
from tests.eventually import eventually_async


class Charon:
    """Answers with counts, one after another; the last one stays. Ends everything when told to."""

    def __init__(self, counts: Iterable[int]) -> None:
        self.counts = list(counts)
        self.refuses = False
        self.ended = 0
        self.looks = 0
        self.silent: set[str] = set()
        """Addresses of those that take the question and never answer."""

    async def count(self, endpoint: ViciEndpoint) -> SaCount:
        if endpoint.host in self.silent:
            await asyncio.Event().wait()
        self.looks += 1
        if self.refuses:
            raise ViciError("tcp://127.0.1.1:4502: Connection refused")
        left = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
        return SaCount(ages_s=(60.0,) * left)

    async def end(self, _: ViciEndpoint) -> int:
        ended, self.counts = self.counts[0], [0]
        self.ended += ended
        return ended


def watched_pop() -> Pop:
    bare = pops.balanced(pops.pop())
    backends = dict(bare.backends)
    backends[1] = replace(backends[1], vici=ViciEndpoint(host="127.0.1.1", port=4502))
    return replace(bare, backends=backends)


def drains(*names: str) -> IntentsChanged:
    return IntentsChanged(
        tuple(Intent(kind=IntentKind.DRAIN, target=name, reason="x", owner="x", created_unix_s=0.0) for name in names)
    )


@asynccontextmanager
async def watching(charon: Charon, pop: Pop | None = None) -> AsyncIterator[SaWatch]:
    watch = SaWatch(pop or watched_pop(), asyncio.get_running_loop().time, count=charon.count, end=charon.end)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_draining_backend_is_asked_and_nobody_else() -> None:
    async with watching(Charon([7])) as watch:
        watch.turn(0.0, (drains("b1", "b2"),), None)
        await eventually_async(lambda: watch.progress("b1") is not None)
        found = watch.progress("b1")
        assert found is not None
        assert (found.sas, found.oldest_s, found.empty_at) == (7, 60.0, NEVER)
        assert watch.progress("b2") is None, "it has no VICI"


async def test_an_undrained_backend_is_forgotten_and_the_next_drain_begins_anew() -> None:
    async with watching(Charon([7, 5])) as watch:
        watch.turn(0.0, (drains("b1"),), None)
        await eventually_async(lambda: watch.progress("b1") is not None)
        watch.turn(0.0, (drains(),), None)
        assert watch.progress("b1") is None
        watch.turn(0.0, (drains("b1"),), None)
        await eventually_async(lambda: watch.progress("b1") is not None)
        found = watch.progress("b1")
        assert found is not None
        assert (found.sas, found.empty_at) == (5, NEVER)


async def test_once_somebody_has_left_there_is_an_estimate_of_the_end() -> None:
    async with watching(Charon([8, 4])) as watch:
        watch.turn(0.0, (drains("b1"),), None)
        await eventually_async(
            lambda: (found := watch.progress("b1")) is not None and found.empty_at < NEVER, within_s=EVERY_S + 3
        )


async def test_a_charon_that_does_not_answer_is_a_problem_to_tell_and_nothing_else() -> None:
    charon = Charon([7])
    charon.refuses = True
    async with watching(charon) as watch:
        watch.turn(0.0, (drains("b1"),), None)
        await eventually_async(lambda: "refused" in watch.problem("b1"))
        charon.refuses = False
        await eventually_async(lambda: watch.progress("b1") is not None, within_s=EVERY_S + 3)
        assert watch.problem("b1") == ""


async def test_a_problem_ends_with_the_drain_and_is_none_of_the_next_one() -> None:
    charon = Charon([7])
    charon.refuses = True
    async with watching(charon) as watch:
        watch.turn(0.0, (drains("b1"),), None)
        await eventually_async(lambda: "refused" in watch.problem("b1"))
        watch.turn(0.0, (drains(),), None)
        assert watch.problem("b1") == ""


async def test_sas_are_ended_when_ordered_and_counted_afterwards() -> None:
    charon = Charon([7])
    async with watching(charon) as watch:
        watch.turn(0.0, (drains("b1"),), None)
        watch.end(frozenset({1, 2}))
        await eventually_async(lambda: charon.ended == 7)
        await eventually_async(lambda: (found := watch.progress("b1")) is not None and found.sas == 0)


def twice_watched() -> Pop:
    pop = watched_pop()
    return replace(
        pop, backends={n: replace(b, vici=ViciEndpoint(host=f"127.0.1.{n}")) for n, b in pop.backends.items()}
    )


async def test_nobody_waits_for_another_ones_charon() -> None:
    """The deadline of a drain is kept although another backend has lost its power."""
    charon = Charon([7])
    charon.silent = {"127.0.1.1"}
    async with watching(charon, twice_watched()) as watch:
        watch.turn(0.0, (drains("b1", "b2"),), None)
        await eventually_async(lambda: watch.progress("b2") is not None)
        watch.end(frozenset({2}))
        await eventually_async(lambda: charon.ended == 7)
        assert watch.progress("b1") is None


async def test_it_lasts_where_nobody_can_be_asked() -> None:
    watch = SaWatch(pops.pop(), lambda: 0.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await watch.run()
