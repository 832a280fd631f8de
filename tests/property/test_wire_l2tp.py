"""L2TP codec and conversation against whatever may come: only `WireError` leaves, and what is written can be read."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.model.observation import Outcome
from popctl.wire.errors import WireError
from popctl.wire.l2tp import Avp, AvpType, ControlMessage, decode, encode, hide, reveal
from tests.unit.wire.conversations import Conversation, recorded

RECORDED = tuple(recorded("l2tp.json").values())
many = settings(max_examples=5000, deadline=None)
some = settings(max_examples=300, deadline=None)

u8, u16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
avps = st.builds(Avp, u16, st.binary(max_size=60), st.booleans(), st.booleans(), u16)
types = st.builds(lambda kind: Avp(0, kind.to_bytes(2, "big")), u16)
messages = st.builds(
    ControlMessage,
    u16,
    u16,
    u16,
    u16,
    st.just(()) | st.builds(lambda kind, rest: (kind, *rest), types, st.lists(avps, max_size=8)),
)


@many
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"\xc8\x02" + rest))
def test_garbage_raises_nothing_but_wire_error(garbage: bytes) -> None:
    framed = garbage[:2] + struct.pack(">H", len(garbage)) + garbage[4:]
    for datagram in (garbage, framed):
        try:
            reveal(decode(datagram).avps, b"secret")
        except WireError as error:
            assert len(error.found) <= 64  # noqa: PT017 - the error itself is under test


@many
@given(st.sampled_from(RECORDED), st.data())
def test_damaged_answers_raise_nothing_but_wire_error_and_pass_only_for_our_tunnel(
    it: Conversation, data: st.DataObject
) -> None:
    exchange = it.exchange()
    for honest in it.received:
        datagram = bytearray(honest)
        for _ in range(data.draw(st.integers(0, 3))):
            datagram[data.draw(st.integers(0, len(datagram) - 1))] = data.draw(u8)
        try:
            verdict = exchange.receive(bytes(datagram)).verdict
        except WireError:
            continue
        if verdict is not None and verdict.outcome is Outcome.PASS:
            assert datagram[2:8] == honest[2:8]


@some
@given(messages)
def test_messages_survive_the_wire(message: ControlMessage) -> None:
    assert decode(encode(message)) == message


@some
@given(
    st.binary(max_size=100),
    st.binary(min_size=1, max_size=20),
    st.binary(min_size=1, max_size=20),
    st.binary(max_size=9),
)
def test_hidden_values_come_out_again(value: bytes, secret: bytes, vector: bytes, padding: bytes) -> None:
    avp = Avp(AvpType.HOST_NAME, value)
    assert reveal((Avp(AvpType.RANDOM_VECTOR, vector), hide(avp, secret, vector, padding)), secret)[-1] == avp
