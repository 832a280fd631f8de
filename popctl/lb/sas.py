"""The SAs of one backend over VICI: how many, how old, whose; what was refused; and the orderly end of all of them.

Nothing here waits for longer than its `within_s`, whatever charon, or what is there in its place, does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from popctl.model.missteer import ClientAt
from popctl.wire.spi import Identity
from popctl.wire.strongswan_conf import check
from popctl.wire.vici_values import number, section, text

if TYPE_CHECKING:
    from popctl.model.balancer import SpiPlan
    from popctl.model.pop import ViciEndpoint
    from popctl.vici.connection import Connection

ASK_S: Final = 3.0
LIST_S: Final = 10.0
"""charon needs about 0.1 ms for each SA that it lists."""
END_S: Final = 30.0
_NO_WAITING_MS: Final = "-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class SaCount:
    """What one look found."""

    ages_s: tuple[float, ...]
    """Of the established IKE SAs, as far as charon listed them."""
    busy: int = 0
    """IKE SAs that charon was at work on and so did not list: of an age, and in a state, that are not known."""


async def count(endpoint: ViciEndpoint, *, within_s: float = LIST_S) -> SaCount:
    """Count the established IKE SAs; half-open ones and probes come and go. None is missed.

    Raises:
        ViciError: no answer, or none that can be read.
    """
    async with _asking(endpoint, within_s) as charon:
        listed = await _listed(charon)
        # A list that waits for the busy ones waits behind whatever they wait for; the bare number does not. Asked for
        # last, it cannot be 0 while somebody is left.
        total = number(section(await charon.ask("stats"), "ikesas"), "total")
    ages_s = tuple(float(number(sa, "established", 0)) for sa in listed if _is_established(sa))
    return SaCount(ages_s=ages_s, busy=max(total - len(listed), 0))


async def end(endpoint: ViciEndpoint, *, within_s: float = END_S) -> int:
    """Tell every client that its SA ends (Delete, RFC 7296 section 1.4.1), so that it connects anew. Returns how many.

    One that charon is at work on is left out; whoever counts afterwards sees it.

    Raises:
        ViciError: no answer, or not for all: some may have been told.
    """
    async with _asking(endpoint, within_s) as charon:
        ids = [text(sa, "uniqueid") for sa in await _established(charon)]
        for each in ids:
            await charon.ask("terminate", {"ike-id": each, "timeout": _NO_WAITING_MS})
    return len(ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What all SAs of a backend show."""

    clients: tuple[ClientAt, ...]
    """With a child SA: a client that is still signing on has none."""
    label_problem: str
    """Why the backend labels as no plan in force says; empty when it does as one says, or has no SA."""


async def refused(endpoint: ViciEndpoint, *, within_s: float = ASK_S) -> int:
    """Return how many IKE messages came for SAs that this charon does not have, since it started.

    Raises:
        ViciError: no answer, or none that can be read.
    """
    async with _asking(endpoint, within_s) as charon:
        counters = section(await charon.ask("get-counters"), "counters")
        return number(section(counters, ""), "invalid-spi")


async def walk(
    endpoint: ViciEndpoint, backend: int, plans: tuple[SpiPlan, ...], pop: int, *, within_s: float = LIST_S
) -> Walk:
    """Look at all SAs. Costs charon about 0.1 ms each: not to be done all the time.

    Raises:
        ViciError: no answer, or none that can be read.
    """
    async with _asking(endpoint, within_s) as charon:
        sas = await _established(charon)
        clients = tuple(found for sa in sas if (found := _client(sa)) is not None)
        problems = check(plans, Identity(pop, backend), sas).problems if plans else ()
    return Walk(clients=clients, label_problem=str(problems[0]) if problems else "")


def _client(sa: Mapping[str, Any]) -> ClientAt | None:
    """Return whose SA it is. Raises `WireError`."""
    children = [one for one in sa.get("child-sas", {}).values() if one.get("state") == b"INSTALLED"]
    if not children:
        return None
    return ClientAt(
        address=text(sa, "remote-host"),
        port=number(sa, "remote-port", 0),
        received=any(number(one, "packets-in", 0) > 0 for one in children),
        answered=any(number(one, "packets-out", 0) > 0 for one in children),
    )


async def _listed(charon: Connection) -> list[Mapping[str, Any]]:
    async with aclosing(charon.sas()) as found:
        return [sa async for sa in found]


async def _established(charon: Connection) -> list[Mapping[str, Any]]:
    return [sa for sa in await _listed(charon) if _is_established(sa)]


def _is_established(sa: Mapping[str, Any]) -> bool:
    return bool(sa.get("state") == b"ESTABLISHED")


@asynccontextmanager
async def _asking(endpoint: ViciEndpoint, within_s: float) -> AsyncIterator[Connection]:
    from popctl.vici.connection import asking  # noqa: PLC0415 - a PoP that asks no charon need not hold it in memory

    async with asking(endpoint, within_s) as charon:
        yield charon
