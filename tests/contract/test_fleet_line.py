"""What every store promises the fleet: the same questions to the twin in memory and to a real etcd."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from math import inf
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import pytest

from popctl.fleet.errors import LeaseEndedError, StoreRefusedError
from popctl.fleet.etcd import EtcdLine, EtcdSettings
from popctl.fleet.line import Change, Line, Snapshot, Write
from popctl.fleet.memory import MemoryHub, MemoryLine
from popctl.model.fleet import Record, Stance
from popctl.model.load import PopLoad, Resource
from tests.eventually import eventually_async
from tests.fleet_agents import SERVICE, bad, report
from tests.peers.etcd import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

_NUMBERS = count()
Open: TypeAlias = "Callable[..., Awaitable[Line]]"
DUTY = {SERVICE: Stance.DUTY}


class Store(NamedTuple):
    """A way to new lines to one store."""

    line: Callable[..., Line]


@pytest.fixture(scope="module")
def etcd() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.peer)])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        hub = MemoryHub()
        return Store(lambda pop, ttl_s=10.0: MemoryLine(pop, hub, lease_ttl_s=ttl_s))
    cluster: Cluster = request.getfixturevalue("etcd")
    fleet = f"contract-{next(_NUMBERS)}"
    return Store(
        lambda pop, ttl_s=10.0: EtcdLine(pop, EtcdSettings(fleet=fleet, endpoints=cluster.urls, lease_ttl_s=ttl_s))
    )


@pytest.fixture
async def opened(store: Store) -> AsyncIterator[Open]:
    lines: list[Line] = []

    async def make(pop: str, ttl_s: float = 10.0) -> Line:
        line = store.line(pop, ttl_s)
        await line.open()
        lines.append(line)
        return line

    yield make
    for line in lines:
        await line.close()


def record(pop: str, **changed: object) -> Record:
    return replace(Record(report=report(pop), stances=DUTY), **changed)


async def put(line: Line, pop: str, replaces: int = 0, **more: object) -> int:
    result = await line.commit(replace(Write(record=record(pop), replaces=replaces), **more))
    assert isinstance(result, int)
    return result


async def changes_until(line: Line, after: int, wanted: Callable[[Change], bool]) -> list[Change]:
    found: list[Change] = []
    async with asyncio.timeout(10):
        watch = line.watch(after)
        async for changes in watch:
            found += changes
            if any(wanted(change) for change in changes):
                break
        await watch.aclose()
    return found


async def test_an_empty_fleet_has_no_records_and_no_fence(opened: Open) -> None:
    snapshot = await (await opened("a")).read()
    assert snapshot.entries == {}
    assert snapshot.fence == 0


async def test_a_written_record_is_read_back_by_everybody(opened: Open) -> None:
    a, b = await opened("a"), await opened("b")
    revision = await put(a, "a")
    snapshot = await b.read()
    entry = snapshot.entries["a"]
    assert (entry.created, entry.modified) == (revision, revision)
    assert entry.record == record("a")
    assert snapshot.revision >= revision


async def test_a_record_that_cannot_be_written_is_refused_and_the_line_goes_on(opened: Open) -> None:
    a = await opened("a")
    load = PopLoad(level=0, announcing=True, used={Resource.BITS: inf}, peak={}, capacity={}, at=0.0)
    with pytest.raises(StoreRefusedError, match="figure"):
        await put(a, "a", record=record("a", report=replace(report("a"), load=load)))
    assert await put(a, "a")


async def test_an_age_is_an_age_for_every_reader(opened: Open) -> None:
    a, b = await opened("a"), await opened("b")
    now = asyncio.get_running_loop().time()
    failing = record("a", report=report("a", bad(now - 40.0)))
    await a.commit(Write(record=failing, replaces=0))
    found = (await b.read()).entries["a"].record
    assert found is not None
    since = found.report.services[SERVICE].bad_since
    assert since == pytest.approx(now - 40.0, abs=2.0)


async def test_a_write_that_replaces_another_revision_changes_nothing_and_shows_what_is_there(opened: Open) -> None:
    a, b = await opened("a"), await opened("b")
    first = await put(a, "a")
    second = await put(a, "a", first)
    await put(b, "b")
    refused = await a.commit(Write(record=record("a", stances={}), replaces=first))
    assert isinstance(refused, Snapshot)
    assert refused.entries["a"].modified == second
    assert set(refused.entries) == {"a", "b"}
    assert (await b.read()).entries["a"].record == record("a")


async def test_a_write_keeps_the_revision_that_created_the_record(opened: Open) -> None:
    a = await opened("a")
    first = await put(a, "a")
    second = await put(a, "a", first)
    entry = (await a.read()).entries["a"]
    assert (entry.created, entry.modified) == (first, second)


async def test_a_renewed_fence_carries_the_revision_of_its_write(opened: Open) -> None:
    a = await opened("a")
    first = await put(a, "a", renew_fence=True)
    assert (await a.read()).fence == first
    second = await put(a, "a", first)
    assert (await a.read()).fence == first != second


async def test_a_write_that_compares_an_old_fence_is_refused(opened: Open) -> None:
    a, b = await opened("a"), await opened("b")
    old = await put(a, "a", renew_fence=True)
    new = await put(a, "a", old, renew_fence=True)
    refused = await b.commit(Write(record=record("b"), replaces=0, fence=old))
    assert isinstance(refused, Snapshot)
    assert refused.fence == new
    assert await put(b, "b", fence=new) > new


async def test_a_fence_that_was_never_written_is_zero_for_a_comparison(opened: Open) -> None:
    a = await opened("a")
    assert await put(a, "a", fence=0, renew_fence=True)


async def test_a_write_that_pins_a_record_is_refused_when_that_is_gone_or_new(opened: Open) -> None:
    a, b = await opened("a"), await opened("b")
    created = await put(b, "b")
    own = await put(a, "a", pins=(("b", created),))
    await put(b, "b", created)
    own = await put(a, "a", own, pins=(("b", created),))
    await b.revoke()
    for pins in ((("b", created),), (("never", created),)):
        assert isinstance(await a.commit(Write(record=record("a"), replaces=own, pins=pins)), Snapshot)
    await b.open()
    again = await put(b, "b")
    assert isinstance(await a.commit(Write(record=record("a"), replaces=own, pins=(("b", created),))), Snapshot)
    assert await put(a, "a", own, pins=(("b", again),))


async def test_a_refused_write_does_not_renew_the_fence(opened: Open) -> None:
    a = await opened("a")
    first = await put(a, "a", renew_fence=True)
    await a.commit(Write(record=record("a"), replaces=first + 1000, renew_fence=True))
    assert (await a.read()).fence == first


async def test_the_watch_tells_all_that_happened_since_in_order(opened: Open) -> None:
    a, b = await opened("a"), await opened("b")
    start = (await b.read()).revision
    first = await put(a, "a")
    second = await put(a, "a", first, renew_fence=True)
    found = await changes_until(b, start, lambda change: change.pop is None)
    if found[-1].pop is None:
        # Both keys of one transaction have one revision; which is told first does not matter.
        assert found[-1].revision == second
    told = [change for change in found if change.pop == "a"]
    assert [change.revision for change in told] == [first, second]
    assert told[-1].entry is not None
    assert told[-1].entry.record == record("a")


async def test_the_watch_tells_of_a_record_whose_lease_ended(opened: Open) -> None:
    a, b = await opened("a", 1.0), await opened("b")
    first = await put(a, "a")
    found = await changes_until(b, first, lambda change: change.pop == "a" and change.entry is None)
    assert found[-1].revision > first
    assert "a" not in (await b.read()).entries


async def test_a_lease_that_is_extended_does_not_end(opened: Open) -> None:
    a, b = await opened("a", 1.0), await opened("b", 1.0)
    await put(a, "a")
    revision = await put(b, "b")

    async def only_a_is_left() -> bool:
        await a.keep_alive()
        return set((await a.read()).entries) == {"a"}

    await eventually_async(only_a_is_left)
    assert (await a.read()).revision > revision


async def test_a_lease_that_has_ended_is_an_error_of_its_own(opened: Open) -> None:
    a = await opened("a")
    b = await opened("b")
    await put(a, "a")
    lease = a._lease  # noqa: SLF001 - stands in for an agent that slept through its lease
    await a.revoke()
    a._lease = lease  # noqa: SLF001 - same
    with pytest.raises(LeaseEndedError):
        await a.commit(Write(record=record("a"), replaces=0))
    a._lease = lease  # noqa: SLF001 - same
    with pytest.raises(LeaseEndedError):
        await a.keep_alive()
    await a.open()
    assert await put(a, "a")
    assert "a" in (await b.read()).entries


async def test_opening_again_keeps_the_lease_and_the_record(opened: Open) -> None:
    a = await opened("a")
    first = await put(a, "a")
    await a.close()
    await a.open()
    second = await put(a, "a", first)
    assert (await a.read()).entries["a"].created == first < second
