"""The one place that turns a prober's failure into data.

Probes that are conversations of datagrams run without a task of their own, in `popctl.senses.udp`; its one `except`
uses the same table, `popctl.senses.failure`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from popctl.model.reason import Reason
from popctl.senses.failure import result_of, timed_out
from popctl.senses.prober import unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.model.instant import Instant
    from popctl.senses.prober import Probers, Result, Target


async def run_probe(probers: Probers, target: Target, *, deadline: Instant, clock: Callable[[], Instant]) -> Result:
    """Run one probe until `deadline` at the latest; only cancellation leaves it as an exception."""
    prober = probers.get(type(target.method))
    if prober is None:
        return unknown(Reason.PROBE_ERROR, f"no prober for {type(target.method).__name__}")
    noticed_at = deadline

    def notice() -> None:
        nonlocal noticed_at
        noticed_at = clock()

    # Beside the limit, because the limit is heard of only after the prober has cleaned up, which may take its time.
    alarm = asyncio.get_running_loop().call_later(deadline - clock(), notice)
    try:
        async with asyncio.timeout(deadline - clock()) as limit:
            return await prober.run(target, deadline=deadline)
    except TimeoutError as error:
        # The prober's own TimeoutError is an ETIMEDOUT of the kernel, or a bug of the prober.
        return timed_out(late_s=noticed_at - deadline) if limit.expired() else result_of(error)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a prober raises says nothing about the backend
        return result_of(error)
    finally:
        alarm.cancel()
