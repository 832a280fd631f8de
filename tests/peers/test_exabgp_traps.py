"""The traps of ExaBGP's API: each exists when the relay is driven by hand, and does not catch the speaker."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from popctl.model.route import GRACEFUL_SHUTDOWN, RouteKey, route_table
from tests.eventually import eventually, eventually_async
from tests.peers.bgp_edge import NOTHING, edge, speaking
from tests.peers.exabgp import COMMUNITY, KEY4, KEY6, LARGE, ROUTE4, ROUTE6, RelayClient, greeted
from tests.pops import VIP4, VIP6

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.bgp_edge import Edge

pytestmark = pytest.mark.peer

ANNOUNCE = "neighbor 192.0.2.1 announce route 198.51.100.0/24 next-hop 192.0.2.10"
WITHDRAW = "neighbor 192.0.2.1 withdraw route 198.51.100.0/24 next-hop 192.0.2.10"
SHOW = "show adj-rib out json"
CHEAP, DEAR = replace(ROUTE4, med=1), replace(ROUTE4, med=2)


def test_done_comes_without_any_session_and_the_table_shows_only_the_intent() -> None:
    with edge() as e, greeted(e.exabgp.socket) as client:
        e.bird.kill()
        assert client.command(ANNOUNCE) == "done"
        client.order(SHOW)
        assert "198.51.100.0/24" in client.until("answer")["lines"][0]
        assert not [event for event in client.events if event["type"] == "update" and "announce" in str(event)]


def test_the_first_batch_of_a_session_drops_withdraws_so_that_the_route_stays_for_ever() -> None:
    with edge() as e, greeted(e.exabgp.socket) as client:
        e.bird.kill()
        eventually(lambda: _down_told(client))
        # With attributes: without any, both stand in one bucket and the withdraw replaces the announcement.
        assert [client.command(f"{ANNOUNCE} med 1"), client.command(WITHDRAW)] == ["done", "done"]
        client.order(SHOW)
        assert client.until("answer")["lines"] == [], "ExaBGP believes it is gone"
        e.bird.start()
        eventually(lambda: _renew(client) and e.bird.has(VIP4))
        assert e.bird.has(VIP4), "the router never heard of the withdraw"


async def test_announce_and_withdraw_just_before_a_session_leave_nothing_behind() -> None:
    with edge() as e:
        e.bird.kill()
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited(sessions=False)
            await eventually_async(lambda: not any(spoken.actual.sessions.values()))
            await spoken.set_and_prove(route_table([(KEY4, CHEAP)]))
            await spoken.set_and_prove(NOTHING)
            e.bird.start()
            await eventually_async(lambda: all(spoken.actual.sessions.values()))
            await eventually_async(lambda: spoken.proven(NOTHING) and not e.bird.has(VIP4))


def test_changes_to_and_fro_in_one_batch_leave_the_router_at_the_wrong_one() -> None:
    with edge() as e, greeted(e.exabgp.socket) as client:
        e.bird.kill()
        eventually(lambda: _down_told(client))
        for med in (1, 2, 1):
            assert client.command(f"{ANNOUNCE} med {med}") == "done"
        e.bird.start()
        eventually(lambda: _renew(client) and "BGP.med: 2" in e.bird.routes().get(str(VIP4), ""))
        client.order(SHOW)
        assert '"med": 1' in client.until("answer")["lines"][0], "ExaBGP believes the other"


async def test_changes_to_and_fro_around_a_new_session_end_at_the_last_one() -> None:
    with edge() as e:
        e.bird.kill()
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited(sessions=False)
            await eventually_async(lambda: not any(spoken.actual.sessions.values()))
            for route in (CHEAP, DEAR, CHEAP):
                await spoken.set_and_prove(route_table([(KEY4, route)]))
            e.bird.start()
            await eventually_async(lambda: "BGP.med: 1" in e.bird.routes().get(str(VIP4), ""))
            await eventually_async(lambda: all(spoken.actual.sessions.values()))
            await eventually_async(lambda: spoken.proven(route_table([(KEY4, CHEAP)])))
            assert "BGP.med: 1" in e.bird.routes()[str(VIP4)]


async def test_changes_to_and_fro_without_waiting_end_at_the_last_one() -> None:
    with edge() as e:
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited()
            for route in (CHEAP, DEAR, CHEAP, None, DEAR):
                await spoken.speaker.set(route_table([(KEY4, route)] if route else []))
            await eventually_async(lambda: spoken.proven(route_table([(KEY4, DEAR)])))
            await eventually_async(lambda: "BGP.med: 2" in e.bird.routes().get(str(VIP4), ""))


def test_after_a_lost_session_the_field_state_stays_down_for_ever(shared: Edge) -> None:
    with greeted(shared.exabgp.socket) as client:
        eventually(lambda: _renew(client) and shared.bird.established())
        before = shared.bird.imports().since
        shared.bird.ask("restart edge4")
        eventually(lambda: _renew(client) and shared.bird.imports().since != before)
        eventually(lambda: _renew(client) and _neighbor(client)["fsm"] == "ESTABLISHED")
        assert _neighbor(client)["state"] == "down"


def test_a_family_that_was_not_negotiated_has_no_echo(shared: Edge) -> None:
    """The router's `edge4` speaks IPv4 alone."""
    with greeted(shared.exabgp.socket) as client:
        eventually(lambda: _renew(client) and shared.bird.established())
        for verb in ("announce", "withdraw"):
            line = f"neighbor 192.0.2.1 {verb} route 2001:db8:100::/48 next-hop 2001:db8::10"
            assert client.command(line) == "done"
        # What comes after it has one, and so it is not that the echoes are late.
        for line, verb in ((ANNOUNCE, "announce"), (WITHDRAW, "withdraw")):
            assert client.command(line) == "done"
            eventually(lambda verb=verb: _renew(client) and _echoed(client, "198.51.100.0/24", verb))  # type: ignore[misc]
        assert not _echoed(client, "2001:db8:100::/48", "announce")
        assert not _echoed(client, "2001:db8:100::/48", "withdraw")


