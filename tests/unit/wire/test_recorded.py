"""Conversations with real strongSwan and xl2tpd: replayed whole, damaged in every place, crossed, and repeated."""

from __future__ import annotations

import copy

import pytest

from popctl.model.observation import Outcome
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Exchange, Turn
from tests.unit.wire.conversations import Conversation, recorded, shown

CONVERSATIONS = {**recorded("ike.json"), **recorded("l2tp.json")}
EACH = pytest.mark.parametrize("it", CONVERSATIONS.values(), ids=CONVERSATIONS)
ANSWERED = {name: it for name, it in CONVERSATIONS.items() if it.verdict and it.verdict[0] == "pass"}
EACH_PASSED = pytest.mark.parametrize("it", ANSWERED.values(), ids=ANSWERED)


def receive(exchange: Exchange, datagram: bytes) -> Turn:
    """Take a datagram as the engine does: garbage is no reason to stop."""
    try:
        return exchange.receive(datagram)
    except WireError:
        return IGNORED


@EACH
def test_a_recorded_conversation_comes_out_the_same_byte_for_byte(it: Conversation) -> None:
    exchange = it.exchange()
    sent = [exchange.start()]
    verdict = None
    for datagram in it.received:
        assert verdict is None
        turn = exchange.receive(datagram)
        sent += turn.send
        verdict = turn.verdict
    assert tuple(sent) == it.sent
    assert shown(verdict) == it.verdict


@EACH
def test_a_retransmission_is_the_same_datagram(it: Conversation) -> None:
    exchange = it.exchange()
    assert exchange.start() == exchange.start() == it.sent[0]


@EACH
def test_truncated_answers_never_move_a_conversation(it: Conversation) -> None:
    """Whatever is cut off, the answer is refused, and the conversation goes on as if nothing had been."""
    exchange = it.exchange()
    for datagram in it.received:
        for length in range(len(datagram)):
            with pytest.raises(WireError):
                exchange.receive(datagram[:length])
        with pytest.raises(WireError):
            exchange.receive(datagram + b"\0")
        verdict = exchange.receive(datagram).verdict
    assert shown(verdict) == it.verdict


@EACH
def test_our_own_datagrams_sent_back_to_us_are_no_answer(it: Conversation) -> None:
    exchange = it.exchange()
    sent = [exchange.start()]
    for datagram in it.received:
        for own in sent:
            assert receive(exchange, own) == IGNORED
        turn = exchange.receive(datagram)
        sent += turn.send
    assert shown(turn.verdict) == it.verdict


@EACH
def test_answers_to_another_conversation_are_no_answer_to_this_one(it: Conversation) -> None:
    """A fresh SPI, cookie or tunnel id: what was right a moment ago is nobody's now."""
    exchange = it.exchange(seed="some other run")
    exchange.start()
    for other in CONVERSATIONS.values():
        for datagram in other.received:
            assert receive(exchange, datagram) == IGNORED


@EACH_PASSED
def test_repeated_answers_bring_no_verdict_of_their_own(it: Conversation) -> None:
    """Each answer comes three times; the verdict comes once, and from the last answer only."""
    exchange = it.exchange()
    verdicts = []
    for place, datagram in enumerate(it.received, start=1):
        for _ in range(3):
            verdict = receive(exchange, datagram).verdict
            if verdict is not None:
                verdicts.append((place, verdict.outcome))
    assert verdicts == [(len(it.received), Outcome.PASS)]


@EACH_PASSED
def test_one_changed_bit_is_never_a_pass_by_another_road(it: Conversation) -> None:
    """Flip each bit of the last answer: what still passes must say the same, for only unread bits may differ."""
    almost_done = it.exchange()
    for datagram in it.received[:-1]:
        almost_done.receive(datagram)
    for place in range(8 * len(it.received[-1])):
        exchange = copy.copy(almost_done)
        damaged = bytearray(it.received[-1])
        damaged[place // 8] ^= 1 << place % 8
        verdict = receive(exchange, bytes(damaged)).verdict
        if verdict is not None and verdict.outcome is Outcome.PASS:
            assert not _is_checked(it, place // 8), f"bit {place} of {it.received[-1].hex()}"


def _is_checked(it: Conversation, byte: int) -> bool:
    """Whether a byte of the last answer must be right: our SPI or tunnel id, and all that has an integrity check."""
    datagram = it.received[-1]
    if it.name in {"open", "secret-of-server-only", "secret"}:
        return byte in range(2, 12)
    at = byte - (4 if it.name.endswith("4500") else 0)
    encrypted = "deep" in it.name
    if "v1" in it.name and encrypted:
        # The hash covers identity and keys; minor version and spare flags are nobody's, nor is the padding at the end.
        return at < 17 or at == 18 or at in range(20, len(datagram) - 16)
    return encrypted or at < 8


@EACH
def test_nothing_is_said_after_the_end(it: Conversation) -> None:
    exchange = it.exchange()
    for datagram in it.received:
        exchange.receive(datagram)
    assert exchange.abandon() == ()
    for datagram in it.received:
        assert receive(exchange, datagram) == IGNORED
