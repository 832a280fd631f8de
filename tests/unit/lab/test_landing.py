"""The lab's own witness: who answered a question to the VIP."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.landing import ike_label, ike_question, l2tp_answer, l2tp_goodbye, l2tp_question

COOKIE = bytes.fromhex("0cb6dc5b110431bb")
# strongSwan 5.9.8 to a proposal that it does not accept, with spi_label 0xa001...
REFUSAL = bytes.fromhex(
    "0cb6dc5b110431bb a0014c8863055809 0b100500 8d81d374 00000038"
    "0000001c 00000001 0110000e 0cb6dc5b110431bb a0014c8863055809"
)


def sccrp(tunnel: int, name: bytes, peer_tunnel: int) -> bytes:
    body = b"".join(
        struct.pack(">HHH", 0x8000 | (6 + len(value)), 0, kind) + value
        for kind, value in [(0, b"\0\2"), (7, name), (9, struct.pack(">H", peer_tunnel))]
    )
    return struct.pack(">HHHHHH", 0xC802, 12 + len(body), tunnel, 0, 0, 1) + body


def test_the_ike_question_is_one_main_mode_message_with_a_true_length() -> None:
    question = ike_question(COOKIE)
    assert question[:8] == COOKIE
    assert question[8:16] == bytes(8)
    assert question[16:20] == bytes([1, 0x10, 2, 0])
    assert struct.unpack_from(">I", question, 24) == (len(question),)


def test_the_label_is_the_head_of_the_responder_cookie() -> None:
    assert ike_label(REFUSAL, COOKIE) == REFUSAL[8:12].hex()


@pytest.mark.parametrize("datagram", [b"", REFUSAL[:27], b"\1" + REFUSAL[1:], REFUSAL[:18] + b"\2" + REFUSAL[19:]])
def test_anything_but_the_refusal_of_our_question_is_no_landing(datagram: bytes) -> None:
    assert ike_label(datagram, COOKIE) is None


def test_the_server_says_its_name_in_sccrp() -> None:
    assert l2tp_answer(sccrp(5, b"pop1-b1", 77), 5) == ("pop1-b1", 77)
    assert l2tp_answer(sccrp(6, b"pop1-b1", 77), 5) is None


def test_question_and_goodbye_are_control_messages_with_true_lengths() -> None:
    for message in (l2tp_question(5), l2tp_goodbye(5, 77)):
        assert struct.unpack_from(">HH", message) == (0xC802, len(message))


@given(st.binary(max_size=200))
def test_garbage_is_never_a_landing_and_never_an_error(datagram: bytes) -> None:
    assert ike_label(datagram, COOKIE) is None
    assert l2tp_answer(datagram, 1) is None or datagram[4:6] == b"\0\1"
