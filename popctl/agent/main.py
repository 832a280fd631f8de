"""Wiring and life of the agent process: build the parts, run them together, end them in order.

The four ways to end and what each means for the routes: docs/decisions/001.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from hashlib import sha256
from importlib.metadata import version
from random import Random
from typing import Any

import structlog

from popctl.agent.alarm import Alarm
from popctl.agent.api import Api, readings
from popctl.agent.api_orders import Clocks
from popctl.agent.api_recent import LastSeen
from popctl.agent.api_status import Build
from popctl.agent.configured import Configured
from popctl.agent.events import ActualChanged, Event, IntentsChanged, LoadRestored, ServicesRestored
from popctl.agent.fleet_hand import fleet_hand
from popctl.agent.intents import IntentStore, StateCorruptError
from popctl.agent.journal import Journal
from popctl.agent.label_alarm import LabelAlarm
from popctl.agent.leftovers import keep_clean
from popctl.agent.load_store import FILE as LOAD_FILE
from popctl.agent.load_store import LoadKeeper
from popctl.agent.loop import Loop
from popctl.agent.meters import meter_clients
from popctl.agent.metrics import Metrics, Reading
from popctl.agent.notify import Notifier
from popctl.agent.parts import end, lasting
from popctl.agent.playbook_file import PlaybookFile
from popctl.agent.reload import may_follow
from popctl.agent.sa_watch import SaWatch
from popctl.agent.services_store import FILE as SERVICES_FILE
from popctl.agent.services_store import ServicesKeeper
from popctl.agent.steering import Steering
from popctl.agent.stop import Ending, held, stop
from popctl.agent.threads import Threads
from popctl.agent.world import World
from popctl.bgp.exabgp import ExaBgpSpeaker
from popctl.lb.counters import read_counters_here
from popctl.listen.sockets import listening
from popctl.model.listen import UnixEndpoint
from popctl.model.pop import Pop
from popctl.senses.runner import Senses
from popctl.wire.exchanges import exchange_for

_LOG = structlog.get_logger("popctl.agent")

VERSION = version("popctl")

OBEYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Held back (`__main__`) until the agent can obey them, and again while it replaces itself, so that none ends it."""
_LAST_LOOK_S = 0.01
_THREADS_SETTLE_S = 1.0
"""An order that is being written gets this long; a disk or a daemon that hangs gets no more."""


