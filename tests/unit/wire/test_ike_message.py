"""The frame that both versions of IKE share."""

from __future__ import annotations

import pytest

from popctl.wire.errors import WireError
from popctl.wire.ike.message import (
    HEADER,
    MAX_MESSAGE,
    MAX_PAYLOADS,
    Header,
    Payload,
    decode_header,
    decode_payloads,
    encode,
    encode_payloads,
    message_of,
    only,
    with_marker,
    without_marker,
)

# SPI_i, no SPI_r, Notify, IKEv2, IKE_SA_INIT, response: INVALID_KE_PAYLOAD that asks for group 14, by strongSwan.
ANSWER = bytes.fromhex("15645c846549842f 0000000000000000 29202220 00000000 00000026 0000000a 0000 0011 000e")
HEAD = Header(b"initiate", b"responds", 0, 0x20, 34, 8, 7)


def test_a_captured_header_is_read_as_what_it_is() -> None:
    expected = Header(bytes.fromhex("15645c846549842f"), bytes(8), 41, 0x20, 34, 0x20, 0)
    assert decode_header(ANSWER) == expected
    assert decode_header(ANSWER).major == 2
    assert decode_payloads(41, ANSWER[28:]) == (Payload(41, bytes.fromhex("00000011000e")),)


def test_every_truncation_of_a_message_is_an_error() -> None:
    for length in range(len(ANSWER)):
        with pytest.raises(WireError):
            decode_header(ANSWER[:length])


def test_a_message_with_a_tail_is_an_error() -> None:
    with pytest.raises(WireError, match="IKE length 38 in 39 bytes"):
        decode_header(ANSWER + b"\0")


def test_an_oversized_message_is_an_error_before_anything_else() -> None:
    with pytest.raises(WireError, match="oversized"):
        decode_header(bytes(MAX_MESSAGE + 1))


def test_every_truncation_of_a_chain_is_an_error() -> None:
    body = encode_payloads((Payload(33, b"abc"), Payload(34, b""), Payload(40, b"nonce")))
    for length in range(len(body)):
        with pytest.raises(WireError):
            decode_payloads(33, body[:length])


@pytest.mark.parametrize("padded", [False, True])
def test_bytes_after_the_chain_are_padding_or_an_error(*, padded: bool) -> None:
    chain = (Payload(8, b"hash"), Payload(12, b"delete"))
    body = encode_payloads(chain) + bytes(3)
    if padded:
        assert decode_payloads(8, body, padded=True) == chain
    else:
        with pytest.raises(WireError, match="bytes after"):
            decode_payloads(8, body)


@pytest.mark.parametrize("length", [0, 3, 9, 0xFFFF])
def test_a_payload_whose_length_points_elsewhere_is_an_error(length: int) -> None:
    with pytest.raises(WireError, match="payload length"):
        decode_payloads(33, bytes((0, 0)) + length.to_bytes(2, "big") + b"body")


def test_a_chain_that_never_ends_is_cut_off() -> None:
    endless = bytes.fromhex("21000004") * (MAX_PAYLOADS + 1)
    with pytest.raises(WireError, match="too many"):
        decode_payloads(33, endless)


def test_a_chain_ends_at_the_encrypted_payload_whatever_that_names_next() -> None:
    body = bytes.fromhex("23 00 0008 deadbeef")
    assert decode_payloads(46, body, last_type=46) == (Payload(46, bytes.fromhex("deadbeef")),)


def test_the_length_and_the_first_payload_are_filled_in() -> None:
    message = message_of(HEAD, (Payload(33, b"sa", critical=True), Payload(40, b"nonce")))
    header = decode_header(message)
    assert header == HEAD._replace(next_payload=33)
    assert decode_payloads(33, message[HEADER.size :]) == (Payload(33, b"sa", critical=True), Payload(40, b"nonce"))
    assert decode_header(message_of(HEAD, ())) == HEAD


def test_on_port_4500_only_what_carries_the_marker_is_ike() -> None:
    message = encode(HEAD, b"")
    assert without_marker(with_marker(message, nat_t=True), nat_t=True) == message
    assert without_marker(with_marker(message, nat_t=False), nat_t=False) == message
    for other in (b"\xff", b"", b"\0\0\0", bytes.fromhex("c1000001 00000001") + message):
        with pytest.raises(WireError, match="marker"):
            without_marker(other, nat_t=True)


def test_a_payload_that_must_be_alone_may_not_come_twice() -> None:
    chain = (Payload(33, b"a"), Payload(40, b"b"), Payload(33, b"c"))
    assert only(chain, 40) == b"b"
    assert only(chain, 34) is None
    with pytest.raises(WireError, match="2 IKE payloads of type 33"):
        only(chain, 33)
