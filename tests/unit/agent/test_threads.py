"""Threads that hang, and what waits for them: nothing."""

from __future__ import annotations

import asyncio
import signal
import threading

from popctl.agent.threads import Threads


async def one_hangs(threads: Threads, let_go: threading.Event) -> tuple[bool, bool, bool]:
    """Return whether they had settled before, during and after the time in which one hung."""
    asyncio.get_running_loop().set_default_executor(threads)
    before = await threads.settle(10)
    hung = asyncio.create_task(asyncio.to_thread(let_go.wait))
    await asyncio.to_thread(int)
    during = await threads.settle(0.01)
    let_go.set()
    after = await threads.settle(10)
    await hung
    return before, during, after


def test_what_is_being_done_gets_a_bounded_time() -> None:
    assert asyncio.run(one_hangs(Threads(), threading.Event())) == (True, False, True)


def test_signals_of_the_process_are_not_for_them() -> None:
    with Threads(deaf_to=(signal.SIGHUP,)) as threads:
        assert signal.SIGHUP in threads.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()).result(10)


def test_event_loop_that_is_closed_waits_for_no_thread() -> None:
    began, let_go, ended = threading.Event(), threading.Event(), threading.Event()

    async def leaves_one_hanging() -> None:
        asyncio.get_running_loop().set_default_executor(Threads())
        task = asyncio.create_task(asyncio.to_thread(hang))
        await asyncio.to_thread(began.wait, 10)
        task.cancel()

    def hang() -> None:
        began.set()
        let_go.wait()
        ended.set()

    asyncio.run(leaves_one_hanging())
    assert not ended.is_set()
    let_go.set()
    assert ended.wait(10)
