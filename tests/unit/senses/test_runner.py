"""The senses at work, against daemons on loopback."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from popctl.model.observation import Observation, Outcome
from popctl.model.pop import Backend
from popctl.model.probe import Cadence, Exec, IkeLiveness, L2tp, Method, ProbeKey, ProbeSpec, Tcp, Thresholds
from popctl.model.reason import Reason
from popctl.senses.runner import Limits, Senses
from tests.eventually import eventually_async
from tests.pops import pop
from tests.unit.senses.peers import ask, daemon, free_port, open_descriptors, silent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from popctl.model.pop import Pop

CADENCE = Cadence(interval_s=0.05, jitter=0.1, timeout_s=0.5, retry_s=0.02)
THRESHOLDS = Thresholds(rise=2, fall=3, fall_refused=1, stale_after_s=5.0)
ADDRESS = ip_address("127.0.0.2")


def spec(method: Method, name: str = "ask", cadence: Cadence = CADENCE) -> ProbeSpec:
    return ProbeSpec(name=name, method=method, cadence=cadence, thresholds=THRESHOLDS)


def asking(port: int) -> ProbeSpec:
    return spec(L2tp(port=port, secret=None))


def backend(number: int, *probes: ProbeSpec, address: object = ADDRESS) -> Backend:
    assert isinstance(address, IPv4Address)
    return Backend(id=number, name=f"b{number}", address=address, weight=1, probes=probes)


class Watch:
    """Senses at work and what they have emitted so far."""

    def __init__(self, config: Pop, limits: Limits) -> None:
        self.seen: list[Observation] = []
        self.senses = Senses(
            config,
            self.seen.append,
            exchange_for=ask,
            clock=time.monotonic,
            entropy=os.urandom,
            rng=Random(1),
            limits=limits,
        )
        self.running = asyncio.create_task(self.senses.run())

    def of(self, number: int) -> list[Observation]:
        return [each for each in self.seen if each.key.backend == number]

    async def until(self, check: Callable[[], object]) -> None:
        def checked() -> object:
            assert not self.running.done(), self.running
            return check()

        await eventually_async(checked, within_s=20.0)


@asynccontextmanager
async def watching(*backends: Backend, limits: Limits | None = None) -> AsyncIterator[Watch]:
    watch = Watch(pop(backends=backends), limits or Limits())
    try:
        yield watch
    finally:
        watch.running.cancel()
        await asyncio.gather(watch.running, return_exceptions=True)


async def test_every_probe_of_every_backend_is_observed_again_and_again() -> None:
    async with daemon() as peer, daemon(address="127.0.0.3") as other:
        second = backend(2, asking(other.port), address=ip_address("127.0.0.3"))
        async with watching(backend(1, asking(peer.port)), second) as watch:
            await watch.until(lambda: len(watch.of(1)) > 3 and len(watch.of(2)) > 3)
            stats = watch.senses.stats()
    assert {each.outcome for each in watch.seen} == {Outcome.PASS}
    assert {each.key for each in watch.seen} == {ProbeKey(1, "ask"), ProbeKey(2, "ask")}
    assert all(each.rtt_s is not None and each.detail == "yes" for each in watch.seen)
    assert [each.at for each in watch.seen] == sorted(each.at for each in watch.seen)
    assert (stats.probes, stats.missed_total, stats.overloaded) == (2, 0, 0)
    assert stats.runs >= 8


async def test_one_dead_backend_changes_nothing_for_the_others() -> None:
    async with daemon() as peer, watching(backend(1, asking(peer.port)), backend(2, asking(free_port()))) as watch:
        await watch.until(lambda: len(watch.of(1)) > 3 and len(watch.of(2)) > 3)
    assert {each.reason for each in watch.of(1)} == {Reason.ANSWERED}
    assert {each.reason for each in watch.of(2)} == {Reason.REFUSED}


async def test_probes_with_a_task_of_their_own_are_observed_too() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen()
        port = listener.getsockname()[1]
        probes = (spec(Tcp(port=port), "tcp"), spec(Exec(argv=("true",)), "exec"))
        async with watching(backend(1, *probes)) as watch:
            await watch.until(lambda: {each.key.probe for each in watch.seen} == {"tcp", "exec"})
    assert {each.outcome for each in watch.seen} == {Outcome.PASS}


async def test_cancellation_says_goodbye_to_every_daemon_and_leaves_nothing() -> None:
    gc.collect()
    before = open_descriptors()
    async with daemon(silent) as peer:
        slow = replace(asking(peer.port), cadence=replace(CADENCE, interval_s=100.0, timeout_s=60.0))
        sleeper = spec(Exec(argv=("sleep", "1000")), "exec", slow.cadence)
        started = backend(1, replace(slow, cadence=replace(slow.cadence, interval_s=0.05)), sleeper)
        async with watching(started) as watch:
            await watch.until(lambda: b"ASK" in peer.verbs())
        assert watch.running.cancelled()
        await eventually_async(lambda: peer.verbs()[-1] == b"BYE")
    assert watch.seen == []
    assert open_descriptors() <= before


async def test_a_gateway_never_sees_more_than_its_bound_of_ike_probes_at_once() -> None:
    """Six IKE probes of one silent gateway: four are asked, two wait and are given up as our own fault."""
    async with daemon(silent) as peer:
        cadence = replace(CADENCE, interval_s=0.05, timeout_s=30.0)
        probes = [spec(IkeLiveness(version=2, port=peer.port), f"ike{number}", cadence) for number in range(6)]
        async with watching(backend(1, *probes)) as watch:
            await watch.until(lambda: sum(each.reason is Reason.OVERLOADED for each in watch.seen) >= 2)
            stats = watch.senses.stats()
            assert len(set(peer.received)) == 4
    assert stats.in_flight == 4
    assert {each.outcome for each in watch.seen} == {Outcome.UNKNOWN}
    assert stats.overloaded >= 2


async def test_the_bound_in_all_holds_and_who_finds_no_room_says_so() -> None:
    async with daemon(silent) as peer:
        slow = replace(asking(peer.port), cadence=replace(CADENCE, timeout_s=30.0))
        backends = [backend(number, slow) for number in range(1, 6)]
        async with watching(*backends, limits=Limits(total=3)) as watch:
            await watch.until(lambda: len({each.key for each in watch.seen}) == 2)
            assert watch.senses.stats().in_flight == 3
    assert {each.reason for each in watch.seen} == {Reason.OVERLOADED}


async def test_a_slot_that_the_previous_run_blocks_is_counted_as_missed() -> None:
    async with daemon(silent) as peer:
        slow = replace(asking(peer.port), cadence=replace(CADENCE, timeout_s=30.0))
        async with watching(backend(1, slow)) as watch:
            await watch.until(lambda: watch.senses.stats().missed.get(ProbeKey(1, "ask"), 0) >= 3)
    assert len({datagram for datagram in peer.received if datagram.startswith(b"ASK")}) == 1


async def test_a_new_configuration_moves_the_probes_and_disturbs_no_other() -> None:
    async with daemon(silent) as old, daemon() as kept, daemon() as new:
        stays, moves = backend(1, asking(kept.port)), backend(2, asking(old.port))
        async with watching(stays, moves) as watch:
            await watch.until(lambda: b"ASK" in old.verbs() and watch.of(1))
            watch.senses.replace(pop(backends=(stays, backend(2, asking(new.port)), backend(3, asking(new.port)))))
            await watch.until(lambda: old.verbs()[-1] == b"BYE" and watch.of(2) and watch.of(3))
            watch.senses.replace(pop(backends=(stays,)))
            gone = len(watch.of(2))
            more = len(watch.of(1)) + 3
            await watch.until(lambda: len(watch.of(1)) > more)
            assert len(watch.of(2)) == gone
            assert watch.senses.stats().probes == 1
    assert {each.outcome for each in watch.seen} == {Outcome.PASS}


async def test_a_changed_address_of_a_probe_with_a_task_ends_the_old_run() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            slow = spec(Tcp(port=full.getsockname()[1]), "tcp", replace(CADENCE, timeout_s=30.0))
            async with watching(backend(1, slow)) as watch:
                await watch.until(lambda: watch.senses.stats().in_flight == 1)
                watch.senses.replace(pop(backends=(backend(1, slow, address=ip_address("127.0.0.3")),)))
                await watch.until(lambda: watch.seen)
    assert {each.reason for each in watch.seen} == {Reason.REFUSED}


async def test_a_program_of_a_probe_that_is_removed_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    slow = spec(
        Exec(argv=("sh", "-c", f"echo $$. > {note}; exec sleep 1000")), "exec", replace(CADENCE, timeout_s=60.0)
    )
    async with daemon() as peer, watching(backend(1, slow)) as watch:
        await watch.until(lambda: note.exists() and "." in note.read_text())
        pid = int(note.read_text().partition(".")[0])
        watch.senses.replace(pop(backends=(backend(2, asking(peer.port)),)))
        await watch.until(lambda: watch.of(2) and not Path(f"/proc/{pid}").exists())
    assert watch.of(1) == []


async def test_a_consumer_that_fails_ends_the_senses_loudly() -> None:
    def fail(_: Observation) -> None:
        raise LookupError("consumer")

    async with daemon() as peer:
        senses = Senses(
            pop(backends=(backend(1, asking(peer.port)),)),
            fail,
            exchange_for=ask,
            clock=time.monotonic,
            entropy=os.urandom,
            rng=Random(1),
        )
        with pytest.raises(ExceptionGroup) as caught:
            await senses.run()
    assert caught.group_contains(LookupError)


async def test_a_busy_loop_shows_in_the_lag_gauge() -> None:
    async with daemon() as peer, watching(backend(1, asking(peer.port))) as watch:
        await watch.until(lambda: watch.seen)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass  # hog the loop, as a bug would
        await watch.until(lambda: watch.senses.stats().loop_lag_max_s > 0.1)
        stats = watch.senses.stats()
    assert stats.loop_lag_max_s >= stats.loop_lag_p99_s >= 0.0


async def test_hundreds_of_backends_leave_no_descriptor_behind() -> None:
    gc.collect()
    before = open_descriptors()
    async with daemon() as peer:
        quick = asking(peer.port)
        async with watching(*(backend(number, quick) for number in range(1, 201))) as watch:
            await watch.until(lambda: len(watch.seen) > 2000)
            assert open_descriptors() > before + 200
    assert {each.outcome for each in watch.seen} == {Outcome.PASS}
    assert open_descriptors() <= before
