"""The JSON of the operator API: what is encoded is decoded, and garbage raises only `WireError`."""

from __future__ import annotations

import json
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popctl.model.observation import IntentKind
from popctl.wire.agent_api import Check, Intents, OrderReply, Problem, Status, WhoAmI, Why, decode, encode
from popctl.wire.agent_order import MAX_DRAIN_S, MAX_EXPIRY_S, Order, OrderError, decode_end, decode_order, encode_order
from popctl.wire.audit_api import AuditTail, tail
from popctl.wire.errors import WireError

T = TypeVar("T")

# Any text but lone surrogates, which JSON cannot carry in UTF-8, and any finite number.
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long a whole status takes to think up on a busy machine says nothing about the codec."""
KINDS = (Status, Why, Intents, OrderReply, Check, WhoAmI, AuditTail, Problem)

names = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=20)
reasons = names
orders = st.one_of(
    st.builds(
        Order,
        kind=st.just(IntentKind.WITHDRAW),
        target=names,
        reason=reasons,
        drain_s=st.floats(min_value=0.0, max_value=MAX_DRAIN_S),
        refuse_if_held=st.booleans(),
    ),
    st.builds(Order, kind=st.just(IntentKind.DRAIN), target=names, reason=reasons, force=st.booleans()),
)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(PATIENT, max_examples=30)
@given(data=st.data())
def test_answer_comes_back_as_it_was(kind: type[T], data: st.DataObject) -> None:
    value = data.draw(st.from_type(kind))
    assert decode(encode(value), kind) == value


@pytest.mark.parametrize("kind", KINDS)
@given(body=st.binary(max_size=100) | anything.map(lambda value: json.dumps(value).encode()))
def test_garbage_raises_only_wire_error_from_an_answer(kind: type[T], body: bytes) -> None:
    try:
        decode(body, kind)
    except WireError:
        return


@given(data=st.data())
@settings(PATIENT, max_examples=200)
def test_damaged_answer_raises_only_wire_error_or_is_read(data: st.DataObject) -> None:
    """Right keys with wrong values go deepest into the decoder."""
    good = json.loads(encode(data.draw(st.from_type(Status))))
    key = data.draw(st.sampled_from(sorted(good)))
    good[key] = data.draw(anything)
    try:
        decode(json.dumps(good).encode(), Status)
    except WireError:
        return


@given(orders)
def test_order_comes_back_as_it_was(order: Order) -> None:
    assert decode_order(encode_order(order)) == order


@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_refused_as_an_order_with_at_least_one_remedy(body: bytes) -> None:
    with pytest.raises(OrderError) as caught:
        decode_order(body)
    assert caught.value.problems
    assert all(problem.remedy for problem in caught.value.problems)


@given(orders, st.sampled_from(("kind", "target", "reason", "drain_s", "force", "refuse_if_held", "extra")), anything)
def test_order_with_one_strange_value_is_refused_for_that_key_or_read(order: Order, key: str, value: object) -> None:
    body = json.loads(encode_order(order)) | {key: value}
    allowed = {key, json.dumps(key)} | ({"then", "refuse_if_held"} if key in ("kind", "drain_s") else set())
    assert set(_complained_of(json.dumps(body).encode())) <= allowed


def _complained_of(body: bytes) -> tuple[str, ...]:
    try:
        decode_order(body)
    except OrderError as error:
        return tuple(problem.key for problem in error.problems)
    return ()


@given(st.lists(st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()), max_size=5))
def test_whatever_stands_in_the_audit_file_is_told_or_counted(lines: list[bytes]) -> None:
    found = tail(lines)
    assert len(found.lines) + found.unreadable == len(lines)
    assert decode(encode(found), AuditTail) == found


def test_thousands_of_wrong_keys_do_not_become_an_answer_of_megabytes() -> None:
    body = json.dumps({f"k{number}": 1 for number in range(6000)}).encode()
    with pytest.raises(OrderError) as caught:
        decode_order(body)
    assert len(caught.value.problems) == 20


def test_answer_of_a_newer_agent_is_read_without_what_is_not_known() -> None:
    body = json.dumps({"healthy": True, "turning": True, "connected": True, "turned_s": 0.1, "later": [1]}).encode()
    assert decode(body, Check) == Check(healthy=True, turning=True, connected=True, turned_s=0.1)


@given(written=st.lists(st.text(max_size=20) | anything.map(json.dumps), max_size=2))
def test_garbage_raises_only_order_error_from_an_end(written: list[str]) -> None:
    try:
        found = decode_end(written)
    except OrderError:
        return
    assert found is None if not written else 0.0 < float(str(found)) <= MAX_EXPIRY_S
