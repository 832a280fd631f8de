"""The stateless IKE questions and every kind of answer to them."""

from __future__ import annotations

import pytest

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Exchange
from popctl.wire.ike import liveness_v1, liveness_v2, v1, v2
from popctl.wire.ike.message import Header, Payload, decode_header, decode_payloads, message_of, only
from popctl.wire.ike.v2 import Notify, NotifyType
from tests.unit.wire.conversations import Seeded


def question_v2(*, nat_t: bool = False) -> liveness_v2.LivenessV2:
    return liveness_v2.LivenessV2(liveness_v2.template(nat_t=nat_t), Seeded("v2"))


def question_v1(*, nat_t: bool = False) -> liveness_v1.LivenessV1:
    return liveness_v1.LivenessV1(liveness_v1.template(nat_t=nat_t), Seeded("v1"))


def answer_v2(question: Exchange, *payloads: Payload, spi_r: bytes = bytes(8), **changed: int) -> bytes:
    header = Header(question.start()[:8], spi_r, 0, v2.VERSION, v2.Exchange.IKE_SA_INIT, v2.FLAG_RESPONSE, 0)
    return message_of(header._replace(**changed), payloads)


def notify_v2(kind: NotifyType, data: bytes = b"", protocol: int = 0) -> Payload:
    return Payload(v2.Kind.NOTIFY, v2.encode_notify(Notify(kind, data, protocol)))


def answer_v1(question: Exchange, *payloads: Payload, **changed: int) -> bytes:
    header = Header(question.start()[:8], b"\xa0\x01cookie", 0, v1.VERSION, v1.Exchange.INFORMATIONAL, 0, 99)
    return message_of(header._replace(**changed), payloads)


def notification_v1(kind: v1.NotifyType, spi: bytes = b"") -> Payload:
    return Payload(v1.Kind.NOTIFICATION, v1.encode_notification(v1.Notification(kind, spi)))


WANTS_14 = notify_v2(NotifyType.INVALID_KE_PAYLOAD, b"\0\x0e")


def test_the_ikev2_question_offers_much_and_sends_a_ke_of_a_group_that_nobody_takes() -> None:
    message = question_v2().start()
    header = decode_header(message)
    _, payloads = v2.decode(message)
    assert (header.spi_r, header.exchange, header.flags) == (bytes(8), v2.Exchange.IKE_SA_INIT, v2.FLAG_INITIATOR)
    offers = v2.decode_sa(only(payloads, v2.Kind.SA) or b"")
    assert offers == liveness_v2.BROAD
    group, public = v2.decode_ke(only(payloads, v2.Kind.KE) or b"")
    assert (group, len(public)) == (liveness_v2.FOREIGN_GROUP, 96)
    # RFC 7296 section 3.4: the group of the KE payload must be one of the offered ones.
    assert all(v2.Transform(v2.TransformType.DH, group) in offer.transforms for offer in offers)
    assert len(only(payloads, v2.Kind.NONCE) or b"") == 32


def test_the_ikev1_question_is_aggressive_mode_with_a_pre_shared_key() -> None:
    message = question_v1().start()
    header = decode_header(message)
    payloads = decode_payloads(header.next_payload, message[28:])
    assert (header.spi_r, header.exchange) == (bytes(8), v1.Exchange.AGGRESSIVE)
    assert [payload.type for payload in payloads] == [v1.Kind.SA, v1.Kind.KE, v1.Kind.NONCE, v1.Kind.ID]
    assert v1.decode_sa(payloads[0].body) == liveness_v1.BROAD


@pytest.mark.parametrize("question", [question_v1, question_v2])
def test_questions_stay_below_the_smallest_mtu_and_on_4500_carry_the_marker(question: type) -> None:
    on_500, on_4500 = question(nat_t=False).start(), question(nat_t=True).start()
    assert on_4500 == bytes(4) + on_500
    assert len(on_4500) <= 1280 - 48


@pytest.mark.parametrize("question", [question_v1, question_v2])
def test_without_entropy_the_spi_is_still_not_zero(question: type) -> None:
    exchange = (
        liveness_v1.LivenessV1(liveness_v1.template(nat_t=False), bytes)
        if question is question_v1
        else liveness_v2.LivenessV2(liveness_v2.template(nat_t=False), bytes)
    )
    assert exchange.start()[:8] != bytes(8)


@pytest.mark.parametrize(
    "payloads",
    [
        (WANTS_14,),
        (notify_v2(NotifyType.INVALID_KE_PAYLOAD, b"\0\x13", protocol=1),),
        (Payload(43, b"vendor"), WANTS_14),
    ],
)
def test_a_gateway_that_wants_an_offered_group_passes_however_it_says_so(payloads: tuple[Payload, ...]) -> None:
    exchange = question_v2()
    verdict = exchange.receive(answer_v2(exchange, *payloads, spi_r=b"whatever")).verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.PASS, Reason.ANSWERED)


