"""The second vendor: FRR accepts the session, the routes and the withdraw."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from popctl.model.route import GRACEFUL_SHUTDOWN, route_table
from tests.eventually import eventually, eventually_async
from tests.peers.bgp_edge import NOTHING, speaking
from tests.peers.exabgp import COMMUNITY, KEY4, KEY6, LARGE, ROUTE4, ROUTE6, ExaBgp, edge_and_router
from tests.peers.frr import Frr

pytestmark = pytest.mark.peer

PREFIX4, PREFIX6 = str(KEY4.prefix), str(KEY6.prefix)


async def test_frr_sees_every_attribute_the_withdraw_and_the_end_of_exabgp() -> None:
    dressed = replace(
        ROUTE4,
        med=50,
        as_path=(65010, 65010),
        communities=(COMMUNITY, GRACEFUL_SHUTDOWN),
        large_communities=(LARGE,),
    )
    with edge_and_router() as hosts, Frr(hosts.server) as frr, ExaBgp(hosts.client) as exabgp:
        async with speaking(exabgp.pop) as spoken:
            await spoken.inherited()
            await spoken.set_and_prove(route_table([(KEY4, dressed), (KEY6, ROUTE6)]))
            path = await eventually_async(lambda: frr.route(PREFIX4))
            assert path["aspath"]["string"] == "65010 65010"
            assert path["metric"] == 50
            assert path["community"]["list"] == ["65000:77", "gracefulShutdown"]
            assert path["largeCommunity"]["string"] == "65010:1:2"
            assert await eventually_async(lambda: frr.route(PREFIX6))
            await spoken.set_and_prove(route_table([(KEY6, ROUTE6)]))
            await eventually_async(lambda: not frr.route(PREFIX4))
            await spoken.set_and_prove(NOTHING)
            await eventually_async(lambda: not frr.route(PREFIX6))
            await spoken.set_and_prove(route_table([(KEY4, ROUTE4)]))
            await eventually_async(lambda: frr.route(PREFIX4))
        exabgp.signal_relay(signal.SIGSTOP)
        eventually(lambda: not frr.route(PREFIX4), within_s=2.5)
