"""Main Mode with gateways that lie, stall or fall silent. The honest ones are in test_recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Turn
from popctl.wire.ike import dh, keys_v1, v1
from popctl.wire.ike.deep_v1 import DeepV1
from popctl.wire.ike.deep_v2 import Credentials
from popctl.wire.ike.identity import encode_identity, parse_identity
from popctl.wire.ike.message import (
    HEADER,
    Header,
    Payload,
    decode_header,
    decode_payloads,
    encode,
    encode_payloads,
    message_of,
    only,
)
from popctl.wire.ike.v1 import Exchange, Kind, NotifyType
from tests.unit.wire.conversations import Seeded

COOKIE_R = b"\xa0\x01labels"
CHOSEN = v1.transform(1, encryption=(7, 128), hash_id=2, group=14)
VPN = "vpn.example.net"


def probe(*, psk: bytes = b"psk", remote: str | None = VPN) -> DeepV1:
    credentials = Credentials(
        local=parse_identity("192.0.2.2"), remote=None if remote is None else parse_identity(remote), psk=psk
    )
    return DeepV1(credentials, Seeded("deep"))


def clear(exchange: DeepV1, *payloads: Payload, mode: Exchange = Exchange.MAIN_MODE, message_id: int = 0) -> bytes:
    header = Header(exchange.start()[:8], COOKIE_R, 0, v1.VERSION, mode, 0, message_id)
    return message_of(header, payloads)


def sa(transform: v1.Transform = CHOSEN) -> Payload:
    return Payload(Kind.SA, v1.encode_sa((transform,)))


def notification(kind: NotifyType) -> Payload:
    return Payload(Kind.NOTIFICATION, v1.encode_notification(v1.Notification(kind)))


def ended(turn: Turn) -> tuple[Outcome, Reason, str]:
    assert turn.verdict is not None
    return turn.verdict.outcome, turn.verdict.reason, turn.verdict.detail


class Gateway:
    """The responder of one Main Mode, up to the point where both sides have keys."""

    def __init__(self, exchange: DeepV1, psk: bytes = b"psk") -> None:
        offered = exchange.start()
        entropy = Seeded("gateway")
        pair, nonce = dh.generate(14, entropy), entropy(16)
        (third,) = exchange.receive(clear(exchange, sa())).send
        chain = decode_payloads(Kind.KE, third[HEADER.size :])
        public, nonce_i = only(chain, Kind.KE) or b"", only(chain, Kind.NONCE) or b""
        parties = keys_v1.Parties(
            cookie_i=offered[:8],
            cookie_r=COOKIE_R,
            public_i=public,
            public_r=pair.public,
            nonce_i=nonce_i,
            nonce_r=nonce,
            sa=offered[HEADER.size + 4 :],
        )
        suite = keys_v1.Suite(key_bits=128, hash_name="sha1")
        self.keys = keys_v1.Keys.derive(suite, parties, psk, pair.shared(public))
        self.fourth = clear(exchange, Payload(Kind.KE, pair.public), Payload(Kind.NONCE, nonce))
        (self.fifth,) = exchange.receive(self.fourth).send
        self.header = decode_header(self.fifth)

    def sixth(self, identity: str = VPN, *, proof: bytes | None = None) -> bytes:
        """Return message 6."""
        body = encode_identity(parse_identity(identity))
        chain = (Payload(Kind.ID, body), Payload(Kind.HASH, self.keys.hash_r(body) if proof is None else proof))
        return encode(self.header, self.keys.encrypt(chain, self.fifth[-16:]))

    def informational(self, *payloads: Payload, message_id: int = 77, after: bytes | None = None) -> bytes:
        """Return an encrypted Informational message."""
        proof = Payload(Kind.HASH, self.keys.hash_1(message_id, encode_payloads(payloads)))
        header = self.header._replace(next_payload=Kind.HASH, exchange=Exchange.INFORMATIONAL, message_id=message_id)
        iv = self.keys.later_iv((self.fifth if after is None else after)[-16:], message_id)
        return encode(header, self.keys.encrypt((proof, *payloads), iv))

    def opened(self, message: bytes, after: bytes) -> tuple[Payload, ...]:
        """Decrypt an Informational message of the probe."""
        header = decode_header(message)
        iv = self.keys.later_iv(after[-16:], header.message_id)
        return self.keys.decrypt(header.next_payload, message[HEADER.size :], iv)


@given(
    extra=st.lists(
        st.tuples(st.integers(0, 0x7FFF) | st.sampled_from(v1.Attribute), st.integers(0, 0xFFFF_FFFF)), max_size=4
    )
)
@example(extra=[(v1.Attribute.HASH, 99)])
@example(extra=[(v1.Attribute.GROUP, 99)])
def test_whatever_a_gateway_adds_to_its_choice_is_ignored_or_an_error_of_the_wire(extra: list[tuple[int, int]]) -> None:
    exchange = probe()
    added = CHOSEN._replace(attributes=(*CHOSEN.attributes, *((int(kind), value) for kind, value in extra)))
    try:
        turn = exchange.receive(clear(exchange, sa(added)))
    except WireError:
        turn = exchange.receive(clear(exchange, sa()))
    assert turn.send or turn.verdict is not None


def test_an_attribute_has_one_value_and_a_lifetime_may_come_in_seconds_and_in_kilobytes() -> None:
    lifetimes = ((v1.Attribute.LIFE_TYPE, 2), (v1.Attribute.LIFE_DURATION, 100_000))
    twice = CHOSEN._replace(attributes=(*CHOSEN.attributes, *((int(kind), value) for kind, value in lifetimes)))
    assert v1.decode_sa(v1.encode_sa((twice,))) == (twice,)
    with pytest.raises(WireError, match="attribute 2 twice"):
        v1.decode_sa(v1.encode_sa((CHOSEN._replace(attributes=(*CHOSEN.attributes, (2, 4))),)))


def test_it_passes_with_proof_and_deletes_in_a_form_that_the_gateway_can_read() -> None:
    exchange = probe()
    gateway = Gateway(exchange)
    sixth = gateway.sixth()
    turn = exchange.receive(sixth)
    assert ended(turn) == (Outcome.PASS, Reason.ANSWERED, f"authenticated {VPN}")
    proof, delete = gateway.opened(turn.send[0], sixth)
    assert delete == v1.delete_ike_sa(exchange.start()[:8], COOKIE_R)
    message_id = decode_header(turn.send[0]).message_id
    assert message_id
    assert proof.body == gateway.keys.hash_1(message_id, encode_payloads((delete,)))


def test_without_a_wanted_identity_anybody_with_the_key_passes() -> None:
    exchange = probe(remote=None)
    turn = exchange.receive(Gateway(exchange).sixth("192.0.2.1"))
    assert ended(turn) == (Outcome.PASS, Reason.ANSWERED, "authenticated 192.0.2.1")


def test_a_gateway_that_does_not_prove_itself_fails_and_its_sa_is_deleted() -> None:
    exchange = probe()
    turn = exchange.receive(Gateway(exchange).sixth(proof=bytes(20)))
    problem = "the gateway does not prove that it knows the key"
    assert ended(turn) == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED, problem)
    assert len(turn.send) == 1


def test_our_own_proof_is_no_proof_of_the_gateway() -> None:
    """A mirror that knows both cookies cannot pass: HASH_I and HASH_R differ even for equal identities."""
    exchange = probe(remote=None)
    gateway = Gateway(exchange)
    identity = encode_identity(parse_identity("192.0.2.2"))
    turn = exchange.receive(gateway.sixth("192.0.2.2", proof=gateway.keys.hash_i(identity)))
    assert ended(turn)[0] is Outcome.FAIL


@pytest.mark.parametrize(
    "transform",
    [
        v1.transform(1, encryption=(7, 192), hash_id=2, group=14),
        v1.transform(1, encryption=(5, None), hash_id=2, group=14),
        v1.transform(1, encryption=(7, 128), hash_id=1, group=14),
        v1.transform(1, encryption=(7, 128), hash_id=2, group=1),
        v1.Transform(1, tuple((kind, 3 if kind == 3 else value) for kind, value in CHOSEN.attributes)),  # signatures
    ],
)
def test_a_choice_that_was_not_offered_fails(transform: v1.Transform) -> None:
    exchange = probe()
    turn = exchange.receive(clear(exchange, sa(transform)))
    assert ended(turn) == (Outcome.FAIL, Reason.WRONG_ANSWER, "chose a transform that was not offered")


def test_the_gateway_may_choose_another_lifetime() -> None:
    exchange = probe()
    longer = v1.transform(9, encryption=(7, 128), hash_id=2, group=14, lifetime_s=86400)
    assert exchange.receive(clear(exchange, sa(longer))).send


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NotifyType.NO_PROPOSAL_CHOSEN, Reason.WRONG_ANSWER),
        (NotifyType.INVALID_KEY_INFORMATION, Reason.AUTHENTICATION_FAILED),
        (NotifyType.AUTHENTICATION_FAILED, Reason.AUTHENTICATION_FAILED),
    ],
)
def test_a_refusal_in_clear_fails_and_names_itself(kind: NotifyType, reason: Reason) -> None:
    exchange = probe()
    turn = exchange.receive(clear(exchange, notification(kind), mode=Exchange.INFORMATIONAL, message_id=5))
    assert ended(turn) == (Outcome.FAIL, reason, kind.name)


def test_a_refusal_under_our_keys_fails_and_names_itself() -> None:
    exchange = probe()
    turn = exchange.receive(Gateway(exchange).informational(notification(NotifyType.INVALID_ID_INFORMATION)))
    assert ended(turn) == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED, "INVALID_ID_INFORMATION")


def test_a_status_under_our_keys_is_no_refusal() -> None:
    exchange = probe()
    gateway = Gateway(exchange)
    status = Payload(Kind.NOTIFICATION, v1.encode_notification(v1.Notification(24578)))  # INITIAL-CONTACT
    assert exchange.receive(gateway.informational(status)) == IGNORED
    assert ended(exchange.receive(gateway.sixth()))[0] is Outcome.PASS


def test_a_message_that_overtook_the_sixth_does_not_fail_the_gateway() -> None:
    """What comes after message 6 has an IV that only message 6 gives; seen before it, it cannot be read."""
    exchange = probe()
    gateway = Gateway(exchange)
    sixth = gateway.sixth()
    status = Payload(Kind.NOTIFICATION, v1.encode_notification(v1.Notification(24578)))
    turn = exchange.receive(gateway.informational(status, after=sixth))
    assert turn == Turn(send=(gateway.fifth,))
    assert ended(exchange.receive(sixth))[0] is Outcome.PASS


def test_a_gateway_that_only_complains_under_other_keys_has_another_psk() -> None:
    exchange = probe()
    gateway = Gateway(exchange, psk=b"another")
    complaint = notification(NotifyType.PAYLOAD_MALFORMED)
    assert exchange.receive(gateway.informational(complaint)).verdict is None
    turn = exchange.receive(gateway.informational(complaint, message_id=78))
    problem = "the gateway answers with other keys"
    assert ended(turn) == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED, problem)


def test_a_sixth_message_under_other_keys_is_garbage() -> None:
    exchange = probe()
    with pytest.raises(WireError):
        exchange.receive(Gateway(exchange, psk=b"another").sixth())


@pytest.mark.parametrize(
    "changed",
    [
        {"spi_r": b"someone!"},
        {"spi_i": b"someone!"},
        {"message_id": 1},
        {"flags": 0},
        {"version": 0x20},
        {"exchange": Exchange.AGGRESSIVE},
    ],
)
def test_a_message_of_another_conversation_is_ignored(changed: dict[str, int]) -> None:
    exchange = probe()
    gateway = Gateway(exchange)
    sixth = gateway.sixth()
    foreign = encode(gateway.header._replace(**changed), sixth[HEADER.size :])
    assert exchange.receive(foreign) == IGNORED
    assert ended(exchange.receive(sixth))[0] is Outcome.PASS


def test_an_encrypted_message_before_there_are_keys_is_ignored() -> None:
    exchange = probe()
    header = Header(exchange.start()[:8], COOKIE_R, Kind.HASH, v1.VERSION, Exchange.INFORMATIONAL, 1, 9)
    assert exchange.receive(encode(header, bytes(32))) == IGNORED


@pytest.mark.parametrize("size", [7, 257])
def test_a_nonce_of_impossible_length_is_garbage(size: int) -> None:
    exchange = probe()
    exchange.receive(clear(exchange, sa()))
    with pytest.raises(WireError, match="nonce"):
        exchange.receive(clear(exchange, Payload(Kind.KE, bytes(256)), Payload(Kind.NONCE, bytes(size))))


def test_abandoned_it_stays_silent() -> None:
    exchange = probe()
    gateway = Gateway(exchange)
    assert exchange.abandon() == ()
    assert exchange.receive(gateway.sixth()) == IGNORED


def test_a_short_hash_is_stretched_to_the_length_of_the_key() -> None:
    """RFC 2409 appendix B: SHA-1 gives 20 bytes, AES-256 wants 32; SHA-256 gives them at once."""
    exchange = probe()
    keys = Gateway(exchange).keys
    for name, bits in (("sha1", 256), ("sha1", 128), ("sha256", 256), ("sha512", 256)):
        suite = keys_v1.Suite(key_bits=bits, hash_name=name)
        derived = keys_v1.Keys.derive(suite, keys.parties, b"psk", b"shared")
        assert len(derived.encryption) == bits // 8
    assert "secret!" not in repr(replace(keys, encryption=b"secret!", root=b"secret!", authentication=b"secret!"))
