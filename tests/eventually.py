"""Wait for a state of the real world, with a bound: the only way tests wait."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_EVERY_S = 0.02


def eventually(check: Callable[[], T], *, within_s: float = 10.0, every_s: float = _EVERY_S) -> T:
    """Call `check` until it returns something true and raises no `AssertionError`; return that.

    Any other exception is a bug and passes at once. The last call happens at the bound or after it, so that a slow
    `check` is never judged by a stale answer.

    Raises:
        AssertionError: the bound passed; it carries the last answer or the last failed assertion.
    """
    deadline = time.monotonic() + within_s
    while True:
        last_try = time.monotonic() >= deadline
        try:
            answer = check()
        except AssertionError as error:
            failed: AssertionError | None = error
        else:
            if answer:
                return answer
            failed = None
        if last_try:
            raise AssertionError(_message(within_s, failed, None if failed else answer)) from failed
        time.sleep(every_s)


async def eventually_async(
    check: Callable[[], T | Awaitable[T]], *, within_s: float = 10.0, every_s: float = _EVERY_S
) -> T:
    """Do the same inside an event loop; `check` may be a plain function or a coroutine function.

    Raises:
        AssertionError: as in `eventually`.
    """
    deadline = time.monotonic() + within_s
    while True:
        last_try = time.monotonic() >= deadline
        try:
            made = check()
            answer: T = await made if inspect.isawaitable(made) else made
        except AssertionError as error:
            failed: AssertionError | None = error
        else:
            if answer:
                return answer
            failed = None
        if last_try:
            raise AssertionError(_message(within_s, failed, None if failed else answer)) from failed
        await asyncio.sleep(every_s)


def _message(within_s: float, failed: AssertionError | None, answer: object) -> str:
    return f"not within {within_s} s: {failed if failed is not None else f'last answer was {answer!r}'}"
