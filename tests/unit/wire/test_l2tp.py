"""L2TP control messages: captured bytes, hidden AVPs, tunnel authentication."""

from __future__ import annotations

import hashlib

import pytest

from popctl.wire.errors import WireError
from popctl.wire.l2tp import (
    AVPS_MOST,
    Avp,
    AvpType,
    ControlMessage,
    MessageType,
    challenge_response,
    decode,
    encode,
    hide,
    reveal,
)
from tests.unit.wire.conversations import recorded

SCCRP = recorded("l2tp.json")["open"].received[0]
SECRET, VECTOR = b"tunnel secret", b"0123456789abcdef"


def message(*avps: Avp) -> ControlMessage:
    return ControlMessage(1, 0, 0, 0, (Avp(0, b"\0\2"), *avps))


def test_an_answer_of_xl2tpd_is_read_as_what_it_is() -> None:
    answer = decode(SCCRP)
    assert (answer.type, answer.ns, answer.nr, answer.session_id) == (MessageType.SCCRP, 0, 1, 0)
    assert answer.get(AvpType.VENDOR_NAME) == b"xelerance.com"
    assert answer.get(AvpType.RECEIVE_WINDOW_SIZE) == b"\0\4"
    assert answer.get(AvpType.CHALLENGE) is None
    assert encode(answer) == SCCRP


def test_a_bare_acknowledgement_has_no_type() -> None:
    acknowledgement = bytes.fromhex("c802 000c 27c3 0000 0001 0002")
    assert decode(acknowledgement) == ControlMessage(0x27C3, 0, 1, 2)
    assert decode(acknowledgement).type is None
    assert encode(decode(acknowledgement)) == acknowledgement


def test_every_truncation_and_a_tail_are_errors() -> None:
    for damaged in (*(SCCRP[:length] for length in range(len(SCCRP))), SCCRP + b"\0"):
        with pytest.raises(WireError):
            decode(damaged)


def test_a_truncation_that_owns_up_to_its_length_is_still_an_error_inside_an_avp() -> None:
    whole = {12, 20, 28, 38, 48, 56, 64, 83, 91, len(SCCRP)}
    for length in range(12, len(SCCRP)):
        shorter = SCCRP[:2] + length.to_bytes(2, "big") + SCCRP[4:length]
        if length in whole:
            decode(shorter)
        else:
            with pytest.raises(WireError, match="AVP"):
                decode(shorter)


@pytest.mark.parametrize("bits", [0x4802, 0x8802, 0xC002, 0xC803, 0x0002, 0xCA02])
def test_anything_but_a_control_message_of_version_2_is_an_error(bits: int) -> None:
    with pytest.raises(WireError, match="not an L2TP control message"):
        decode(bits.to_bytes(2, "big") + SCCRP[2:])


def test_a_message_whose_type_does_not_come_first_is_an_error() -> None:
    for first in (Avp(2, b"\1\0"), Avp(0, b"\0\2", vendor=9), Avp(0, b"\0\2", hidden=True), Avp(0, b"\2")):
        with pytest.raises(WireError, match="no message type first"):
            decode(encode(ControlMessage(1, 0, 0, 0, (first,))))


def test_reserved_bits_make_an_avp_unknown_and_a_mandatory_one_an_error() -> None:
    plain = encode(message(Avp(7, b"host", mandatory=False)))
    optional = bytearray(plain)
    optional[20] |= 0x20
    assert decode(bytes(optional)) == message()
    mandatory = bytearray(encode(message(Avp(7, b"host"))))
    mandatory[20] |= 0x20
    with pytest.raises(WireError, match="reserved bits"):
        decode(bytes(mandatory))


@pytest.mark.parametrize("bits", [0x0006, 0x0406], ids=["plain", "of the reserved kind"])
def test_a_message_of_endless_avps_is_an_error(bits: int) -> None:
    """Each costs a datagram six bytes, and the loop that reads it far more."""
    first = encode(message())[12:]

    def of(number: int) -> bytes:
        body = first + (bits.to_bytes(2, "big") + b"\0\0\0\x63") * (number - 1)
        return b"\xc8\x02" + (12 + len(body)).to_bytes(2, "big") + bytes(8) + body

    decode(of(AVPS_MOST))
    with pytest.raises(WireError, match=f"more than {AVPS_MOST} AVPs"):
        decode(of(AVPS_MOST + 1))


@pytest.mark.parametrize("size", [0, 1, 13, 14, 15, 29, 30, 31, 100])
def test_hidden_values_come_out_again_whatever_their_length(size: int) -> None:
    avp = Avp(AvpType.ASSIGNED_TUNNEL_ID, bytes(range(size)))
    hidden = hide(avp, SECRET, VECTOR, padding=b"padding")
    assert hidden.hidden
    assert hidden.value[2:].find(avp.value) == -1 or not size
    received = decode(encode(message(Avp(AvpType.RANDOM_VECTOR, VECTOR), hidden)))
    assert reveal(received.avps, SECRET)[-1] == avp


def test_hiding_is_what_the_rfc_says() -> None:
    """RFC 2661 section 4.3, by hand for two blocks: b1 = MD5(type + S + RV), b2 = MD5(S + c1)."""
    avp = Avp(AvpType.HOST_NAME, b"abcdefghijklmnopqrst")
    plain = b"\0\x14" + avp.value
    first = hashlib.md5(b"\0\7" + SECRET + VECTOR, usedforsecurity=False).digest()
    c1 = bytes(a ^ b for a, b in zip(plain[:16], first, strict=True))
    second = hashlib.md5(SECRET + c1, usedforsecurity=False).digest()
    c2 = bytes(a ^ b for a, b in zip(plain[16:], second[:6], strict=True))
    assert hide(avp, SECRET, VECTOR).value == c1 + c2


def test_hidden_values_need_the_secret_and_a_random_vector_before_them() -> None:
    hidden = hide(Avp(9, b"\0\1"), SECRET, VECTOR)
    vector = Avp(AvpType.RANDOM_VECTOR, VECTOR)
    for avps, secret in (((vector, hidden), None), ((hidden, vector), SECRET), ((hidden,), SECRET)):
        with pytest.raises(WireError, match="without secret or random vector"):
            reveal(avps, secret)
    with pytest.raises(WireError, match="impossible length"):
        reveal((vector, hidden), b"another secret")


def test_the_answer_to_a_challenge_is_the_one_that_xl2tpd_gave() -> None:
    request, answer = recorded("l2tp.json")["secret"].sent[0], recorded("l2tp.json")["secret"].received[0]
    challenge = decode(request).get(AvpType.CHALLENGE) or b""
    given = decode(answer).get(AvpType.CHALLENGE_RESPONSE)
    assert challenge_response(MessageType.SCCRP, SECRET, challenge) == given
