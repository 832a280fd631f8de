"""The L2TP probe with peers that lie, refuse or ask for proof. The honest ones are in test_recorded."""

from __future__ import annotations

import pytest

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Turn
from popctl.wire.l2tp import (
    Avp,
    AvpType,
    ControlMessage,
    MessageType,
    challenge_response,
    decode,
    encode,
    hide,
)
from popctl.wire.l2tp_exchange import L2tpExchange
from tests.unit.wire.conversations import Seeded

SECRET = b"tunnel secret"
PEER_ID = 0x1234


def probe(secret: bytes | None = None) -> L2tpExchange:
    return L2tpExchange(Seeded("l2tp"), secret=secret)


def own_id(exchange: L2tpExchange) -> int:
    return int.from_bytes(decode(exchange.start()).get(AvpType.ASSIGNED_TUNNEL_ID) or b"", "big")


def reply(exchange: L2tpExchange, *avps: Avp, kind: int = MessageType.SCCRP, **changed: int) -> bytes:
    """Return what an LNS says, by default SCCRP."""
    own = (Avp(AvpType.HOST_NAME, b"lns"), Avp(AvpType.ASSIGNED_TUNNEL_ID, PEER_ID.to_bytes(2, "big")))
    message = ControlMessage(own_id(exchange), 0, 0, 1, (Avp(0, kind.to_bytes(2, "big")), *own, *avps))
    return encode(message._replace(**changed))


def proof(exchange: L2tpExchange) -> Avp:
    challenge = decode(exchange.start()).get(AvpType.CHALLENGE) or b""
    return Avp(AvpType.CHALLENGE_RESPONSE, challenge_response(MessageType.SCCRP, SECRET, challenge))


def ended(turn: Turn) -> tuple[Outcome, Reason, str]:
    assert turn.verdict is not None
    return turn.verdict.outcome, turn.verdict.reason, turn.verdict.detail


def assert_closes(datagram: bytes, exchange: L2tpExchange, *, peer_id: int, ns: int, nr: int) -> None:
    message = decode(datagram)
    assert message[:4] == (peer_id, 0, ns, nr)
    assert message.type == MessageType.STOP_CCN
    assert message.get(AvpType.RESULT_CODE) == bytes.fromhex("0001 0000")
    assert message.get(AvpType.ASSIGNED_TUNNEL_ID) == own_id(exchange).to_bytes(2, "big")


def test_the_request_has_what_section_6_1_demands() -> None:
    message = decode(probe().start())
    assert message[:4] == (0, 0, 0, 0)
    kinds = [avp.type for avp in message.avps]
    assert kinds == [0, 2, 3, 4, 7, 9, 10]
    assert all(avp.mandatory for avp in message.avps)
    assert own_id(L2tpExchange(bytes)) != 0


def test_an_answer_passes_and_the_tunnel_is_closed_with_it() -> None:
    exchange = probe()
    turn = exchange.receive(reply(exchange))
    assert ended(turn) == (Outcome.PASS, Reason.ANSWERED, "host lns")
    assert_closes(turn.send[0], exchange, peer_id=PEER_ID, ns=1, nr=1)
    assert exchange.abandon() == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"tunnel_id": 0},
        {"tunnel_id": 7},
        {"session_id": 1},
        {"ns": 1},
        {"nr": 0},
        {"nr": 2},
        {"kind": 6},
        {"kind": 2**15},
    ],
)
def test_a_message_that_is_no_answer_to_our_request_is_ignored(changed: dict[str, int]) -> None:
    exchange = probe()
    assert exchange.receive(reply(exchange, **changed)) == IGNORED
    assert exchange.receive(reply(exchange)).verdict is not None


def test_a_bare_acknowledgement_of_the_request_is_no_answer_yet() -> None:
    exchange = probe()
    assert exchange.receive(encode(ControlMessage(own_id(exchange), 0, 0, 1))) == IGNORED


@pytest.mark.parametrize("value", [b"", b"\0\0", b"\0\1\0"])
def test_an_answer_without_a_tunnel_id_is_garbage(value: bytes) -> None:
    exchange = probe()
    kind = Avp(0, b"\0\2")
    with pytest.raises(WireError, match="no assigned tunnel id"):
        exchange.receive(
            encode(ControlMessage(own_id(exchange), 0, 0, 1, (kind, Avp(AvpType.ASSIGNED_TUNNEL_ID, value))))
        )


def test_an_unknown_mandatory_avp_fails_and_an_optional_one_does_not() -> None:
    exchange = probe()
    turn = exchange.receive(reply(exchange, Avp(99, b"x", vendor=9)))
    assert ended(turn) == (Outcome.FAIL, Reason.WRONG_ANSWER, "unknown mandatory AVP 9/99")
    assert_closes(turn.send[0], exchange, peer_id=PEER_ID, ns=1, nr=1)
    other = probe()
    assert ended(other.receive(reply(other, Avp(99, b"x", mandatory=False))))[0] is Outcome.PASS


