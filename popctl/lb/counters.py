"""Reads the balancer's counters from the kernel. Reading changes nothing and takes no lock of the hand's."""

from __future__ import annotations

import asyncio
import contextlib

from popctl.lb.balancer import KernelError
from popctl.lb.libnft import listing_of
from popctl.wire.nft import TABLE
from popctl.wire.nft_counters import Counters, parse_counters

_TIMEOUT_S = 10.0


async def read_counters(*, netns: str | None = None) -> Counters:
    """Return all counters; none when there is no table of ours.

    Raises:
        KernelError: nft does not answer.
        WireError: it answers something else.
    """
    prefix = ("ip", "netns", "exec", netns) if netns else ()
    listings = [await _list(*prefix, "nft", "-j", "list", "counters", "table", f, TABLE) for f in ("inet", "ip", "ip6")]
    return parse_counters(text for text in listings if text)


def read_counters_here() -> Counters:
    """Return all counters of this host; blocks for about 30 ms, for a caller with a thread of its own.

    Raises:
        KernelError: nft does not answer.
        WireError: it answers something else.
    """
    listings = [listing_of(["list", "counters", "table", family, TABLE]) for family in ("inet", "ip", "ip6")]
    return parse_counters(text for text in listings if text)


async def _list(*words: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise KernelError("nft", str(error)) from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await process.communicate()
    except TimeoutError as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise KernelError("nft", "no answer") from error
    if process.returncode != 0:
        if b"No such file" in err:
            return ""
        raise KernelError("nft list counters", err.decode(errors="replace"))
    return out.decode(errors="replace")
