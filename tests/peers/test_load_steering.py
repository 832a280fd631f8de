"""A ramp of load at one PoP, with and without room at the other: what routers, agents and etcd have then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from popctl.wire.errors import WireError
from tests.eventually import eventually_async
from tests.peers.load_site import Site, Sites, raised

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer


async def all_announced(sites: Sites) -> None:
    await eventually_async(lambda: all(one.route() for one in sites.sites.values()), within_s=30.0)


async def stands(site: Site, level: int, reason: str) -> bool:
    return await site.load() == (level, reason)


async def answers(site: Site) -> bool:
    try:
        return (await site.status()).inherited
    except (OSError, WireError):
        return False


async def carries(site: Site, full: float) -> bool:
    found = (await site.status()).load
    return found is not None and found.full is not None and abs(found.full - full) < 0.05


async def test_a_ramp_with_room_next_door_moves_users_there_and_back(tmp_path: Path) -> None:
    async with raised(tmp_path, room=200.0) as sites:
        first, second = sites.sites["ams"], sites.sites["fra"]
        await all_announced(sites)
        quiet = second.heard()
        for ramp in (0.5, 0.8):
            sites.ramp = ramp
            await eventually_async(lambda full=ramp: carries(first, full), within_s=30.0)
        assert (await first.load(), first.depreferred()) == ((0, ""), False)
        sites.ramp = 1.0
        await eventually_async(first.depreferred, within_s=30.0)
        await eventually_async(lambda: stands(first, 1, "not-cool-enough"), within_s=30.0)
        record = sites.records()["ams"]
        assert (record["load"]["level"], record["load"]["capacity"]) == (1, {"sessions": 100.0})
        told = first.heard()
        first.agent.kill()
        first.agent.start()
        await eventually_async(lambda: answers(first), within_s=30.0)
        await eventually_async(lambda: stands(first, 1, "not-cool-enough"), within_s=30.0)
        assert (first.heard(), first.depreferred()) == (told, True), "a restart is seen by no router"
        sites.ramp = 0.3
        await eventually_async(lambda: first.route() and not first.depreferred(), within_s=30.0)
        await eventually_async(lambda: stands(first, 0, ""), within_s=30.0)
        assert second.heard() == quiet, "the one that has room tells its router nothing"
        assert first.heard() == 3, "the announce, one step, and back"


async def test_a_ramp_without_room_next_door_moves_nothing_and_says_so(tmp_path: Path) -> None:
    async with raised(tmp_path, room=55.0) as sites:
        first = sites.sites["ams"]
        await all_announced(sites)
        told = first.heard()
        sites.ramp = 1.0
        await eventually_async(lambda: stands(first, 0, "no-room"), within_s=30.0)
        status = await first.status()
        assert [(one.announce, one.reason) for one in status.services] == [("normal", "no-room")]
        assert first.heard() == told
