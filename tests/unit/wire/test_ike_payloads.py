"""What is inside the payloads of both versions, and identities."""

from __future__ import annotations

import pytest

from popctl.wire.errors import WireError
from popctl.wire.ike import v1, v2
from popctl.wire.ike.identity import Identity, IdType, decode_identity, encode_identity, parse_identity
from popctl.wire.ike.message import decode_payloads, encode_payloads

# AES-CBC-256, PRF-HMAC-SHA256, HMAC-SHA256-128, MODP-2048, MODP-1024: as strongSwan accepted it on the wire.
SA_V2 = bytes.fromhex(
    "00000034 01010005 0300000c0100000c800e0100 0300000802000005 030000080300000c 030000080400000e 0000000804000002"
)
OFFER_V2 = v2.Proposal(
    1,
    (v2.Transform(1, 12, 256), v2.Transform(2, 5), v2.Transform(3, 12), v2.Transform(4, 14), v2.Transform(4, 2)),
)
# AES-CBC-256, SHA-1, MODP-2048, PSK, 28800 s.
SA_V1 = bytes.fromhex(
    "00000001 00000001 0000002c 01010001 00000024 01010000"
    "80010007 800e0100 80020002 8004000e 80030001 800b0001 800c7080"
)


def test_a_captured_ikev2_offer_is_read_and_written_alike() -> None:
    assert v2.decode_sa(SA_V2) == (OFFER_V2,)
    assert v2.encode_sa((OFFER_V2,)) == SA_V2


def test_several_proposals_with_an_spi_survive_the_wire() -> None:
    offers = (OFFER_V2, v2.Proposal(2, OFFER_V2.transforms[:1], 3, b"spi!"))
    assert v2.decode_sa(v2.encode_sa(offers)) == offers


def test_every_truncation_and_tail_of_an_ikev2_offer_is_an_error() -> None:
    for damaged in (*(SA_V2[:length] for length in range(len(SA_V2))), SA_V2 + b"\0"):
        with pytest.raises(WireError):
            v2.decode_sa(damaged)


@pytest.mark.parametrize(
    ("at", "value", "problem"),
    [
        (0, 1, "proposal malformed"),
        (3, 0xFF, "proposal malformed"),
        (7, 4, "transform malformed"),
        (7, 6, "transform malformed"),
        (8, 0, "transform malformed"),
        (11, 0, "transform malformed"),
        (16, 0x00, "transform attribute 14"),
    ],
)
def test_an_ikev2_offer_that_contradicts_itself_is_an_error(at: int, value: int, problem: str) -> None:
    damaged = bytearray(SA_V2)
    damaged[at] = value
    with pytest.raises(WireError, match=problem):
        v2.decode_sa(bytes(damaged))


def test_a_captured_ikev1_offer_is_read_and_written_alike() -> None:
    (transform,) = v1.decode_sa(SA_V1)
    assert transform == v1.transform(1, encryption=(7, 256), hash_id=2, group=14)
    assert transform.get(v1.Attribute.GROUP) == 14
    assert v1.encode_sa((transform,)) == SA_V1


def test_long_attributes_of_ikev1_survive_the_wire() -> None:
    transform = v1.transform(1, encryption=(7, 256), hash_id=2, group=14, lifetime_s=86400)
    assert v1.decode_sa(v1.encode_sa((transform,))) == (transform,)


def test_every_truncation_and_tail_of_an_ikev1_offer_is_an_error() -> None:
    for damaged in (*(SA_V1[:length] for length in range(len(SA_V1))), SA_V1 + b"\0"):
        with pytest.raises(WireError):
            v1.decode_sa(damaged)


def test_notifications_survive_the_wire() -> None:
    notify = v2.Notify(v2.NotifyType.INVALID_KE_PAYLOAD, b"\0\x0e", 1, b"spi")
    assert v2.decode_notify(v2.encode_notify(notify)) == notify
    notification = v1.Notification(v1.NotifyType.AUTHENTICATION_FAILED, b"cookies!cookies!", b"data")
    assert v1.decode_notification(v1.encode_notification(notification)) == notification


