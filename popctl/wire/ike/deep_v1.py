"""A whole IKEv1 phase 1: Main Mode with a pre-shared key in six messages, then Delete (RFC 2409 section 5.4).

PASS means that the daemon did Diffie-Hellman, knows the pre-shared key, and proved to be who it should be. IKEv1
answers no Delete, so that the verdict comes with the Delete and not after it.
"""

from __future__ import annotations

import hmac
from enum import Enum, auto
from itertools import product
from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Turn, Verdict
from popctl.wire.ike import dh, keys_v1, v1
from popctl.wire.ike.identity import decode_identity, encode_identity
from popctl.wire.ike.message import (
    HEADER,
    NO_SPI,
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
from popctl.wire.ike.v1 import Attribute, Exchange, Kind, NotifyType
from popctl.wire.ike.verdicts import failed, fresh_spi, refusal_v1

if TYPE_CHECKING:
    from popctl.wire.exchange import Entropy
    from popctl.wire.ike.deep_v2 import Credentials

_NONCE_BYTES = 32
_NONCE_RANGE = range(8, 257)
_BLOCK = 16
_NEGOTIATED = (Attribute.ENCRYPTION, Attribute.KEY_BITS, Attribute.HASH, Attribute.GROUP, Attribute.AUTHENTICATION)
_ABOUT_KEYS = frozenset(
    {
        NotifyType.AUTHENTICATION_FAILED,
        NotifyType.INVALID_KEY_INFORMATION,  # strongSwan: no key for this peer
        NotifyType.INVALID_HASH_INFORMATION,
        NotifyType.INVALID_ID_INFORMATION,
        NotifyType.PAYLOAD_MALFORMED,  # what a message looks like that was encrypted with another key
    }
)


def offer(
    *,
    key_bits: tuple[int, ...] = (256, 128),
    hashes: tuple[int, ...] = (4, 2),
    groups: tuple[int, ...] = (dh.MODP_2048, dh.ECP_256),
) -> tuple[v1.Transform, ...]:
    """Build the transforms to offer: AES-CBC of `key_bits` with every hash and group, in this order."""
    return tuple(
        v1.transform(number, encryption=(keys_v1.AES_CBC, bits), hash_id=hash_id, group=group)
        for number, (bits, hash_id, group) in enumerate(product(key_bits, hashes, groups), start=1)
    )


class _State(Enum):
    SA = auto()
    KE = auto()
    AUTH = auto()
    DONE = auto()


class DeepV1:
    """The initiator's side of one ISAKMP SA that lives for one probe."""

    def __init__(
        self,
        credentials: Credentials,
        entropy: Entropy,
        *,
        nat_t: bool = False,
        transforms: tuple[v1.Transform, ...] | None = None,
    ) -> None:
        self._credentials = credentials
        self._entropy = entropy
        self._nat_t = nat_t
        self._transforms = offer() if transforms is None else transforms
        self._sa = v1.encode_sa(self._transforms)
        self._cookie_i = fresh_spi(entropy(8))
        self._cookie_r = NO_SPI
        self._nonce = entropy(_NONCE_BYTES)
        self._suite: keys_v1.Suite | None = None
        self._pair: dh.KeyPair | None = None
        self._keys: keys_v1.Keys | None = None
        self._last_block = b""
        """Of the ciphertext of phase 1, from either side: what the next IV is made of."""
        self._unreadable = False
        self._state = _State.SA
        self._sent = [self._main_mode((Payload(Kind.SA, self._sa),))]

    def start(self) -> bytes:
        """Return the first datagram; the same one when called again."""
        return self._sent[0]

    def receive(self, datagram: bytes) -> Turn:
        """Take one datagram. Raises `WireError`."""
        if datagram in self._sent:
            return IGNORED  # IKEv1 has no bit for the direction: a reflected message would look like an answer
        message = without_marker(datagram, nat_t=self._nat_t)
        header = decode_header(message)
        if self._state is _State.DONE or not self._is_for_us(header):
            return IGNORED
        encrypted = bool(header.flags & v1.FLAG_ENCRYPTED)
        if header.exchange == Exchange.INFORMATIONAL:
            return self._on_informational(message, header, encrypted=encrypted)
        if encrypted is not (self._state is _State.AUTH):
            return IGNORED  # a repetition of an earlier message
        return self._on_main_mode(message, header)

    def abandon(self) -> tuple[bytes, ...]:
        """Nothing can be done.

        The IV of a Delete comes from the last message of phase 1: as long as that has not arrived, no Delete can be
        written that the responder could read. Once it has, the verdict takes the Delete along.
        """
        self._state = _State.DONE
        return ()

    def _is_for_us(self, header: Header) -> bool:
        """Our cookie, the peer's cookie once it is known, and an exchange that we are in (RFC 2408 section 3.1)."""
        if header.spi_i != self._cookie_i or header.major != v1.VERSION >> 4:
            return False
        if self._state is not _State.SA and header.spi_r != self._cookie_r:
            return False
        if header.exchange == Exchange.MAIN_MODE:
            return header.message_id == 0 and header.spi_r != NO_SPI
        return header.exchange == Exchange.INFORMATIONAL

    def _header(self, exchange: Exchange = Exchange.MAIN_MODE, flags: int = 0, message_id: int = 0) -> Header:
        return Header(self._cookie_i, self._cookie_r, 0, v1.VERSION, exchange, flags, message_id)

    def _main_mode(self, payloads: tuple[Payload, ...]) -> bytes:
        return with_marker(message_of(self._header(), payloads), nat_t=self._nat_t)

    def _encrypted(self, header: Header, payloads: tuple[Payload, ...], keys: keys_v1.Keys, iv: bytes) -> bytes:
        secret = keys.encrypt(payloads, iv)
        return with_marker(encode(header._replace(next_payload=payloads[0].type), secret), nat_t=self._nat_t)

    def _on_main_mode(self, message: bytes, header: Header) -> Turn:
        if self._keys is not None:
            return self._on_auth(self._keys, message, header)
        payloads = decode_payloads(header.next_payload, message[HEADER.size :])
        return self._on_sa(payloads, header) if self._state is _State.SA else self._on_ke(payloads)

    def _on_sa(self, payloads: tuple[Payload, ...], header: Header) -> Turn:
        sa = only(payloads, Kind.SA)
        if sa is None:
            raise WireError("no SA payload in message 2")
        chosen = v1.decode_sa(sa)
        offered = {_negotiated(transform): transform for transform in self._transforms}
        agreed = offered.get(_negotiated(chosen[0])) if len(chosen) == 1 else None
        if agreed is None:
            return self._end(failed("chose a transform that was not offered"))
        # From here on our own words: the answer has no say in what they mean.
        attributes = dict(agreed.attributes)
        hash_name = keys_v1.HASHES[attributes[Attribute.HASH]]
        self._suite = keys_v1.Suite(key_bits=attributes[Attribute.KEY_BITS], hash_name=hash_name)
        self._pair = dh.generate(attributes[Attribute.GROUP], self._entropy)
        self._cookie_r = header.spi_r
        self._state = _State.KE
        return self._send(self._main_mode((Payload(Kind.KE, self._pair.public), Payload(Kind.NONCE, self._nonce))))

    def _on_ke(self, payloads: tuple[Payload, ...]) -> Turn:
        public, nonce = only(payloads, Kind.KE), only(payloads, Kind.NONCE)
        if public is None or nonce is None:
            return IGNORED  # message 2 once more
        if len(nonce) not in _NONCE_RANGE:
            raise WireError("no usable nonce in message 4", found=nonce)
        if self._pair is None or self._suite is None:
            raise AssertionError("state KE without a key pair")
        parties = keys_v1.Parties(
            cookie_i=self._cookie_i,
            cookie_r=self._cookie_r,
            public_i=self._pair.public,
            public_r=public,
            nonce_i=self._nonce,
            nonce_r=nonce,
            sa=self._sa,
        )
        keys = keys_v1.Keys.derive(self._suite, parties, self._credentials.psk, self._pair.shared(public))
        own = encode_identity(self._credentials.local)
        proof = (Payload(Kind.ID, own), Payload(Kind.HASH, keys.hash_i(own)))
        sent = self._encrypted(self._header(flags=v1.FLAG_ENCRYPTED), proof, keys, keys.first_iv())
        self._keys, self._last_block, self._state = keys, sent[-_BLOCK:], _State.AUTH
        return self._send(sent)

    def _on_auth(self, keys: keys_v1.Keys, message: bytes, header: Header) -> Turn:
        payloads = keys.decrypt(header.next_payload, message[HEADER.size :], self._last_block)
        id_body, proof = only(payloads, Kind.ID), only(payloads, Kind.HASH)
        if id_body is None or proof is None:
            raise WireError("no identity or no proof in message 6")
        identity = decode_identity(id_body)
        remote = self._credentials.remote
        if not hmac.compare_digest(proof, keys.hash_r(id_body)):
            verdict = failed("the gateway does not prove that it knows the key", Reason.AUTHENTICATION_FAILED)
        elif remote is not None and not remote.matches(identity):
            verdict = failed(f"the gateway proves to be {identity}", Reason.AUTHENTICATION_FAILED)
        else:
            verdict = Verdict(Outcome.PASS, Reason.ANSWERED, f"authenticated {identity}")
        return self._end(verdict, (self._delete(keys, message[-_BLOCK:]),))

    def _delete(self, keys: keys_v1.Keys, last_block: bytes) -> bytes:
        message_id = int.from_bytes(self._entropy(4), "big") or 1
        delete = v1.delete_ike_sa(self._cookie_i, self._cookie_r)
        proof = Payload(Kind.HASH, keys.hash_1(message_id, encode_payloads((delete,))))
        header = self._header(Exchange.INFORMATIONAL, v1.FLAG_ENCRYPTED, message_id)
        return self._encrypted(header, (proof, delete), keys, keys.later_iv(last_block, message_id))

    def _on_informational(self, message: bytes, header: Header, *, encrypted: bool) -> Turn:
        body = message[HEADER.size :]
        if not encrypted:
            payloads = decode_payloads(header.next_payload, body)
        elif self._keys is None:
            return IGNORED
        else:
            try:
                payloads = self._opened(self._keys, header, body)
            except WireError:
                return self._on_unreadable()
        verdict = refusal_v1(payloads, self._cookie_i, about_keys=_ABOUT_KEYS)
        return IGNORED if verdict is None else self._end(verdict)

    def _opened(self, keys: keys_v1.Keys, header: Header, body: bytes) -> tuple[Payload, ...]:
        """Decrypt an Informational message and check its HASH (RFC 2409 section 5.7)."""
        iv = keys.later_iv(self._last_block, header.message_id)
        payloads = keys.decrypt(header.next_payload, body, iv)
        proof, rest = payloads[:1], payloads[1:]
        if not proof or not hmac.compare_digest(proof[0].body, keys.hash_1(header.message_id, encode_payloads(rest))):
            raise WireError("hash of Informational is wrong", found=body)
        return rest

    def _on_unreadable(self) -> Turn:
        """Judge an Informational message that our keys do not open, though it carries both cookies.

        A gateway with another PSK complains under its own keys. But it may also have sent message 6, which was lost,
        and speak with the IV that follows from it. Message 5 once more tells: message 6 comes again, or a complaint.
        """
        if not self._unreadable:
            self._unreadable = True
            return Turn(send=(self._sent[-1],))
        return self._end(failed("the gateway answers with other keys", Reason.AUTHENTICATION_FAILED))

    def _send(self, datagram: bytes) -> Turn:
        self._sent.append(datagram)
        return Turn(send=(datagram,))

    def _end(self, verdict: Verdict, clean_up: tuple[bytes, ...] = ()) -> Turn:
        self._state = _State.DONE
        return Turn(send=clean_up, verdict=verdict)


def _negotiated(transform: v1.Transform) -> tuple[int | None, ...]:
    """Return what was negotiated: everything but the lifetime, which each side keeps for itself."""
    return tuple(transform.get(attribute) for attribute in _NEGOTIATED)
