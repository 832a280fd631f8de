"""A little IKEv2 responder that can be told to misbehave, for answers that no honest daemon gives."""

from __future__ import annotations

from dataclasses import replace

from popctl.wire.ike import dh, keys_v2, v2
from popctl.wire.ike.identity import encode_identity, parse_identity
from popctl.wire.ike.message import HEADER, Header, Payload, message_of, only
from popctl.wire.ike.v2 import Exchange, Kind, Notify, NotifyType, Proposal, Transform, TransformType
from tests.unit.wire.conversations import Seeded

CHILDLESS = Payload(Kind.NOTIFY, v2.encode_notify(Notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED)))
CHOSEN = (
    Transform(TransformType.ENCR, 12, 128),
    Transform(TransformType.PRF, 7),
    Transform(TransformType.INTEG, 14),
    Transform(TransformType.DH, 14),
)


class Responder:
    """The other side of one IKE SA. `answer_*` read a request and return what an honest gateway says to it."""

    def __init__(self, *, psk: bytes = b"psk", identity: str = "vpn.example.net") -> None:
        self.psk = psk
        self.identity = encode_identity(parse_identity(identity))
        self.spi = b"\xa0\x01labels"
        self.entropy = Seeded("responder")
        self.nonce = self.entropy(32)
        self.request = b""
        self.answer = b""
        self.keys: keys_v2.Keys | None = None

    def header(self, exchange: Exchange, message_id: int) -> Header:
        """Return the header of an answer."""
        return Header(self.request[:8], self.spi, 0, v2.VERSION, exchange, v2.FLAG_RESPONSE, message_id)

    def refuse(self, request: bytes, *notifies: Notify) -> bytes:
        """Answer IKE_SA_INIT with notifications in clear."""
        self.request = request
        payloads = (Payload(Kind.NOTIFY, v2.encode_notify(notify)) for notify in notifies)
        return message_of(self.header(Exchange.IKE_SA_INIT, 0)._replace(spi_r=bytes(8)), payloads)

    def answer_init(
        self, request: bytes, *, chosen: tuple[Transform, ...] = CHOSEN, more: tuple[Payload, ...] = (CHILDLESS,)
    ) -> bytes:
        """Accept IKE_SA_INIT."""
        self.request = request
        header, payloads = v2.decode(request)
        group, public = v2.decode_ke(only(payloads, Kind.KE) or b"")
        pair = dh.generate(group, self.entropy)
        nonce = only(payloads, Kind.NONCE) or b""
        parties = keys_v2.Parties(spi_i=header.spi_i, spi_r=self.spi, nonce_i=nonce, nonce_r=self.nonce)
        keys = keys_v2.Keys.derive(keys_v2.Suite.of(chosen), parties, pair.shared(public))
        self.keys = replace(keys, ours=keys.theirs, theirs=keys.ours)
        own = (
            Payload(Kind.SA, v2.encode_sa((Proposal(1, chosen),))),
            Payload(Kind.KE, v2.encode_ke(group, pair.public)),
            Payload(Kind.NONCE, self.nonce),
        )
        self.answer = message_of(self.header(Exchange.IKE_SA_INIT, 0), (*own, *more))
        return self.answer

    def opened(self, request: bytes) -> tuple[Payload, ...]:
        """Decrypt a request; its integrity is checked with our own second look at the keys."""
        assert self.keys is not None
        return self.keys.open(request)

    def protected(self, exchange: Exchange, message_id: int, *payloads: Payload) -> bytes:
        """Return an encrypted answer."""
        assert self.keys is not None
        return self.keys.protect(self.header(exchange, message_id), payloads, self.entropy(16))

    def answer_auth(self, *, psk: bytes | None = None) -> bytes:
        """Prove our identity with the PSK, or another one."""
        assert self.keys is not None
        _, payloads = v2.decode(self.request)
        nonce = only(payloads, Kind.NONCE) or b""
        # The same proof as the initiator's, with the roles swapped: its nonce after our first answer.
        swapped = replace(self.keys, parties=replace(self.keys.parties, nonce_r=nonce))
        proof = swapped.auth_of_initiator(self.psk if psk is None else psk, self.answer, self.identity)
        return self.protected(Exchange.IKE_AUTH, 1, Payload(Kind.ID_R, self.identity), Payload(Kind.AUTH, proof))


def message_id(message: bytes) -> int:
    """Return the message id of a message."""
    return int(HEADER.unpack_from(message)[6])