@pytest.mark.parametrize(
    ("payloads", "reason", "detail"),
    [
        ((notify_v2(NotifyType.NO_PROPOSAL_CHOSEN),), Reason.WRONG_ANSWER, "NO_PROPOSAL_CHOSEN"),
        ((notify_v2(NotifyType.INVALID_KE_PAYLOAD, b"\0\x01"),), Reason.WRONG_ANSWER, "INVALID_KE_PAYLOAD"),
        ((notify_v2(NotifyType.INVALID_KE_PAYLOAD, b"\0\x63"),), Reason.WRONG_ANSWER, "INVALID_KE_PAYLOAD"),
        ((notify_v2(NotifyType.INVALID_KE_PAYLOAD),), Reason.WRONG_ANSWER, "INVALID_KE_PAYLOAD"),
        ((notify_v2(NotifyType.AUTHENTICATION_FAILED),), Reason.AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED"),
        ((notify_v2(NotifyType.REDIRECT),), Reason.WRONG_ANSWER, "neither what was asked for nor an error"),
        ((), Reason.WRONG_ANSWER, "neither what was asked for nor an error"),
        (
            (Payload(v2.Kind.SA, b""), Payload(v2.Kind.KE, b""), Payload(v2.Kind.NONCE, b"")),
            Reason.LEAKED,
            "the offer was accepted: a half-open SA stays behind",
        ),
    ],
)
def test_every_other_ikev2_answer_fails_and_says_why(
    payloads: tuple[Payload, ...], reason: Reason, detail: str
) -> None:
    exchange = question_v2()
    verdict = exchange.receive(answer_v2(exchange, *payloads)).verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason, verdict.detail) == (Outcome.FAIL, reason, detail)


@pytest.mark.parametrize(
    "changed",
    [
        {"flags": 0},
        {"flags": v2.FLAG_RESPONSE | v2.FLAG_INITIATOR},
        {"message_id": 1},
        {"exchange": v2.Exchange.INFORMATIONAL},
        {"version": 0x10},
    ],
)
def test_an_ikev2_message_that_is_no_answer_to_the_question_is_ignored(changed: dict[str, int]) -> None:
    exchange = question_v2()
    assert exchange.receive(answer_v2(exchange, WANTS_14, **changed)) == IGNORED
    assert exchange.receive(answer_v2(exchange, WANTS_14)).verdict is not None


def test_a_cookie_is_answered_with_the_same_question_and_the_cookie_in_front() -> None:
    exchange = question_v2()
    (again,) = exchange.receive(answer_v2(exchange, notify_v2(NotifyType.COOKIE, b"a cookie"))).send
    first, second = v2.decode(exchange.start()), v2.decode(again)
    assert second[0] == first[0]._replace(next_payload=v2.Kind.NOTIFY)
    assert second[1] == (v2.cookie_payload(b"a cookie"), *first[1])
    assert exchange.receive(answer_v2(exchange, WANTS_14)).verdict is not None


def test_a_gateway_that_only_ever_sends_cookies_is_not_answered_for_ever() -> None:
    exchange = question_v2()
    turns = [
        exchange.receive(answer_v2(exchange, notify_v2(NotifyType.COOKIE, bytes((count + 1,))))) for count in range(10)
    ]
    assert sum(len(turn.send) for turn in turns) == 4
    assert all(turn.verdict is None for turn in turns)


def test_on_4500_an_answer_without_the_marker_is_garbage() -> None:
    exchange = question_v2(nat_t=True)
    plain = answer_v2(question_v2(), WANTS_14)
    for other in (plain, b"\xff", b"\0\0\0\1" + plain):
        with pytest.raises(WireError):
            exchange.receive(other)
    assert exchange.receive(bytes(4) + plain).verdict is not None


@pytest.mark.parametrize("with_cookies", [False, True])
def test_ikev1_passes_on_authentication_failed_only(*, with_cookies: bool) -> None:
    for kind in v1.NotifyType:
        exchange = question_v1()
        cookies = exchange.start()[:8] + b"\xa0\x01cookie"
        answer = answer_v1(exchange, notification_v1(kind, cookies if with_cookies else b""))
        verdict = exchange.receive(answer).verdict
        assert verdict is not None
        if kind is v1.NotifyType.AUTHENTICATION_FAILED:
            assert verdict.outcome is Outcome.PASS
        else:
            assert (verdict.outcome, verdict.reason, verdict.detail) == (Outcome.FAIL, Reason.WRONG_ANSWER, kind.name)


REFUSED = notification_v1(v1.NotifyType.AUTHENTICATION_FAILED)


@pytest.mark.parametrize(
    ("payload", "changed"),
    [
        (notification_v1(v1.NotifyType.AUTHENTICATION_FAILED, b"another!cookies!"), {}),
        (REFUSED, {"flags": v1.FLAG_ENCRYPTED}),
        (REFUSED, {"exchange": v1.Exchange.MAIN_MODE}),
        (REFUSED, {"version": 0x20}),
        (Payload(13, b"vendor"), {}),
    ],
)
def test_an_ikev1_message_that_is_no_answer_to_the_question_is_ignored(
    payload: Payload, changed: dict[str, int]
) -> None:
    exchange = question_v1()
    assert exchange.receive(answer_v1(exchange, payload, **changed)) == IGNORED
    assert exchange.receive(answer_v1(exchange, REFUSED)).verdict is not None


def test_a_gateway_that_goes_along_with_aggressive_mode_has_kept_state() -> None:
    exchange = question_v1()
    answer = answer_v1(exchange, Payload(v1.Kind.SA, b""), exchange=v1.Exchange.AGGRESSIVE, message_id=0)
    verdict = exchange.receive(answer).verdict
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, Reason.LEAKED)


@pytest.mark.parametrize("question", [question_v1, question_v2])
def test_an_abandoned_question_leaves_nothing_and_says_nothing_more(question: type) -> None:
    exchange = question()
    good = answer_v1(exchange, REFUSED) if question is question_v1 else answer_v2(exchange, WANTS_14)
    assert exchange.abandon() == ()
    assert exchange.receive(good) == IGNORED