def test_a_refusal_fails_with_its_code_and_is_acknowledged() -> None:
    exchange = probe()
    result = Avp(AvpType.RESULT_CODE, bytes.fromhex("0002 0004") + b"no room\x1b[2J")
    turn = exchange.receive(reply(exchange, result, kind=MessageType.STOP_CCN))
    assert ended(turn) == (Outcome.FAIL, Reason.WRONG_ANSWER, "StopCCN, result 2, error 4: no room?[2J")
    assert decode(turn.send[0]) == ControlMessage(PEER_ID, 0, 1, 1)


def test_a_refusal_for_want_of_authorization_is_an_authentication_failure() -> None:
    exchange = probe()
    result = Avp(AvpType.RESULT_CODE, b"\0\4")
    turn = exchange.receive(reply(exchange, result, kind=MessageType.STOP_CCN))
    assert ended(turn) == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED, "StopCCN, result 4, error 0")


def test_with_a_secret_the_peer_must_prove_itself() -> None:
    exchange = probe(SECRET)
    assert ended(exchange.receive(reply(exchange, proof(exchange))))[0] is Outcome.PASS


@pytest.mark.parametrize("wrong", [(), (Avp(AvpType.CHALLENGE_RESPONSE, bytes(16)),)])
def test_with_a_secret_a_peer_without_proof_fails(wrong: tuple[Avp, ...]) -> None:
    exchange = probe(SECRET)
    turn = exchange.receive(reply(exchange, *wrong))
    problem = "the peer does not prove that it knows the secret"
    assert ended(turn) == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED, problem)
    assert_closes(turn.send[0], exchange, peer_id=PEER_ID, ns=1, nr=1)


def test_a_challenge_is_answered_and_the_acknowledgement_awaited() -> None:
    exchange = probe(SECRET)
    turn = exchange.receive(reply(exchange, proof(exchange), Avp(AvpType.CHALLENGE, b"prove it")))
    assert turn.verdict is None
    connected = decode(turn.send[0])
    assert (connected.type, *connected[:4]) == (MessageType.SCCCN, PEER_ID, 0, 1, 1)
    expected = challenge_response(MessageType.SCCCN, SECRET, b"prove it")
    assert connected.get(AvpType.CHALLENGE_RESPONSE) == expected
    assert exchange.receive(reply(exchange, proof(exchange))) == IGNORED
    turn = exchange.receive(encode(ControlMessage(own_id(exchange), 0, 1, 2)))
    assert ended(turn) == (Outcome.PASS, Reason.ANSWERED, "host lns")
    assert_closes(turn.send[0], exchange, peer_id=PEER_ID, ns=2, nr=1)


def test_a_hello_acknowledges_our_proof_as_well() -> None:
    exchange = probe(SECRET)
    exchange.receive(reply(exchange, proof(exchange), Avp(AvpType.CHALLENGE, b"prove it")))
    turn = exchange.receive(reply(exchange, kind=MessageType.HELLO, ns=1, nr=2))
    assert ended(turn)[0] is Outcome.PASS
    assert_closes(turn.send[0], exchange, peer_id=PEER_ID, ns=2, nr=2)


def test_a_peer_that_does_not_accept_our_proof_fails() -> None:
    exchange = probe(SECRET)
    exchange.receive(reply(exchange, proof(exchange), Avp(AvpType.CHALLENGE, b"prove it")))
    result = Avp(AvpType.RESULT_CODE, bytes.fromhex("0004 0000"))
    turn = exchange.receive(reply(exchange, result, kind=MessageType.STOP_CCN, ns=1, nr=2))
    assert ended(turn)[:2] == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED)


def test_hidden_avps_are_read_with_the_secret() -> None:
    exchange = probe(SECRET)
    vector = Avp(AvpType.RANDOM_VECTOR, b"0123456789abcdef")
    hidden = hide(Avp(AvpType.ASSIGNED_TUNNEL_ID, b"\x56\x78"), SECRET, vector.value)
    avps = (Avp(0, b"\0\2"), vector, hidden, proof(exchange))
    turn = exchange.receive(encode(ControlMessage(own_id(exchange), 0, 0, 1, avps)))
    assert_closes(turn.send[0], exchange, peer_id=0x5678, ns=1, nr=1)


def test_abandoned_without_an_answer_it_closes_the_tunnel_by_our_own_id() -> None:
    exchange = probe()
    (stop,) = exchange.abandon()
    assert_closes(stop, exchange, peer_id=0, ns=1, nr=0)
    assert exchange.abandon() == ()
    assert exchange.receive(reply(exchange)) == IGNORED


def test_abandoned_after_our_proof_it_closes_the_tunnel_of_the_peer() -> None:
    exchange = probe(SECRET)
    turn = exchange.receive(reply(exchange, proof(exchange), Avp(AvpType.CHALLENGE, b"prove it")))
    again, stop = exchange.abandon()
    assert (again,) == turn.send
    assert_closes(stop, exchange, peer_id=PEER_ID, ns=2, nr=1)
