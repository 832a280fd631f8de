"""What every balancer promises: the twin in memory and nftables in a namespace of its own pass the same tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address

import pytest

from popctl.lb.balancer import Balancer, RefusedTablesError
from popctl.lb.memory import MemoryBalancer, MemoryKernel
from popctl.lb.nft import NftBalancer
from popctl.model.balancer import Affinity, BalancerActual, Tables
from tests.balancers import NO_LABELS, VIP4, draining, rows, service, tables, without
from tests.eventually import eventually_async
from tests.peers.lb_net import Net, needs_nft, net

__all__ = ["net"]
WANTED = tables(6, rows=rows(6, size=512))


@dataclass
class Host:
    """A host that outlives balancer processes."""

    start: Callable[[], MemoryBalancer | NftBalancer]
    flush: Callable[[], None]
    own_address: Callable[[], None]
    lose_address: Callable[[], None]


class Log(list[BalancerActual]):
    """Every report of a balancer."""

    async def until(self, holds: Callable[[BalancerActual], bool]) -> BalancerActual:
        """Wait for a report."""
        await eventually_async(lambda: self and holds(self[-1]))
        return self[-1]


@pytest.fixture(params=["memory", pytest.param("nft", marks=[pytest.mark.peer, needs_nft])])
def host(request: pytest.FixtureRequest) -> Host:
    """Provide an empty host."""
    if request.param == "memory":
        kernel = MemoryKernel()

        def own(*addresses: IPv4Address) -> None:
            kernel.addresses = frozenset(addresses)
            kernel.changed.set()

        start = partial(MemoryBalancer, kernel)
        return Host(start=start, flush=kernel.flush, own_address=partial(own, VIP4), lose_address=own)
    network: Net = request.getfixturevalue("net")
    network.add("lb", "in")
    network.link("in", "i0", "192.0.2.2/24", "lb", "l0", "192.0.2.1/24 10.77.0.1/24 2001:db8:77::1/64")
    return Host(
        start=partial(NftBalancer, netns=network.name("lb"), audit_s=0.2),
        flush=lambda: network.inside("lb", "nft", "flush", "ruleset") and None,
        own_address=lambda: network.ip("lb", f"addr add {VIP4}/32 dev lo") and None,
        lose_address=lambda: network.ip("lb", f"addr del {VIP4}/32 dev lo") and None,
    )


@asynccontextmanager
async def running(host: Host, wanted: Tables = WANTED) -> AsyncIterator[tuple[Balancer, Log]]:
    """Run a balancer with these tables in force; afterwards it is gone and the kernel is as it left it."""
    balancer, log = host.start(), Log()
    try:
        await balancer.set(wanted)
        task = asyncio.create_task(balancer.run(log.append))
        await log.until(lambda a: a.in_force)
        yield balancer, log
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        await balancer.close()


async def test_a_new_process_is_told_whom_the_kernel_gives_new_sas_to(host: Host) -> None:
    balancer = host.start()
    assert await balancer.inherited() == frozenset()
    await balancer.close()
    async with running(host, without(WANTED, 2)):
        pass
    balancer = host.start()
    assert await balancer.inherited() == WANTED.alive - {2}
    await balancer.close()


async def test_what_is_set_comes_into_force(host: Host) -> None:
    async with running(host) as (_, log):
        assert (log[-1].alive, log[-1].draining, log[-1].problem) == (WANTED.alive, frozenset(), "")
        assert log[-1].writes > 0


async def test_a_flap_and_a_drain_change_one_element_each(host: Host) -> None:
    async with running(host) as (balancer, log):
        before = log[-1]
        await balancer.set(without(WANTED, 3))
        after = await log.until(lambda a: 3 not in a.alive)
        assert (after.elements_changed - before.elements_changed, after.writes - before.writes) == (1, 1)
        await balancer.set(draining(without(WANTED, 3), 1))
        last = await log.until(lambda a: a.draining == {1})
        assert (last.elements_changed - after.elements_changed, last.writes - after.writes) == (1, 1)


async def test_setting_the_same_again_writes_nothing(host: Host) -> None:
    async with running(host) as (balancer, log):
        before = log[-1]
        await balancer.set(tables(6, rows=rows(6, size=512)))
        await balancer.set(without(WANTED, 3))
        after = await log.until(lambda a: 3 not in a.alive)
        assert after.writes - before.writes == 1


async def test_a_restart_finds_all_right_and_writes_nothing(host: Host) -> None:
    async with running(host):
        pass
    async with running(host) as (_, log):
        assert (log[-1].writes, log[-1].drift_repairs) == (0, 0)


async def test_a_restart_changes_only_what_differs(host: Host) -> None:
    async with running(host):
        pass
    async with running(host, without(WANTED, 2)) as (_, log):
        assert log[-1].alive == WANTED.alive - {2}
        assert log[-1].drift_repairs == 0


async def test_new_rows_come_into_force(host: Host) -> None:
    async with running(host) as (balancer, log):
        before = log[-1].writes
        await balancer.set(replace(WANTED, services=(service(6, rows=rows(5, size=512)),)))
        await log.until(lambda a: a.in_force and a.writes > before)
    async with running(host, replace(WANTED, services=(service(6, rows=rows(5, size=512)),))) as (_, log):
        assert log[-1].writes == 0


async def test_a_longer_or_larger_memory_of_clients_comes_into_force_and_health_goes_on(host: Host) -> None:
    for affinity in (Affinity(timeout_s=1200), Affinity(timeout_s=1200, size=1 << 12)):
        wanted = replace(WANTED, services=(service(6, rows=rows(6, size=512), affinity=affinity),))
        async with running(host) as (balancer, log):
            before = log[-1].writes
            await balancer.set(wanted)
            await log.until(lambda a, before=before: a.in_force and a.writes > before)  # type: ignore[misc]  # no defaults
            await balancer.set(without(wanted, 3))
            assert (await log.until(lambda a: 3 not in a.alive)).in_force
        async with running(host, without(wanted, 3)) as (_, log):
            assert log[-1].writes == 0


async def test_a_flush_by_hand_is_noticed_repaired_and_counted(host: Host) -> None:
    async with running(host) as (_, log):
        host.flush()
        await log.until(lambda a: a.in_force and a.drift_repairs == 1)
    async with running(host) as (_, log):
        assert log[-1].writes == 0


async def test_a_backend_without_its_label_is_refused_by_name_and_key(host: Host) -> None:
    async with running(host) as (balancer, log):
        with pytest.raises(RefusedTablesError) as refused:
            await balancer.set(tables(6, labels=NO_LABELS))
        assert str(refused.value.problems[0]) == (
            "services.vpn.balancer.key: backend b0 has no label, so new SAs cannot be spread by SPI; "
            "give it an id of the plan, or use source-ip"
        )
        await balancer.set(without(WANTED, 1))
        assert (await log.until(lambda a: 1 not in a.alive)).in_force


async def test_a_vip_that_becomes_an_address_of_the_host_is_told_until_it_is_none(host: Host) -> None:
    """The kernel takes its packets itself: nothing that was written is wrong, and nobody is served."""
    async with running(host) as (balancer, log):
        writes = log[-1].writes
        host.own_address()
        told = await log.until(lambda a: not a.in_force)
        assert told.problem.startswith("services.vpn.vips: 198.51.100.1 is an address of this host; ")
        await balancer.set(without(WANTED, 3))
        assert not (await log.until(lambda a: 3 not in a.alive)).in_force
        host.lose_address()
        after = await log.until(lambda a: a.in_force)
        assert (after.problem, after.writes, after.drift_repairs) == ("", writes + 1, 0)


async def test_a_vip_that_is_an_address_of_the_host_is_refused(host: Host) -> None:
    host.own_address()
    balancer = host.start()
    with pytest.raises(RefusedTablesError, match=r"services\.vpn\.vips: 198\.51\.100\.1 is an address of this host"):
        await balancer.set(WANTED)
    await balancer.close()
