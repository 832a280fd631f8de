"""The one boundary around probers, and the table of what an error means."""

from __future__ import annotations

import asyncio
import errno
import time
from ipaddress import ip_address

import pytest

from popctl.model.observation import Outcome
from popctl.model.probe import Icmp, ProbeKey
from popctl.model.reason import Reason
from popctl.senses.failure import result_of
from popctl.senses.prober import Prober, Result, Target, failed
from popctl.senses.run import run_probe

TARGET = Target(key=ProbeKey(1, "x"), method=Icmp(), address=ip_address("127.0.0.1"))


class Raising:
    """Fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def run(self, target: Target, *, deadline: float) -> Result:  # noqa: ARG002 - it fails before
        raise self._error


class Hanging:
    """Never comes back of its own accord."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = False

    async def run(self, target: Target, *, deadline: float) -> Result:  # noqa: ARG002 - it hangs before
        self.began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError("unreachable")


async def run(prober: Prober, *, within_s: float = 5.0) -> Result:
    return await run_probe({Icmp: prober}, TARGET, deadline=time.monotonic() + within_s, clock=time.monotonic)


@pytest.mark.parametrize(
    ("number", "outcome", "reason"),
    [
        (errno.ECONNREFUSED, Outcome.FAIL, Reason.REFUSED),
        (errno.ECONNRESET, Outcome.FAIL, Reason.REFUSED),
        (errno.EHOSTUNREACH, Outcome.FAIL, Reason.UNREACHABLE),
        (errno.ENETUNREACH, Outcome.FAIL, Reason.UNREACHABLE),
        (errno.ETIMEDOUT, Outcome.FAIL, Reason.TIMED_OUT),
        (errno.EPERM, Outcome.UNKNOWN, Reason.NO_PERMISSION),
        (errno.EACCES, Outcome.UNKNOWN, Reason.NO_PERMISSION),
        (errno.ENOBUFS, Outcome.UNKNOWN, Reason.OVERLOADED),
        (errno.EMFILE, Outcome.UNKNOWN, Reason.OVERLOADED),
        (errno.EADDRNOTAVAIL, Outcome.UNKNOWN, Reason.PROBE_ERROR),
        (errno.ENOENT, Outcome.UNKNOWN, Reason.PROBE_ERROR),
    ],
)
async def test_each_error_of_the_kernel_has_one_meaning(number: int, outcome: Outcome, reason: Reason) -> None:
    result = await run(Raising(OSError(number, "said by the kernel")))
    assert (result.outcome, result.reason) == (outcome, reason)
    assert result.detail.startswith(errno.errorcode[number])


@pytest.mark.parametrize("error", [KeyError("x"), ExceptionGroup("many", [ValueError("y")]), TimeoutError("its own")])
async def test_an_exception_of_the_prober_says_nothing_about_the_backend(error: Exception) -> None:
    result = await run(Raising(error))
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, Reason.PROBE_ERROR)
    assert type(error).__name__ in result.detail


async def test_a_prober_that_outlives_its_deadline_is_cancelled_and_has_timed_out() -> None:
    hanging = Hanging()
    for _ in range(20):
        result = await run(hanging, within_s=0.02)
        if result.reason is not Reason.OVERLOADED:
            break
    assert result == failed(Reason.TIMED_OUT)
    assert hanging.cancelled


async def test_a_deadline_noticed_too_late_is_our_own_fault() -> None:
    hanging = Hanging()
    ahead_s = 0.0
    asked = asyncio.create_task(
        run_probe({Icmp: hanging}, TARGET, deadline=time.monotonic() + 0.05, clock=lambda: time.monotonic() + ahead_s)
    )
    await hanging.began.wait()
    ahead_s = 5.0
    result = await asked
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, Reason.OVERLOADED)


async def test_how_long_the_clean_up_takes_says_nothing_about_this_host() -> None:
    ahead_s = 0.0

    class SlowToEnd(Hanging):
        async def run(self, target: Target, *, deadline: float) -> Result:
            nonlocal ahead_s
            try:
                return await super().run(target, deadline=deadline)
            finally:
                ahead_s += 5.0

    def clock() -> float:
        return time.monotonic() + ahead_s

    for _ in range(20):
        prober = SlowToEnd()
        result = await run_probe({Icmp: prober}, TARGET, deadline=clock() + 0.02, clock=clock)
        if result.reason is not Reason.OVERLOADED:
            break
    assert result == failed(Reason.TIMED_OUT)
    assert prober.cancelled


async def test_cancellation_passes_through() -> None:
    hanging = Hanging()
    asked = asyncio.create_task(run(hanging))
    await hanging.began.wait()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert asked.cancelled()
    assert hanging.cancelled


async def test_a_method_without_a_prober_says_so() -> None:
    result = await run_probe({}, TARGET, deadline=time.monotonic() + 1, clock=time.monotonic)
    assert (result.reason, result.detail) == (Reason.PROBE_ERROR, "no prober for Icmp")


def test_a_detail_never_carries_control_characters_or_much_text() -> None:
    detail = result_of(ValueError("a\nb\x1b[0m" + "c" * 10000)).detail
    assert detail.isprintable()
    assert len(detail) <= 200
