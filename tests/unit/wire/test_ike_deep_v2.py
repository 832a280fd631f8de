"""A whole IKEv2 authentication with gateways that lie, stall or are somebody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Turn
from popctl.wire.ike import dh, v2
from popctl.wire.ike.deep_v2 import Credentials, DeepV2
from popctl.wire.ike.identity import parse_identity
from popctl.wire.ike.message import Payload, message_of, only
from popctl.wire.ike.v2 import Exchange, Kind, Notify, NotifyType, Transform, TransformType
from tests.unit.wire.conversations import Seeded
from tests.unit.wire.responder_v2 import CHOSEN, Responder, message_id

VPN = "vpn.example.net"


def probe(*, remote: str | None = VPN, psk: bytes = b"psk") -> DeepV2:
    credentials = Credentials(
        local=parse_identity("probe@popctl.example"), remote=None if remote is None else parse_identity(remote), psk=psk
    )
    return DeepV2(credentials, Seeded("deep"))


def ended(turn: Turn) -> tuple[Outcome, Reason, str]:
    assert turn.verdict is not None
    return turn.verdict.outcome, turn.verdict.reason, turn.verdict.detail


def error(kind: NotifyType) -> Payload:
    return Payload(Kind.NOTIFY, v2.encode_notify(Notify(kind)))


def test_it_passes_after_proof_and_the_answer_to_delete_and_not_before() -> None:
    exchange, gateway = probe(), Responder()
    (auth,) = exchange.receive(gateway.answer_init(exchange.start())).send
    sent = gateway.opened(auth)
    assert [payload.type for payload in sent] == [Kind.ID_I, Kind.ID_R, Kind.AUTH]  # childless: no SA, no selectors
    turn = exchange.receive(gateway.answer_auth())
    assert turn.verdict is None
    (delete,) = turn.send
    assert gateway.opened(delete) == (v2.DELETE_IKE_SA,)
    assert [message_id(message) for message in (exchange.start(), auth, delete)] == [0, 1, 2]
    turn = exchange.receive(gateway.protected(Exchange.INFORMATIONAL, 2))
    assert ended(turn) == (Outcome.PASS, Reason.ANSWERED, f"authenticated {VPN}")
    assert exchange.abandon() == ()


def test_without_a_wanted_identity_anybody_with_the_key_passes() -> None:
    exchange, gateway = probe(remote=None), Responder(identity="another.example.net")
    (auth,) = exchange.receive(gateway.answer_init(exchange.start())).send
    assert only(gateway.opened(auth), Kind.ID_R) is None
    assert exchange.receive(gateway.answer_auth()).verdict is None
    turn = exchange.receive(gateway.protected(Exchange.INFORMATIONAL, 2))
    assert ended(turn) == (Outcome.PASS, Reason.ANSWERED, "authenticated another.example.net")


def test_a_gateway_without_the_key_fails_and_its_sa_is_deleted() -> None:
    exchange, gateway = probe(), Responder()
    exchange.receive(gateway.answer_init(exchange.start()))
    turn = exchange.receive(gateway.answer_auth(psk=b"guess"))
    problem = "the gateway does not prove that it knows the key"
    assert ended(turn) == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED, problem)
    assert gateway.opened(turn.send[0]) == (v2.DELETE_IKE_SA,)


def test_a_gateway_that_is_somebody_else_fails_and_its_sa_is_deleted() -> None:
    exchange, gateway = probe(), Responder(identity="evil.example.net")
    exchange.receive(gateway.answer_init(exchange.start()))
    turn = exchange.receive(gateway.answer_auth())
    problem = "the gateway proves to be evil.example.net"
    assert ended(turn) == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED, problem)
    assert gateway.opened(turn.send[0]) == (v2.DELETE_IKE_SA,)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NotifyType.AUTHENTICATION_FAILED, Reason.AUTHENTICATION_FAILED),
        (NotifyType.INVALID_SYNTAX, Reason.WRONG_ANSWER),
    ],
)
def test_a_refused_authentication_fails_and_leaves_nothing_to_delete(kind: NotifyType, reason: Reason) -> None:
    exchange, gateway = probe(), Responder()
    exchange.receive(gateway.answer_init(exchange.start()))
    turn = exchange.receive(gateway.protected(Exchange.IKE_AUTH, 1, error(kind)))
    assert ended(turn) == (Outcome.FAIL, reason, kind.name)
    assert turn.send == ()


def test_an_error_in_clear_is_not_believed_once_there_are_keys() -> None:
    exchange, gateway = probe(), Responder()
    exchange.receive(gateway.answer_init(exchange.start()))
    header = gateway.header(Exchange.IKE_AUTH, 1)
    with pytest.raises(WireError, match="not an Encrypted payload alone"):
        exchange.receive(message_of(header, (error(NotifyType.AUTHENTICATION_FAILED),)))
    assert exchange.receive(gateway.answer_auth()).send


def test_an_answer_under_foreign_keys_is_garbage_and_the_right_one_still_counts() -> None:
    exchange, gateway = probe(), Responder()
    exchange.receive(gateway.answer_init(exchange.start()))
    assert gateway.keys is not None
    honest = gateway.keys
    gateway.keys = replace(honest, ours=replace(honest.ours, integrity=bytes(64)))
    with pytest.raises(WireError, match="integrity check failed"):
        exchange.receive(gateway.answer_auth())
    gateway.keys = honest
    assert exchange.receive(gateway.answer_auth()).send


def test_a_gateway_without_childless_support_is_not_judged() -> None:
    exchange, gateway = probe(), Responder()
    turn = exchange.receive(gateway.answer_init(exchange.start(), more=()))
    assert ended(turn) == (Outcome.UNKNOWN, Reason.PROBE_ERROR, "childless IKE_AUTH is not supported")


@pytest.mark.parametrize(
    "chosen",
    [
        (Transform(TransformType.ENCR, 12, 192), *CHOSEN[1:]),
        (*CHOSEN, Transform(TransformType.PRF, 5)),
        (*CHOSEN[:3], Transform(TransformType.DH, 19)),
    ],
)
def test_a_choice_that_was_not_offered_fails(chosen: tuple[Transform, ...]) -> None:
    exchange, gateway = probe(), Responder()
    turn = exchange.receive(gateway.answer_init(exchange.start(), chosen=chosen))
    assert ended(turn) == (Outcome.FAIL, Reason.WRONG_ANSWER, "chose transforms that were not offered")


def test_another_offered_group_is_taken_up_once() -> None:
    exchange, gateway = probe(), Responder()
    wants_19 = Notify(NotifyType.INVALID_KE_PAYLOAD, dh.ECP_256.to_bytes(2, "big"))
    refusal = gateway.refuse(exchange.start(), wants_19)
    (again,) = exchange.receive(refusal).send
    before, after = v2.decode(exchange.start()), v2.decode(again)
    assert after[0] == before[0]
    assert only(after[1], Kind.NONCE) == only(before[1], Kind.NONCE)
    assert v2.decode_ke(only(after[1], Kind.KE) or b"")[0] == dh.ECP_256
    assert exchange.receive(refusal) == IGNORED
    ecp = (*CHOSEN[:3], Transform(TransformType.DH, dh.ECP_256))
    exchange.receive(gateway.answer_init(again, chosen=ecp))
    assert exchange.receive(gateway.answer_auth()).send


@pytest.mark.parametrize("group", [14, 31, 0])
def test_a_wish_for_a_group_that_makes_no_sense_fails(group: int) -> None:
    exchange, gateway = probe(), Responder()
    wish = Notify(NotifyType.INVALID_KE_PAYLOAD, group.to_bytes(2, "big"))
    turn = exchange.receive(gateway.refuse(exchange.start(), wish))
    assert ended(turn) == (Outcome.FAIL, Reason.WRONG_ANSWER, f"INVALID_KE_PAYLOAD, wants group {group}")


def test_a_cookie_is_part_of_what_is_signed() -> None:
    exchange, gateway = probe(), Responder()
    (again,) = exchange.receive(gateway.refuse(exchange.start(), Notify(NotifyType.COOKIE, b"cookie"))).send
    assert v2.decode(again)[1] == (v2.cookie_payload(b"cookie"), *v2.decode(exchange.start())[1])
    (auth,) = exchange.receive(gateway.answer_init(again)).send
    proof = only(gateway.opened(auth), Kind.AUTH) or b""
    assert gateway.keys is not None
    id_body = only(gateway.opened(auth), Kind.ID_I) or b""
    # Seen from the gateway, the initiator is "the other side" that signed `again`.
    theirs = replace(gateway.keys, parties=replace(gateway.keys.parties, nonce_i=gateway.nonce))
    assert theirs.proves_responder(proof, b"psk", again, id_body)
    assert not theirs.proves_responder(proof, b"psk", exchange.start(), id_body)


def test_a_public_value_that_gives_the_secret_away_is_refused() -> None:
    pair = dh.generate(dh.MODP_2048, Seeded("x"))
    for weak in (bytes(256), bytes(255) + b"\1", b"\xff" * 256, b"\2"):
        with pytest.raises(WireError):
            pair.shared(weak)
    curve = dh.generate(dh.ECP_256, Seeded("x"))
    for weak in (bytes(64), b"\1" * 64, b""):
        with pytest.raises(WireError):
            curve.shared(weak)


@pytest.mark.parametrize("group", sorted(dh.SUPPORTED))
def test_both_sides_of_a_key_exchange_agree(group: int) -> None:
    one, other = dh.generate(group, Seeded("one")), dh.generate(group, Seeded("other"))
    assert one.public != other.public
    assert one.shared(other.public) == other.shared(one.public)


def test_abandoned_before_there_are_keys_it_can_say_nothing() -> None:
    exchange, gateway = probe(), Responder()
    assert exchange.abandon() == ()
    assert exchange.receive(gateway.answer_init(exchange.start())) == IGNORED


def test_abandoned_in_authentication_it_deletes_what_may_have_come_of_it() -> None:
    exchange, gateway = probe(), Responder()
    exchange.receive(gateway.answer_init(exchange.start()))
    (delete,) = exchange.abandon()
    assert gateway.opened(delete) == (v2.DELETE_IKE_SA,)
    assert exchange.receive(gateway.answer_auth()) == IGNORED
    assert exchange.abandon() == ()


def test_abandoned_in_deletion_it_repeats_the_delete() -> None:
    exchange, gateway = probe(), Responder()
    exchange.receive(gateway.answer_init(exchange.start()))
    (delete,) = exchange.receive(gateway.answer_auth()).send
    assert exchange.abandon() == (delete,)


def test_secrets_do_not_show_themselves() -> None:
    exchange, gateway = probe(psk=b"hush"), Responder(psk=b"hush")
    exchange.receive(gateway.answer_init(exchange.start()))
    assert gateway.keys is not None
    shown = repr(gateway.keys) + repr(exchange.__dict__)
    for secret in (gateway.keys.ours.integrity, gateway.keys.ours.proof, b"hush"):
        assert repr(secret)[2:-1] not in shown
