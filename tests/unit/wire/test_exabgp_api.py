"""ExaBGP's text API, on lines that ExaBGP 5.0.15 wrote."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from popctl.model.route import GRACEFUL_SHUTDOWN, Community, Family, LargeCommunity, Route, RouteKey
from popctl.wire import exabgp_api
from popctl.wire.errors import WireError
from popctl.wire.exabgp_api import EndOfRib, Other, Sent, SessionDown, SessionUp, Shutdown

DATA = Path(__file__).parents[2] / "data" / "exabgp"
ROUTER4, ROUTER6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")
EDGE4 = ip_address("192.0.2.10")
DRESSED = Route(
    prefix=ip_network("198.51.100.0/24"),
    next_hop=EDGE4,
    as_path=(65010, 65010, 65010),
    med=50,
    communities=(Community(65000, 77), GRACEFUL_SHUTDOWN),
    large_communities=(LargeCommunity(65010, 1, 2), LargeCommunity(65010, 1, 3)),
)


def captured(name: str) -> list[str]:
    return (DATA / name).read_text().splitlines()


def test_a_fully_dressed_route_becomes_one_line() -> None:
    assert exabgp_api.announce(ROUTER4, DRESSED) == (
        "neighbor 192.0.2.1 announce route 198.51.100.0/24 next-hop 192.0.2.10 as-path [ 65010 65010 65010 ] med 50 "
        "community [ 65000:77 65535:0 ] large-community [ 65010:1:2 65010:1:3 ]"
    )


def test_a_plain_route_a_withdraw_and_a_teardown_say_no_more_than_needed() -> None:
    plain = Route(prefix=DRESSED.prefix, next_hop=EDGE4, local_preference=50)
    assert exabgp_api.announce(ROUTER4, plain).endswith("next-hop 192.0.2.10 local-preference 50")
    withdraw = exabgp_api.withdraw(ROUTER4, DRESSED.prefix, EDGE4)
    assert withdraw == "neighbor 192.0.2.1 withdraw route 198.51.100.0/24 next-hop 192.0.2.10"
    assert exabgp_api.teardown(ROUTER6) == "neighbor 2001:db8::1 teardown 2"


def test_an_address_with_a_scope_that_breaks_the_line_is_refused() -> None:
    """Python accepts any text after the `%` of an IPv6 address."""
    with pytest.raises(WireError):
        exabgp_api.teardown(ip_address("fe80::1%eth0\nneighbor * announce"))


def test_captured_events_read_as_the_life_of_two_sessions() -> None:
    events = [exabgp_api.event(line) for line in captured("events.jsonl")]
    ups = [event.neighbor for event in events if isinstance(event, SessionUp)]
    downs = [event for event in events if isinstance(event, SessionDown)]
    markers = {(event.neighbor, event.family) for event in events if isinstance(event, EndOfRib)}
    assert ups.count(ROUTER4) == ups.count(ROUTER6) == 2
    assert {down.neighbor for down in downs} == {ROUTER4, ROUTER6}
    assert all(down.reason for down in downs)
    assert markers == {
        (ROUTER4, Family.IPV4_UNICAST),
        (ROUTER4, Family.IPV6_UNICAST),
        (ROUTER6, Family.IPV6_UNICAST),
    }
    assert Other(kind="state") in events, "`connected` is not `up`"


def test_captured_echoes_carry_the_routes_as_sent() -> None:
    sent = [event for line in captured("events.jsonl") if isinstance(event := exabgp_api.event(line), Sent)]
    assert sent[0] == Sent(neighbor=ROUTER4, announced=(DRESSED,))
    assert sent[-1] == Sent(neighbor=ROUTER4, withdrawn=(DRESSED.prefix,))
    grouped = [event for event in sent if len(event.announced) > 1]
    assert [str(route.prefix) for route in grouped[0].announced] == [
        "198.51.101.0/24",
        "198.51.102.0/24",
        "198.51.103.0/24",
    ], "one UPDATE can carry several prefixes"


def test_captured_rib_lines_carry_the_routes_as_ordered() -> None:
    table = dict(exabgp_api.rib_line(line) for line in captured("adj_rib_out_v2.jsonl"))
    assert table[RouteKey(ROUTER4, DRESSED.prefix)] == DRESSED
    plain = table[RouteKey(ROUTER4, ip_network("198.51.101.0/24"))]
    assert (plain.as_path, plain.local_preference) == ((), 50), "defaults are not filled in here"
    assert len(table) == 5


def test_a_session_is_judged_by_its_fsm_because_the_field_state_stays_down() -> None:
    (line,) = captured("show_neighbor.jsonl")
    assert '"state": "down"' in line
    states = exabgp_api.neighbors([line])
    assert all(state.established for state in states.values())
    assert states[ROUTER6].families == {Family.IPV6_UNICAST}
    assert states[ROUTER4].families == set(Family)


def test_the_shutdown_notice_is_recognised() -> None:
    assert exabgp_api.event('{ "exabgp": "5.0.0", "type": "notification", "notification": "shutdown" }') == Shutdown()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "done",
        "[]",
        "{}",
        '{"type": "state"}',
        '{"type": "state", "neighbor": {"address": {"peer": "router"}, "state": "up"}}',
        '{"type": "update", "neighbor": {"address": {"peer": "192.0.2.1"}, "direction": "send", "message": {}}}',
        "[" * 100_000,
    ],
)
def test_what_is_not_an_event_raises_wire_error(line: str) -> None:
    with pytest.raises(WireError):
        exabgp_api.event(line)


def test_an_as_set_is_refused_because_nobody_here_announces_one() -> None:
    with pytest.raises(WireError):
        exabgp_api.route_of("198.51.100.0/24", "192.0.2.10", {"as-path": {"0": {"element": "as-set", "value": [1]}}})
