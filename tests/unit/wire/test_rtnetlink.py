"""rtnetlink: what is written is read back, garbage raises only `WireError`. The kernel has its say in tests/peers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.wire.errors import WireError
from popctl.wire.rtnetlink import Answer, Kind, Route, RouteType, Rule, messages, route, rule

words = st.integers(1, 0xFFFFFFFF)
v4 = st.builds(Route, version=st.just(4), table=words, type=st.just(RouteType.UNICAST), gateway=st.ip_addresses(v=4))
v6 = st.builds(Route, version=st.just(6), table=words, type=st.just(RouteType.UNICAST), gateway=st.ip_addresses(v=6))
holes = st.builds(
    Route, version=st.sampled_from([4, 6]), table=words, type=st.just(6), gateway=st.none(), priority=words
)
rules = st.builds(Rule, version=st.sampled_from([4, 6]), priority=words, mark=words, mask=words, table=words)


@given(v4 | v6 | holes)
def test_a_route_comes_back_as_it_was(one: Route) -> None:
    assert list(messages(route(Kind.NEW_ROUTE, one))) == [one]


@given(rules)
def test_a_rule_comes_back_as_it_was(one: Rule) -> None:
    assert list(messages(rule(Kind.NEW_RULE, one))) == [one]


@given(st.binary(max_size=200))
def test_garbage_raises_only_wire_error(datagram: bytes) -> None:
    try:
        list(messages(datagram))
    except WireError:
        return


@given(v4 | v6, st.data())
def test_a_damaged_message_raises_only_wire_error(one: Route, data: st.DataObject) -> None:
    good = bytearray(route(Kind.NEW_ROUTE, one))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(messages(bytes(good)))
    except WireError:
        return


@pytest.mark.parametrize(
    ("datagram", "found"),
    [
        ("24000000020000000100000000000000" + "9cffffff" + "00" * 16, Answer(100)),
        ("14000000030002000100000000000000" + "00000000", Answer(0)),
        ("20000000140002000100000000000000" + "0218000001000000" + "08000100" + "c0000201", IPv4Address("192.0.2.1")),
        (
            "2c000000140002000100000000000000" + "0a40000001000000" + "14000100" + "20010db8" + "00" * 11 + "01",
            IPv6Address("2001:db8::1"),
        ),
    ],
)
def test_answers_and_addresses_are_read(datagram: str, found: object) -> None:
    assert list(messages(bytes.fromhex(datagram))) == [found]
