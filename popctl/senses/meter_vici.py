"""The IKE daemon's load over VICI: a held connection, a time limit on every question, reconnected after any trouble."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from popctl.model.load import Share, TrafficClasses
from popctl.model.meter import Ike, IkeCounters, SaBytes, Unread
from popctl.senses import meter_rates
from popctl.senses.meter_failure import unread
from popctl.senses.meter_rates import FIRST, Before
from popctl.vici.connection import Connection, connect
from popctl.wire import vici_meter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from popctl.model.instant import Instant
    from popctl.model.pop import ViciEndpoint

_WALK_EVERY_S: Final = 30.0
_WALK_SHARE: Final = 50.0
"""The SAs are walked for at most one part in so many of the time: 10,000 of them take more than a second of CPU."""


class ViciMeter:
    """Counts SAs, handshakes and rekeys; walks the SAs now and then for child SAs and traffic classes."""

    def __init__(
        self,
        endpoint: ViciEndpoint,
        *,
        clock: Callable[[], Instant],
        timeout_s: float = 1.0,
        walk_timeout_s: float = 10.0,
        bulk_bit_s: float = 5e6,
    ) -> None:
        """Prepare; connects with the first question. A session that moves `bulk_bit_s` or more is bulk."""
        self._endpoint = endpoint
        self._clock = clock
        self._timeout_s = timeout_s
        self._walk_timeout_s = walk_timeout_s
        self._bulk_bit_s = bulk_bit_s
        self._connection: Connection | None = None
        self._before: Before[IkeCounters] = Before()
        self._walked: Before[dict[str, SaBytes]] = Before()
        self.children: int | None = None
        """Child SAs at the last walk."""
        self.classes: TrafficClasses | None = None
        """Between the last two walks."""
        self.refused: int | None = None
        """IKE messages for SAs that charon does not have, since it started; None: not told."""
        self.walk_problem: Unread | None = None
        """Why the last walk failed, if it did."""

    async def read(self) -> Ike | Unread:
        """Return what charon holds, and what it did since the last call."""
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connected()
                stats = await connection.ask("stats")
                counted = await connection.ask("get-counters")
                pools = await connection.ask("get-pools")
            counters = vici_meter.counters(stats, counted, pools)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever is raised says that nothing was read
            self._forget()
            self.refused = None
            return unread(error)
        self.refused = counters.invalid_spi
        before = self._before.swap(self._clock(), counters)
        return FIRST if before is None else meter_rates.ike(counters, before[1], before[0], self.children)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = await connect(self._endpoint)
        return self._connection

    def _forget(self) -> None:
        self.close()
        self._before.forget()

    async def walk(self) -> float:
        """Go through all SAs on a connection of its own; return how many seconds to let charon, and us, rest then.

        An SA that is busy is left out rather than waited for. What fails leaves `children` and `classes` unknown.
        """
        begin = self._clock()
        try:
            async with asyncio.timeout(self._walk_timeout_s):
                found = await self._all_sas()
        except Exception as error:  # noqa: BLE001 - as above
            self.walk_problem = unread(error)
            self.children = self.classes = None
            self._walked.forget()
            return _WALK_EVERY_S
        now = self._clock()
        self.walk_problem = None
        self.children = sum(sa.children for sa in found.values())
        before = self._walked.swap(now, found)
        if before is not None:
            self.classes = classes(found, before[1], before[0], self._bulk_bit_s)
        return max(_WALK_EVERY_S, _WALK_SHARE * (now - begin))

    async def _all_sas(self) -> dict[str, SaBytes]:
        connection = await connect(self._endpoint)
        try:
            found: dict[str, SaBytes] = {}
            async with aclosing(connection.stream("list-sas", "list-sa", {"noblock": "yes"})) as events:
                async for body in events:
                    found.update(vici_meter.sa_bytes(body))
            return found
        finally:
            connection.close()


def classes(
    after: Mapping[str, SaBytes], before: Mapping[str, SaBytes], gap_s: float, bulk_bit_s: float
) -> TrafficClasses:
    """Sort the sessions of two walks by what they moved between them."""
    sessions = {"bulk": 0, "interactive": 0}
    moved = {"bulk": 0.0, "interactive": 0.0}
    for name, sa in after.items():
        earlier = before[name].bytes if name in before else 0
        # A rekeyed child SA counts from 0 again.
        count = sa.bytes - earlier if sa.bytes >= earlier else sa.bytes
        bit_s = 8 * count / gap_s
        kind = "bulk" if bit_s >= bulk_bit_s else "interactive"
        sessions[kind] += 1
        moved[kind] += bit_s
    return TrafficClasses(
        interactive=Share(sessions=sessions["interactive"], bit_s=moved["interactive"]),
        bulk=Share(sessions=sessions["bulk"], bit_s=moved["bulk"]),
    )