async def test_a_route_of_a_family_that_the_router_does_not_speak_is_alarmed_and_costs_no_session() -> None:
    key = RouteKey(KEY4.neighbor, VIP6)
    with edge() as e:
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited()
            await spoken.set_and_prove(route_table([(KEY4, ROUTE4)]))
            before = e.bird.imports()
            await spoken.speaker.set(route_table([(KEY4, ROUTE4), (key, ROUTE6)]))
            await eventually_async(lambda: key in spoken.actual.failed)
            await spoken.set_and_prove(route_table([(KEY4, ROUTE4)]))
            assert e.bird.imports() == before


async def test_every_attribute_arrives_at_the_router_over_both_families() -> None:
    dressed = {
        "med": 50,
        "as_path": (65010, 65010, 65010),
        "communities": (COMMUNITY, GRACEFUL_SHUTDOWN),
        "large_communities": (LARGE,),
    }
    routes = route_table([(KEY4, replace(ROUTE4, **dressed)), (KEY6, replace(ROUTE6, **dressed))])
    with edge() as e:
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited()
            await spoken.set_and_prove(routes)
            await eventually_async(lambda: len(e.bird.routes()) == len(routes))
            for prefix, next_hop in ((VIP4, "192.0.2.10"), (VIP6, "2001:db8::10")):
                text = e.bird.routes()[str(prefix)]
                assert "BGP.as_path: 65010 65010 65010\n" in text
                assert "BGP.med: 50\n" in text
                assert "BGP.community: (65000,77) (65535,0)\n" in text
                assert "BGP.large_community: (65010, 1, 2)\n" in text
                assert f"BGP.next_hop: {next_hop}" in text


@pytest.mark.parametrize(
    "line",
    [
        "neighbor 192.0.2.1 announce route 203.0.113.0/24 next-hop 192.0.2.10",
        "neighbor 192.0.2.1 announce route 198.51.100.0/25 next-hop 192.0.2.10",
        "neighbor 192.0.2.1 announce route 198.51.100.0/24 next-hop 192.0.2.66",
        "neighbor 192.0.2.1 announce route 198.51.100.0/24 next-hop self",
        "neighbor 192.0.2.1 announce route 198.51.100.0/24 next-hop 192.0.2.10 community [ 65000:1 ]",
        "neighbor 192.0.2.1 announce route 198.51.100.0/24 next-hop 192.0.2.10 as-path [ 65010 64999 ]",
        "neighbor * announce route 198.51.100.0/24 next-hop 192.0.2.10",
        "announce route 198.51.100.0/24 next-hop 192.0.2.10",
        f"{ANNOUNCE}\nneighbor 192.0.2.1 announce route 203.0.113.0/24 next-hop 192.0.2.10",
        "clear adj-rib out",
        "announce watchdog popctl",
        "shutdown",
    ],
)
def test_the_relay_sends_nothing_outside_the_allowlist_even_for_an_agent_gone_mad(shared: Edge, line: str) -> None:
    with greeted(shared.exabgp.socket) as client:
        assert client.command(line) == "refused"
        client.order(SHOW)
        assert client.until("answer")["lines"] == []
    assert shared.exabgp.alive


@pytest.fixture(scope="module")
def shared() -> Iterator[Edge]:
    """Return one edge for tests that leave no trace."""
    with edge() as e:
        yield e


def _neighbor(client: RelayClient) -> dict[str, Any]:
    """What `show neighbor json` tells of the IPv4 session."""
    client.order("show neighbor json")
    listed = json.loads("".join(client.until("answer")["lines"]))
    found: dict[str, Any] = next(one for one in listed if one["peer"]["address"] == "192.0.2.1")
    return found


def _echoed(client: RelayClient, prefix: str, verb: str) -> bool:
    """Whether the IPv4 session has echoed an UPDATE about `prefix`."""
    updates = [
        event["neighbor"]["message"].get("update", {})
        for event in client.events
        if event["type"] == "update" and event["neighbor"]["address"]["peer"] == "192.0.2.1"
    ]
    return any(prefix in json.dumps(update.get(verb, {})) for update in updates)


def _down_told(client: RelayClient) -> bool:
    """Whether both sessions are known to be down, renewing meanwhile."""
    client.order("show neighbor json")
    answer = client.until("answer")
    _renew(client)
    return "ESTABLISHED" not in "".join(answer["lines"])


def _renew(client: RelayClient) -> bool:
    client.send(op="renew")
    return client.until("renewed") != {}
