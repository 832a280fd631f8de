"""Taking our balancer off a host: our tables, rules and routes, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

from popctl.lb.libnft import Nft
from popctl.lb.namespace import enter
from popctl.lb.route import Routes, Routing
from popctl.lb.watch import Watch
from popctl.model.balancer import Marks
from popctl.wire.nft import TABLE

_FAMILIES = ("inet", "ip", "ip6")


def remove(places: Iterable[Marks], *, tables: bool, netns: str | None = None) -> int:
    """Remove rules and routes at `places`, and with `tables` what is in nftables, which goes first. Blocks.

    Returns how much there was to remove: transactions, rules and routes.

    Raises:
        KernelError: something is left.
        OSError: there is no such namespace.
    """
    work = partial(_remove, tuple(places), tables=tables)
    return _in_namespace(netns, work) if netns else work()


def _in_namespace(netns: str, work: Callable[[], int]) -> int:
    with ThreadPoolExecutor(1, "remove", partial(enter, netns)) as worker:
        return worker.submit(work).result()


def _remove(places: tuple[Marks, ...], *, tables: bool) -> int:
    removed = 0
    if tables:
        with closing(Watch(TABLE)) as watch, closing(Nft()) as nft:
            found = [family for family, seen in watch.bones(_FAMILIES).items() if seen is not None]
            if found:
                nft.apply("".join(f"delete table {family} {TABLE}\n" for family in found))
                removed += 1
    with closing(Routes()) as routes:
        for marks in places:
            seen = routes.read(marks, Routing())
            removed += routes.apply(marks, Routing(), seen)
    return removed
