"""L2TP control-plane probe: SCCRQ, SCCRP, StopCCN (RFC 2661 section 5.1). No session, so that no pppd is started.

With a tunnel secret the peer must prove that it knows it, and a challenge of the peer is answered (SCCCN) before the
tunnel is closed. Without one, a peer that asks for proof has still answered, and is told goodbye.
"""

from __future__ import annotations

import hmac
from enum import Enum, auto
from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Turn, Verdict
from popctl.wire.l2tp import (
    KNOWN,
    Avp,
    AvpType,
    ControlMessage,
    MessageType,
    challenge_response,
    decode,
    encode,
    reveal,
)

if TYPE_CHECKING:
    from popctl.wire.exchange import Entropy

_ID_BYTES = 2
_CHALLENGE_BYTES = 16
_HOST_NAME = b"popctl-probe"
_RESULT_CLEAR = bytes((0, 1, 0, 0))
"""General request to clear the control connection, no error (section 4.4.2)."""
_NOT_AUTHORIZED = 4
_TEXT_LIMIT = 64


class _State(Enum):
    REQUESTED = auto()
    PROVING = auto()
    DONE = auto()


class L2tpExchange:
    """The initiator's side of one control connection that lives for one probe."""

    __slots__ = (
        "_challenge",
        "_first",
        "_host",
        "_nr",
        "_ns",
        "_peer_id",
        "_secret",
        "_state",
        "_tunnel_id",
        "_unacknowledged",
    )

    def __init__(self, entropy: Entropy, *, secret: bytes | None = None) -> None:
        seed = entropy(_ID_BYTES + _CHALLENGE_BYTES)
        self._tunnel_id = int.from_bytes(seed[:_ID_BYTES], "big") or 1
        self._challenge = seed[_ID_BYTES:]
        self._secret = secret
        self._peer_id = 0
        self._ns = self._nr = 0
        self._host = ""
        self._unacknowledged: tuple[bytes, ...] = ()
        self._state = _State.REQUESTED
        challenge = () if secret is None else (Avp(AvpType.CHALLENGE, self._challenge),)
        self._first = self._message(
            MessageType.SCCRQ,
            Avp(AvpType.PROTOCOL_VERSION, b"\1\0"),
            Avp(AvpType.FRAMING_CAPABILITIES, b"\0\0\0\3"),
            Avp(AvpType.BEARER_CAPABILITIES, b"\0\0\0\0"),
            Avp(AvpType.HOST_NAME, _HOST_NAME),
            self._own_id(),
            Avp(AvpType.RECEIVE_WINDOW_SIZE, b"\0\4"),
            *challenge,
        )

    def start(self) -> bytes:
        """Return SCCRQ; the same one when called again."""
        return self._first

    def receive(self, datagram: bytes) -> Turn:
        """Take one datagram. Raises `WireError`."""
        message = decode(datagram)
        if self._state is _State.DONE or message.tunnel_id != self._tunnel_id or message.session_id != 0:
            return IGNORED
        # All that we sent is acknowledged, and this is the next message or a bare acknowledgement (section 5.8).
        if message.nr != self._ns or message.ns != self._nr:
            return IGNORED
        if message.type == MessageType.STOP_CCN:
            return self._on_stop(message)
        if self._state is _State.PROVING:
            self._nr += message.type is not None
            return self._passed()
        if message.type == MessageType.SCCRP:
            return self._on_reply(message._replace(avps=reveal(message.avps, self._secret)))
        return IGNORED

    def abandon(self) -> tuple[bytes, ...]:
        """Close the tunnel that the peer may have opened.

        While its id is not known, StopCCN goes to tunnel 0 (section 4.4.3); xl2tpd does not understand that and drops
        the tunnel by its own timer, after a minute. An SCCCN that may be lost goes out again, for the peer takes
        messages in their order only.
        """
        if self._state is _State.DONE:
            return ()
        before = self._unacknowledged
        self._state = _State.DONE
        return (*before, self._stop())

    def _own_id(self) -> Avp:
        return Avp(AvpType.ASSIGNED_TUNNEL_ID, self._tunnel_id.to_bytes(2, "big"))

    def _message(self, kind: MessageType, *avps: Avp) -> bytes:
        """Encode the next message of ours and count it."""
        first = Avp(AvpType.MESSAGE_TYPE, kind.to_bytes(2, "big"))
        message = ControlMessage(self._peer_id, 0, self._ns, self._nr, (first, *avps))
        self._ns += 1
        return encode(message)

    def _stop(self) -> bytes:
        return self._message(MessageType.STOP_CCN, self._own_id(), Avp(AvpType.RESULT_CODE, _RESULT_CLEAR))

    def _on_reply(self, message: ControlMessage) -> Turn:
        assigned = message.get(AvpType.ASSIGNED_TUNNEL_ID) or b""
        peer_id = int.from_bytes(assigned, "big")
        if len(assigned) != _ID_BYTES or not peer_id:
            raise WireError("no assigned tunnel id in SCCRP")
        host = message.get(AvpType.HOST_NAME) or b""
        self._peer_id, self._nr, self._host = peer_id, 1, _printable(host)
        unknown = next((avp for avp in message.avps if avp.mandatory and (avp.vendor or avp.type not in KNOWN)), None)
        if unknown is not None:
            return self._failed(f"unknown mandatory AVP {unknown.vendor}/{unknown.type}")
        if self._secret is None:
            return self._passed()
        expected = challenge_response(MessageType.SCCRP, self._secret, self._challenge)
        if not hmac.compare_digest(message.get(AvpType.CHALLENGE_RESPONSE) or b"", expected):
            return self._failed("the peer does not prove that it knows the secret", Reason.AUTHENTICATION_FAILED)
        challenge = message.get(AvpType.CHALLENGE)
        if challenge is None:
            return self._passed()
        self._state = _State.PROVING
        answer = challenge_response(MessageType.SCCCN, self._secret, challenge)
        self._unacknowledged = (self._message(MessageType.SCCCN, Avp(AvpType.CHALLENGE_RESPONSE, answer)),)
        return Turn(send=self._unacknowledged)

    def _on_stop(self, message: ControlMessage) -> Turn:
        """The peer refuses: acknowledge, so that it need not repeat itself."""
        result = message.get(AvpType.RESULT_CODE) or b""
        code = int.from_bytes(result[:2], "big")
        assigned = message.get(AvpType.ASSIGNED_TUNNEL_ID)
        if not self._peer_id and assigned is not None:
            self._peer_id = int.from_bytes(assigned[:2], "big")
        self._nr += 1
        self._state = _State.DONE
        reason = Reason.AUTHENTICATION_FAILED if code == _NOT_AUTHORIZED else Reason.WRONG_ANSWER
        text = _printable(result[4:])
        detail = f"StopCCN, result {code}, error {int.from_bytes(result[2:4], 'big')}{': ' if text else ''}{text}"
        acknowledgement = encode(ControlMessage(self._peer_id, 0, self._ns, self._nr))
        return Turn(send=(acknowledgement,), verdict=Verdict(Outcome.FAIL, reason, detail))

    def _passed(self) -> Turn:
        return self._end(Verdict(Outcome.PASS, Reason.ANSWERED, f"host {self._host}"))

    def _failed(self, detail: str, reason: Reason = Reason.WRONG_ANSWER) -> Turn:
        return self._end(Verdict(Outcome.FAIL, reason, detail))

    def _end(self, verdict: Verdict) -> Turn:
        self._state = _State.DONE
        return Turn(send=(self._stop(),), verdict=verdict)


def _printable(text: bytes) -> str:
    """Make text of the peer safe to show."""
    shown = text[:_TEXT_LIMIT].decode("ascii", "backslashreplace")
    return "".join(letter if letter.isprintable() else "?" for letter in shown)
