"""IKEv1 liveness: Aggressive Mode with a pre-shared key, which gateways refuse, after matching the proposal.

A worker thread looks up the connection, matches the proposal and answers AUTHENTICATION-FAILED, before any
Diffie-Hellman and without keeping the SA. Built for speed like its sister of IKEv2.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.exchange import IGNORED, Turn, Verdict
from popctl.wire.ike import v1
from popctl.wire.ike.identity import Identity, IdType, encode_identity
from popctl.wire.ike.message import (
    HEADER,
    NO_SPI,
    NON_ESP_MARKER,
    PAYLOAD_HEADER,
    Header,
    Payload,
    decode_header,
    decode_payloads,
    message_of,
    without_marker,
)
from popctl.wire.ike.verdicts import LEAKED, fresh_spi, refusal_v1

if TYPE_CHECKING:
    from popctl.wire.exchange import Entropy

_KE_BYTES = 96
_NONCE_BYTES = 32

BROAD = tuple(
    v1.transform(number, encryption=encryption, hash_id=hash_id, group=group)
    for number, (encryption, hash_id, group) in enumerate(
        product(((7, 256), (7, 128), (5, None)), (4, 2), (14, 2, 19)), start=1
    )
)
"""AES-CBC and 3DES, SHA-256 and SHA-1, MODP-2048, MODP-1024 and ECP-256, with a pre-shared key."""

_PASS = Turn(verdict=Verdict(Outcome.PASS, Reason.ANSWERED, "AUTHENTICATION_FAILED, as it should"))


class Template:
    """What all IKEv1 liveness questions with one offer have in common."""

    __slots__ = ("before_ke", "before_nonce", "nat_t", "spi_at", "tail")

    def __init__(self, transforms: tuple[v1.Transform, ...] = BROAD, *, nat_t: bool = False) -> None:
        self.nat_t = nat_t
        self.spi_at = len(NON_ESP_MARKER) if nat_t else 0
        identity = encode_identity(Identity(IdType.FQDN, b"probe.invalid"))
        whole = message_of(
            Header(NO_SPI, NO_SPI, v1.Kind.SA, v1.VERSION, v1.Exchange.AGGRESSIVE, 0, 0),
            (
                Payload(v1.Kind.SA, v1.encode_sa(transforms)),
                Payload(v1.Kind.KE, bytes(_KE_BYTES)),
                Payload(v1.Kind.NONCE, bytes(_NONCE_BYTES)),
                Payload(v1.Kind.ID, identity),
            ),
        )
        tail_at = len(whole) - PAYLOAD_HEADER.size - len(identity)
        nonce_at = tail_at - _NONCE_BYTES
        ke_end = nonce_at - PAYLOAD_HEADER.size
        self.before_ke = whole[len(NO_SPI) : ke_end - _KE_BYTES]
        self.before_nonce = whole[ke_end:nonce_at]
        self.tail = whole[tail_at:]


_WANTED = frozenset({v1.NotifyType.AUTHENTICATION_FAILED})
_GOOD_START = bytes((v1.Kind.NOTIFICATION, v1.VERSION, v1.Exchange.INFORMATIONAL, 0))
_GOOD_END = bytes.fromhex("00000038 0000001c 00000001 01 10 0018")
"""After the message id: length 56, one Notification, IPsec DOI, ISAKMP, both cookies, AUTHENTICATION-FAILED."""


class LivenessV1:
    """Aggressive Mode with a pre-shared key; PASS is AUTHENTICATION-FAILED, said after the proposal was matched.

    The KE payload is too short for every offered group: a gateway that does allow Aggressive Mode with a pre-shared key
    cannot open an SA with it either.
    """

    __slots__ = ("_cookie", "_done", "_first", "_template")

    def __init__(self, template: Template, entropy: Entropy) -> None:
        seed = entropy(8 + _KE_BYTES + _NONCE_BYTES)
        marker = NON_ESP_MARKER if template.nat_t else b""
        self._template = template
        self._cookie = fresh_spi(seed)
        self._done = False
        self._first = b"".join(
            (
                marker,
                self._cookie,
                template.before_ke,
                seed[8 : 8 + _KE_BYTES],
                template.before_nonce,
                seed[-_NONCE_BYTES:],
                template.tail,
            )
        )

    def start(self) -> bytes:
        """Return the first datagram; the same one when called again."""
        return self._first

    def receive(self, datagram: bytes) -> Turn:
        """Take one datagram. Raises `WireError`."""
        at = self._template.spi_at
        if (
            datagram[at + 24 : at + 40] == _GOOD_END
            and datagram[at : at + 8] == self._cookie == datagram[at + 40 : at + 48]
            and datagram[at + 16 : at + 20] == _GOOD_START
            and len(datagram) == at + 56
            and not self._done
            and datagram[:at] == NON_ESP_MARKER[:at]
        ):
            self._done = True
            return _PASS
        return self._read(datagram)

    def _read(self, datagram: bytes) -> Turn:
        message = without_marker(datagram, nat_t=self._template.nat_t)
        header = decode_header(message)
        if self._done or header.spi_i != self._cookie or header.major != v1.VERSION >> 4:
            return IGNORED
        if header.flags & v1.FLAG_ENCRYPTED:
            return IGNORED
        payloads = decode_payloads(header.next_payload, message[HEADER.size :])
        if header.exchange == v1.Exchange.AGGRESSIVE and header.spi_r != NO_SPI:
            self._done = True
            return LEAKED
        if header.exchange != v1.Exchange.INFORMATIONAL:
            return IGNORED
        refused = refusal_v1(payloads, self._cookie, about_keys=_WANTED)
        if refused is None:
            return IGNORED
        self._done = True
        return _PASS if refused.reason is Reason.AUTHENTICATION_FAILED else Turn(verdict=refused)

    def abandon(self) -> tuple[bytes, ...]:
        """Nothing is left to clean up."""
        self._done = True
        return ()


@cache
def template(*, nat_t: bool) -> Template:
    """Return the template with the default offer."""
    return Template(nat_t=nat_t)