class Agent:
    """All parts of one agent. Made once per process; a new configuration means a new process image."""

    def __init__(self, configured: Configured) -> None:
        self._configured = configured
        pop = configured.pop
        clock = time.monotonic
        self._store = IntentStore(pop.paths.state_file)
        self._world = World(pop)
        self._journal = Journal(
            pop.paths.journal,
            world=self._world,
            config_text=configured.text,
            source=str(configured.source),
            wall_clock=time.time,
        )
        self._watch_sas = SaWatch(pop, clock)
        self._steering = _steering(pop, self._put, self._watch_sas)
        digest = sha256(configured.text.encode()).hexdigest()[:16]
        self._fleet = fleet_hand(pop, digest, self._put, clock=clock, alive=self._loop_turns)
        self._speaker = ExaBgpSpeaker(pop, clock=clock, alive=self._loop_turns)
        self._metrics = Metrics(
            pop=pop,
            world=self._world,
            clock=clock,
            version=VERSION,
            readings=(
                Reading("popctl_lease_renewals", "Renewals that the relay confirmed.", lambda: self._speaker.renewals),
                Reading(
                    "popctl_probe_slots_missed",
                    "Probe slots that passed unused.",
                    lambda: self._senses.stats().missed_total,
                ),
                Reading("popctl_journal_failures", "Times the journal stopped.", lambda: self._journal.failures),
                *readings(lambda: self._api),
            ),
            counters=read_counters_here,
            missteers=self._watch_sas.missteers.families,
            heard=lambda: {one.backend: one.latest for one in self._meters if one.latest is not None},
        )
        last_seen = LastSeen()
        clocks = Clocks(monotonic=clock, wall=time.time)
        beside = pop.paths.state_file.with_name
        self._load = LoadKeeper(pop.load, beside(LOAD_FILE), lambda: self._world.load_memory, clocks)
        self._services = ServicesKeeper(beside(SERVICES_FILE), lambda: self._world.past, clocks)
        self._loop = Loop(
            self._world,
            self._speaker,
            clock,
            (
                self._journal,
                self._metrics,
                last_seen,
                self._watch_sas,
                self._watch_sas.missteers,
                Alarm(),
                LabelAlarm(pop),
                self._load,
                self._services,
            ),
            self._steering,
            self._fleet,
        )
        self._senses = Senses(
            pop,
            self._loop.put,
            exchange_for=exchange_for,
            clock=clock,
            entropy=os.urandom,
            rng=Random(os.urandom(16)),  # noqa: S311 - jitter only; entropy is for the wire
        )
        rng = Random(os.urandom(16))  # noqa: S311 - jitter only
        self._meters = meter_clients(pop, self._put, clock=clock, rng=rng)
        self._api = Api(
            pop=pop,
            loop=self._loop,
            store=self._store,
            last_seen=last_seen,
            metrics=self._metrics.text,
            clocks=clocks,
            build=Build(version=VERSION, config_digest=digest),
            watch=self._watch_sas,
        )
        self._playbook = PlaybookFile(pop, self._put, clocks, self._note)
        self._notifier = Notifier()
        self._threads = Threads(deaf_to=OBEYED)
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()

    def _put(self, event: Event) -> None:
        self._loop.put(event)

    async def _note(self, reason: str, details: dict[str, Any]) -> None:
        """Write into the audit file what the agent did of itself."""
        await self._api.audit.order("popctl", reason, details)

    def _loop_turns(self) -> bool:
        """The lease is renewed only while decisions are being made; a process that only breathes is not alive."""
        return time.monotonic() - self._loop.turned_at < self._configured.pop.lease.duration_s / 2

    async def run(self) -> Ending:
        """Run until told to end. A part that fails takes the whole process down: the lease covers the network.

        Raises:
            ListenError: another agent listens at the API's unix socket, or its path cannot be used.
        """
        # Before anything is touched: files, relay, fleet and kernel have room for one agent of a PoP.
        with listening(UnixEndpoint(path=self._configured.pop.paths.api_socket)) as api_socket:
            return await self._live(api_socket)

    async def _live(self, api_socket: socket.socket) -> Ending:
        self._configured.remember_ids()
        self._restore_orders()
        self._restore_memory()
        self._journal.open(time.monotonic())
        running = asyncio.get_running_loop()
        for number in OBEYED:
            running.add_signal_handler(number, self._signals.put_nowait, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OBEYED)
        running.set_default_executor(self._threads)
        async with asyncio.TaskGroup() as group:
            vital = [group.create_task(lasting(part)) for part in self._vital_parts()]
            others = [group.create_task(lasting(part)) for part in self._other_parts(api_socket)]
            ending = await self._until_told()
            # However long they take to end, the lease is renewed meanwhile.
            await end(others)
            if not await self._threads.settle(_THREADS_SETTLE_S):
                _LOG.warning("not waited for: work that hangs in a thread")
            if ending is Ending.REPLACE:
                await self._speaker.release()
            await end(vital)
        self._journal.close()
        if ending is not Ending.REPLACE:
            await self._fleet.release()
        if ending is Ending.REPLACE:
            signal.pthread_sigmask(signal.SIG_BLOCK, OBEYED)
            # What arrived before that is on its way through the event loop.
            await asyncio.sleep(_LAST_LOOK_S)
        return ending

    def leave_signals(self) -> None:
        """Leave what was not obeyed yet to the next process image. The event loop must be closed."""
        while not self._signals.empty():
            os.kill(os.getpid(), self._signals.get_nowait())

    def _vital_parts(self) -> tuple[Coroutine[object, object, None], ...]:
        """Return what renews the lease, and only while decisions are made."""
        speaker = self._speaker.run(lambda actual: self._loop.put(ActualChanged(actual)))
        return self._loop.run(), speaker, self._watch()

    def _other_parts(self, api_socket: socket.socket) -> tuple[Coroutine[object, object, None], ...]:
        return (
            self._senses.run(),
            self._api.run(api_socket),
            self._metrics.watch_lag(),
            self._watch_sas.run(),
            self._watch_sas.missteers.run(),
            self._fleet.run(),
            self._services.run(),
            *self._load_parts(),
            *(meter.run() for meter in self._meters),
            *([self._steering.run()] if self._steering else []),
            keep_clean(self._configured, self._loop),
        )

    def _load_parts(self) -> list[Coroutine[object, object, None]]:
        load = self._configured.pop.load
        if load is None:
            return []
        return [self._load.run(), *([] if load.playbook is None else [self._playbook.run()])]

    def _restore_memory(self) -> None:
        past = self._services.load()
        if past is not None:
            self._loop.put(ServicesRestored(past))
        memory = self._load.load()
        if memory is not None:
            self._loop.put(LoadRestored(memory))

    def _restore_orders(self) -> None:
        try:
            intents = self._store.load(unix_s=time.time(), now=time.monotonic())
        except StateCorruptError as error:
            _LOG.error("state file corrupt: staying out", error=str(error))
            self._loop.put(IntentsChanged((), corrupt=True))
        else:
            self._loop.put(IntentsChanged(intents))

    async def _until_told(self) -> Ending:
        """Wait for a signal that ends the agent, and do what must be done while all parts still work."""
        while True:
            number = await self._signals.get()
            if number is not signal.SIGHUP:
                return await self._stop()
            if await may_follow(self._configured, self._loop):
                self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
                return Ending.REPLACE

    async def _stop(self) -> Ending:
        self._notifier.send("STOPPING=1")
        _LOG.info("stopping", drain_s=self._configured.pop.timing.stop_drain_s)
        return await stop(self._loop, self._signals)

    async def _watch(self) -> None:
        """Tell the service manager that we live, only while the loop turns."""
        ready = False
        while True:
            if self._loop.decision is not None and not ready:
                self._notifier.send("READY=1")
                ready = True
            if self._loop_turns():
                self._notifier.send("WATCHDOG=1", f"STATUS={_summary(self._loop)}")
            await asyncio.sleep(min(1.0, (self._notifier.watchdog_s or 2.0) / 3))


def _steering(pop: Pop, put: Callable[[Event], None], watch: SaWatch) -> Steering | None:
    if pop.tables is None:
        return None
    # A PoP without a balancer holds neither netlink nor nftables in its memory.
    from popctl.lb.nft import NftBalancer  # noqa: PLC0415

    return Steering(pop, NftBalancer(), put, watch)


def _summary(loop: Loop) -> str:
    if loop.decision is None:
        return "starting"
    told = "; ".join(
        f"{one.service}: {one.announce} ({one.reason}), {one.healthy} of {one.needed} needed backends healthy"
        for one in loop.decision.desired.services
    )
    return f"the stop is held, a second SIGTERM ends the agent all the same; {told}" if held(loop) else told