def test_notifications_have_the_names_of_the_rfc_or_their_number() -> None:
    assert v2.Notify(14).name == "NO_PROPOSAL_CHOSEN"
    assert v2.Notify(40000).name == "notify 40000"
    assert v1.Notification(24).name == "AUTHENTICATION_FAILED"
    assert v1.Notification(40000).name == "notify 40000"


@pytest.mark.parametrize("body", [b"", b"\0\0\0", bytes.fromhex("01 08 0011 abcdef")])
def test_a_truncated_ikev2_notification_is_an_error(body: bytes) -> None:
    with pytest.raises(WireError, match="truncated"):
        v2.decode_notify(body)


@pytest.mark.parametrize("body", [b"", b"\0" * 7, bytes.fromhex("00000001 01 10 0018 abcdef")])
def test_a_truncated_ikev1_notification_is_an_error(body: bytes) -> None:
    with pytest.raises(WireError, match="truncated"):
        v1.decode_notification(body)


@pytest.mark.parametrize("size", [0, 65])
def test_a_cookie_has_1_to_64_bytes(size: int) -> None:
    with pytest.raises(WireError, match="cookie"):
        v2.cookie_of((v2.Notify(v2.NotifyType.COOKIE, bytes(size)),))


def test_a_ke_payload_has_a_group_and_a_value() -> None:
    assert v2.decode_ke(v2.encode_ke(19, b"xy")) == (19, b"xy")
    with pytest.raises(WireError, match="KE payload"):
        v2.decode_ke(b"\0\x0e\0\0")


def test_an_unknown_payload_is_skipped_unless_it_is_critical() -> None:
    assert v2.walk(200, bytes.fromhex("00 00 0004"))[0].type == 200
    with pytest.raises(WireError, match="unknown critical payload 200"):
        v2.walk(200, bytes.fromhex("00 80 0004"))


def test_delete_payloads_are_what_the_rfcs_say() -> None:
    assert encode_payloads((v2.DELETE_IKE_SA,)) == bytes.fromhex("00 00 0008 01 00 0000")
    delete = encode_payloads((v1.delete_ike_sa(b"initiate", b"responds"),))
    assert delete == bytes.fromhex("00 00 001c 00000001 01 10 0001") + b"initiateresponds"
    assert decode_payloads(v1.Kind.DELETE, delete)[0].body[-16:] == b"initiateresponds"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vpn.example.net", Identity(IdType.FQDN, b"vpn.example.net")),
        ("probe@popctl.example", Identity(IdType.RFC822_ADDR, b"probe@popctl.example")),
        ("192.0.2.1", Identity(IdType.IPV4_ADDR, bytes((192, 0, 2, 1)))),
        ("2001:db8::1", Identity(IdType.IPV6_ADDR, bytes.fromhex("20010db8000000000000000000000001"))),
    ],
)
def test_identities_are_read_as_operators_write_them(text: str, expected: Identity) -> None:
    assert parse_identity(text) == expected
    assert str(expected) == text
    assert decode_identity(encode_identity(expected)) == expected


@pytest.mark.parametrize("text", ["", "vpn.exämple.net"])
def test_an_identity_that_ike_cannot_carry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an IKE identity"):
        parse_identity(text)


def test_names_match_without_regard_to_case_and_only_names_of_the_same_kind() -> None:
    name = parse_identity("VPN.example.net")
    assert name.matches(parse_identity("vpn.EXAMPLE.net"))
    assert not name.matches(Identity(IdType.RFC822_ADDR, b"VPN.example.net"))
    assert not Identity(11, b"Key").matches(Identity(11, b"key"))


def test_an_odd_identity_can_still_be_shown() -> None:
    assert str(Identity(11, b"\1\2")) == "type 11: 0102"
    assert str(Identity(IdType.IPV4_ADDR, b"\1\2")) == "type 1: 0102"
    assert str(Identity(IdType.FQDN, b"a\xff")) == "a\\xff"
    with pytest.raises(WireError, match="identification"):
        decode_identity(b"\1\0\0")
