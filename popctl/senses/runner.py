"""The senses at work: runs every probe of a PoP on its schedule and emits one observation per run.

Judges nothing. Datagram probes, the many, run in callbacks; only TCP, HTTP and exec probes have a task each.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from popctl.model.observation import Observation, Outcome
from popctl.model.probe import Exec, IkeDeep, IkeLiveness, ProbeKey, ProbeSpec
from popctl.model.reason import Reason
from popctl.senses.admission import Admission, Pool, Ticket
from popctl.senses.datagram import DatagramProber, ExchangeFactory
from popctl.senses.prober import Result, Target, unknown
from popctl.senses.registry import probers
from popctl.senses.run import run_probe
from popctl.senses.schedule import Schedule
from popctl.senses.stats import LagMeter, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from popctl.model.instant import Instant
    from popctl.model.pop import Pop
    from popctl.model.route import Address
    from popctl.wire.exchange import Entropy

_GRAIN_S: Final = 0.005
"""Probes due within this span start in one wake-up: a hundredth of the shortest sensible interval costs nothing."""
_HEARTBEAT_S: Final = 0.25
"""The loop lag is measured at least this often."""
_PUMP_EVERY: Final = 16
"""Starts between two looks at what has arrived, so that a burst of starts does not count as round-trip time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many probes may be in flight."""

    total: int = 512
    ike_per_gateway: int = 4
    """Per gateway and source address: strongSwan blocks a source with 5 half-open SAs, unprocessed packets included."""
    programs: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """A configured probe, ready to run."""

    spec: ProbeSpec
    target: Target
    pools: tuple[Pool, ...] = field(compare=False)


class Senses:
    """All probes of one PoP. Made anew or `replace`d for another configuration."""

    def __init__(
        self,
        pop: Pop,
        emit: Callable[[Observation], None],
        *,
        exchange_for: ExchangeFactory,
        clock: Callable[[], Instant],
        entropy: Entropy,
        rng: Random,
        sources: Mapping[int, Address] = MappingProxyType({}),
        limits: Limits = Limits(),
    ) -> None:
        """Prepare; nothing runs before `run`.

        `sources` gives the address to probe from per IP version (4, 6); without one the kernel chooses. `rng` jitters
        only; SPIs, nonces and payloads come from `entropy`. `emit` is called in the event loop and must not block.
        """
        self._emit = emit
        self._clock = clock
        self._sources = sources
        self._limits = limits
        self._probes = self._of(pop)
        self._schedule = Schedule(rng=rng)
        self._admission = Admission()
        self._tickets: dict[ProbeKey, Ticket] = {}
        self._datagrams = DatagramProber(exchange_for, clock=clock, entropy=entropy)
        self._probers = probers(self._datagrams)
        self._tasks: dict[ProbeKey, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._broken: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: Instant = 0.0
        self._beginning = False
        self._lag = LagMeter()
        self._runs = 0
        self._overloaded = 0

    async def run(self) -> None:
        """Probe until cancelled; then abandon what is under way so that no backend keeps anything half-open.

        Raises:
            ExceptionGroup: `emit` failed, or the senses have a bug. Nothing is observed any more.
        """
        self._broken = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    self._schedule.replace(self._specs(), self._clock())
                    self._arm()
                    await self._broken
                finally:
                    # A probe that ends while the group does must not begin the next one in it.
                    self._group = None
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._datagrams.close()

    def replace(self, pop: Pop) -> None:
        """Probe what `pop` says from now on; probes that stay the same are not disturbed."""
        wanted = self._of(pop)
        for key, probe in self._probes.items():
            if wanted.get(key) != probe:
                self._stop(key)
        self._probes = wanted
        if self._group is not None:
            self._schedule.replace(self._specs(), self._clock())
            self._begin_admitted()
            self._arm()

    def stats(self) -> Stats:
        """Return counters and gauges for metrics."""
        return Stats(
            probes=len(self._probes),
            runs=self._runs,
            in_flight=self._admission.in_flight,
            waiting=self._admission.waiting,
            overloaded=self._overloaded,
            missed=self._schedule.missed(),
            missed_total=self._schedule.missed_total,
            foreign_datagrams=self._datagrams.engine.foreign_total,
            loop_lag_s=self._lag.latest_s(),
            loop_lag_p99_s=self._lag.quantile_s(0.99),
            loop_lag_max_s=self._lag.quantile_s(1.0),
        )

    def _of(self, pop: Pop) -> dict[ProbeKey, _Probe]:
        """Return every probe of every backend."""
        probes = {}
        for backend in pop.backends.values():
            source = self._sources.get(backend.address.version)
            for spec in backend.probes:
                key = ProbeKey(backend.id, spec.name)
                target = Target(key=key, method=spec.method, address=backend.address, source=source)
                probes[key] = _Probe(spec=spec, target=target, pools=self._pools(target))
        return probes

    def _pools(self, target: Target) -> tuple[Pool, ...]:
        total = Pool("all", self._limits.total)
        match target.method:
            case IkeLiveness() | IkeDeep():
                return (Pool(f"ike {target.source} {target.address}", self._limits.ike_per_gateway), total)
            case Exec():
                return (Pool("exec", self._limits.programs), total)
            case _:
                return (total,)

    def _specs(self) -> dict[ProbeKey, ProbeSpec]:
        return {key: probe.spec for key, probe in self._probes.items()}

    def _arm(self) -> None:
        """Set the one timer to the next thing to do."""
        now = self._clock()
        wanted = min(self._schedule.next_due(), self._admission.next_expiry(), now + _HEARTBEAT_S)
        self._wake_at = max(wanted, now + _GRAIN_S)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._wake_at - now, self._wake)

    def _wake(self) -> None:
        """Take one turn; a bug in it ends `run`, not just one callback."""
        try:
            self._turn()
            self._arm()
        except Exception as error:  # noqa: BLE001 - it is raised again, by `run`
            self._break(error)

    def _break(self, error: Exception) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _turn(self) -> None:
        """Start what is due; give up on what has waited too long."""
        now = self._clock()
        self._lag.note(now - self._wake_at)
        for count, key in enumerate(self._schedule.due(now), start=1):
            self._tickets[key] = self._admission.enter(key, self._probes[key].pools, now)
            self._begin_admitted()
            if count % _PUMP_EVERY == 0:
                self._datagrams.engine.pump()
        for ticket in self._admission.expired(now):
            self._finish(ticket, unknown(Reason.OVERLOADED, "no room among the probes in flight"))
        self._begin_admitted()

    def _begin_admitted(self) -> None:
        """Begin all runs that have found room. One that ends at once makes room for the next: a loop, no recursion."""
        if self._beginning:
            return
        self._beginning = True
        try:
            while (ticket := self._admission.admitted()) is not None:
                self._begin(ticket)
        finally:
            self._beginning = False

    def _begin(self, ticket: Ticket) -> None:
        probe = self._probes[ticket.key]
        deadline = self._clock() + probe.spec.cadence.timeout_s
        if self._probers[type(probe.target.method)] is self._datagrams:
            self._datagrams.begin(probe.target, deadline=deadline, done=partial(self._finish, ticket))
        elif self._group is not None:
            running = self._run(ticket, probe.target, deadline)
            self._tasks[ticket.key] = self._group.create_task(running, name=f"probe {ticket.key}")

    async def _run(self, ticket: Ticket, target: Target, deadline: Instant) -> None:
        """Run one probe that needs a task."""
        result = await run_probe(self._probers, target, deadline=deadline, clock=self._clock)
        if self._tickets.get(ticket.key) is ticket:  # else it was stopped in the very moment it ended
            del self._tasks[ticket.key]
            self._finish(ticket, result)

    def _finish(self, ticket: Ticket, result: Result) -> None:
        """Report one run, plan the next, let those in line go."""
        key = ticket.key
        now = self._clock()
        del self._tickets[key]
        self._admission.leave(ticket)
        self._schedule.finished(key, result.outcome, now)
        self._runs += 1
        self._overloaded += result.reason is Reason.OVERLOADED
        try:
            self._emit(
                Observation(
                    key=key,
                    outcome=result.outcome,
                    reason=result.reason,
                    at=now,
                    rtt_s=result.rtt_s,
                    detail=result.detail,
                )
            )
        except Exception as error:  # noqa: BLE001 - it is raised again, by `run`
            self._break(error)
        self._begin_admitted()
        if result.outcome is Outcome.FAIL and self._schedule.next_due() < self._wake_at:
            self._arm()

    def _stop(self, key: ProbeKey) -> None:
        """End the run of a probe that is no longer wanted, without an observation."""
        ticket = self._tickets.pop(key, None)
        if ticket is not None:
            self._admission.leave(ticket)
            self._schedule.finished(key, Outcome.UNKNOWN, self._clock())
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
        self._datagrams.forget(key)
