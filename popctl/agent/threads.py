"""The threads behind `asyncio.to_thread`: none of them may keep the agent from replacing itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """An executor whose end waits for nobody.

    A thread can hang for as long as a disk, a directory service or a daemon pleases. `asyncio.run` would wait for it
    while nobody renews the lease.
    """

    def __init__(self, deaf_to: Collection[signal.Signals] = ()) -> None:
        """`deaf_to`: signals that are for the main thread alone.

        The kernel gives a signal of the process to any thread that does not block it. In one that outlives the event
        loop it would find nobody to obey it, and end the process.
        """
        block = partial(signal.pthread_sigmask, signal.SIG_BLOCK, deaf_to)
        super().__init__(thread_name_prefix="popctl", initializer=block)
        self._unfinished: set[Future[Any]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call `fn` in a thread."""
        future = super().submit(fn, *args, **kwargs)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    async def settle(self, within_s: float) -> bool:
        """Give what is being done some time to get done; False if that was not enough."""
        unfinished = [asyncio.wrap_future(future) for future in tuple(self._unfinished)]
        if not unfinished:
            return True
        _, late = await asyncio.wait(unfinished, timeout=within_s)
        for future in late:
            future.cancel()
        return not late

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - as inherited
        """Take nothing more on, whatever is asked for. Threads that are at work go on."""
        super().shutdown(wait=False, cancel_futures=True)
