"""The engine of all datagram probes: runs `Exchange`s over channels, in callbacks, without a task per run.

Rules:
- A retransmission is the very same bytes: a fresh SPI each time would look like an attack to the daemon.
- A refusal counts at once. It belongs to this run, because a channel carries one run at a time and is drained before.
- Datagrams that cannot be read, or are not for this run, are skipped; they only change what a timeout is called.
- What an exchange wants sent at its end, so that nothing half-open stays behind, is sent even when time is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import select
from typing import TYPE_CHECKING, Final

from popctl.model.instant import NEVER, Instant
from popctl.model.reason import Reason
from popctl.senses.channel import DATAGRAM_BYTES_MAX, READS_MOST, Channel
from popctl.senses.failure import LATE_S, result_of, timed_out
from popctl.senses.prober import Result, failed
from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.wire.exchange import Exchange

_TRIES: Final = 3
"""How often the same datagrams are sent within one timeout, evenly apart."""
_GRAIN_S: Final = 0.005
"""Timers within this span share one wake-up."""
_BATCH: Final = 256


class Run:
    """One conversation under way. Only the engine changes it."""

    __slots__ = (
        "channel",
        "deadline",
        "done",
        "exchange",
        "foreign",
        "late_s",
        "problem",
        "resend_at",
        "sent",
        "started",
    )

    def __init__(
        self, channel: Channel, exchange: Exchange, *, now: Instant, deadline: Instant, done: Callable[[Result], None]
    ) -> None:
        self.channel = channel
        self.exchange = exchange
        self.done: Callable[[Result], None] | None = done
        self.started = now
        self.deadline = deadline
        self.sent: tuple[bytes, ...] = ()
        """What is repeated until the exchange moves on."""
        self.resend_at = now + (deadline - now) / _TRIES
        self.foreign = 0
        """Datagrams that were garbage or not for this run."""
        self.problem = ""
        self.late_s = 0.0
        """How late the latest of its timers fired."""


class DatagramEngine:
    """All conversations of one event loop: one epoll set inside the loop's own, one timer, one heap."""

    def __init__(self, *, clock: Callable[[], Instant]) -> None:
        """Create an idle engine; it joins the running loop with its first channel."""
        self._clock = clock
        self._epoll = select.epoll()
        self._channels: dict[int, Channel] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: list[tuple[Instant, int, Run]] = []
        self._timer_count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER
        self.foreign_total = 0
        """Datagrams that were garbage, foreign, or came after their run had ended."""

    def add(self, channel: Channel) -> None:
        """Watch `channel` until it is removed."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self.pump)
        self._channels[channel.sock.fileno()] = channel
        self._epoll.register(channel.sock.fileno(), select.EPOLLIN)

    def channels(self) -> tuple[Channel, ...]:
        """Return all channels that are watched."""
        return tuple(self._channels.values())

    def remove(self, channel: Channel) -> None:
        """Abandon the run on `channel`, without a result, and close it."""
        if channel.run is not None:
            self.abandon(channel.run)
        self._epoll.unregister(channel.sock.fileno())
        del self._channels[channel.sock.fileno()]
        channel.sock.close()

    def close(self) -> None:
        """Abandon all runs, without results, and close all channels."""
        for channel in self.channels():
            self.remove(channel)
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def begin(self, channel: Channel, exchange: Exchange, *, deadline: Instant, done: Callable[[Result], None]) -> Run:
        """Start `exchange` on the idle `channel`; `done` is called later, exactly once, unless the run is abandoned.

        Raises:
            OSError: the first datagram could not be sent; `done` is not called.
        """
        first = exchange.start()
        channel.drain()  # of what came while the exchange made its keys
        run = Run(channel, exchange, now=self._clock(), deadline=deadline, done=done)
        run.sent = (first,)
        _send_first(channel, first)
        channel.run = run
        self._plan(run, run.resend_at)
        return run

    def abandon(self, run: Run) -> None:
        """End `run` without a result and leave nothing half-open behind."""
        if run.done is not None:
            run.done = None
            run.channel.run = None
            self._clean_up(run)

    def pump(self) -> None:
        """Read what has arrived: one datagram per ready channel; what is left wakes us again."""
        for fd, _ in self._epoll.poll(0, _BATCH):
            channel = self._channels.get(fd)
            if channel is not None:
                self._read(channel)

    def _read(self, channel: Channel) -> bool:
        """Take one datagram or error off the socket; say whether there was one."""
        run = channel.run
        try:
            datagram = channel.sock.recv(DATAGRAM_BYTES_MAX + 1)
        except BlockingIOError:
            return False
        except OSError as error:
            channel.note(error)
            if run is not None:
                self._finish(run, result_of(error))
            return True
        if run is None:
            self.foreign_total += 1
        else:
            self._take(run, datagram)
        return True

    def _take(self, run: Run, datagram: bytes) -> None:
        """Hand one datagram to the exchange and do what it says."""
        if len(datagram) > DATAGRAM_BYTES_MAX:
            self._count_foreign(run, "datagram too long")
            return
        try:
            turn = run.exchange.receive(datagram)
        except WireError as error:
            self._count_foreign(run, str(error))
            return
        except Exception as error:  # noqa: BLE001 - a bug of the exchange says nothing about the backend
            self._fail_and_clean_up(run, result_of(error))
            return
        if turn.verdict is not None:
            verdict = turn.verdict
            rtt_s = self._clock() - run.started
            if turn.send:
                self._send_last(run, turn.send)
            self._finish(run, Result(verdict.outcome, verdict.reason, verdict.detail, rtt_s))
        elif turn.send:
            self._move_on(run, turn.send)
        else:
            self._count_foreign(run, "not for this exchange")

    def _move_on(self, run: Run, datagrams: tuple[bytes, ...]) -> None:
        """Send the next step of the conversation; from now on that is what is repeated."""
        run.sent = datagrams
        run.resend_at = self._clock() + (run.deadline - run.started) / _TRIES
        self._send_or_finish(run)

    def _count_foreign(self, run: Run, problem: str) -> None:
        run.foreign += 1
        run.problem = problem
        self.foreign_total += 1

    def _send_or_finish(self, run: Run) -> None:
        try:
            for datagram in run.sent:
                run.channel.sock.send(datagram)
        except OSError as error:
            run.channel.note(error)
            self._fail_and_clean_up(run, result_of(error))

    def _send_last(self, run: Run, datagrams: tuple[bytes, ...]) -> None:
        """Send the clean-up; a failure to send it changes no verdict."""
        with contextlib.suppress(OSError):
            for datagram in datagrams:
                run.channel.sock.send(datagram)

    def _clean_up(self, run: Run) -> None:
        try:
            datagrams = run.exchange.abandon()
        except Exception:  # noqa: BLE001 - the run has ended already; a bug here must not stop the others
            return
        self._send_last(run, datagrams)

    def _fail_and_clean_up(self, run: Run, result: Result) -> None:
        self._clean_up(run)
        self._finish(run, result)

    def _finish(self, run: Run, result: Result) -> None:
        done, run.done = run.done, None
        run.channel.run = None
        self._drop_ended()
        if done is not None:
            done(result)

    def _drop_ended(self) -> None:
        """Forget timers of ended runs; without this every answered probe would wake an idle agent once for nothing."""
        while self._timers and self._timers[0][2].done is None:
            heapq.heappop(self._timers)
        if not self._timers and self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, NEVER

    def _plan(self, run: Run, when: Instant) -> None:
        """Look at `run` again at `when`."""
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, run))
        if when < self._timer_at:
            self._arm(when)

    def _arm(self, when: Instant) -> None:
        if self._loop is None:
            raise RuntimeError("no channel was added")
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_later(max(when - self._clock(), _GRAIN_S), self._on_timer)

    def _on_timer(self) -> None:
        """Repeat what was not answered and end what ran out of time, after reading what has arrived meanwhile."""
        self._timer, self._timer_at = None, NEVER
        self.pump()
        now = self._clock()
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].done is None):
            when, _, run = heapq.heappop(self._timers)
            if run.done is not None:
                self._step(run, when, now)
        if self._timers and self._timers[0][0] < self._timer_at:
            self._arm(self._timers[0][0])

    def _step(self, run: Run, when: Instant, now: Instant) -> None:
        run.late_s = max(run.late_s, now - when)
        if now >= run.deadline:
            for _ in range(READS_MOST):  # behind strangers' datagrams the answer may wait
                if run.done is None or not self._read(run.channel):
                    break
            if run.done is not None:
                self._time_out(run)
            return
        if now >= run.resend_at:
            run.resend_at = now + (run.deadline - run.started) / _TRIES
            self._send_or_finish(run)
        if run.done is not None:
            self._plan(run, min(run.resend_at, run.deadline))

    def _time_out(self, run: Run) -> None:
        if run.late_s > LATE_S:
            result = timed_out(late_s=run.late_s)
        elif run.foreign:
            result = failed(Reason.GARBAGE, f"{run.foreign} datagrams, last: {run.problem}")
        else:
            result = timed_out(late_s=0.0)
        self._fail_and_clean_up(run, result)


def _send_first(channel: Channel, datagram: bytes) -> None:
    """Send the first datagram of a run. A refusal that shows now answers an earlier run; reading it cleared it."""
    try:
        channel.sock.send(datagram)
    except ConnectionRefusedError:
        channel.sock.send(datagram)
