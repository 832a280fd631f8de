"""IKEv2 liveness: an offer that the gateway accepts, with a KE payload of a group that it does not.

A worker thread looks up the connection, matches the proposal and answers INVALID_KE_PAYLOAD (RFC 7296 section 1.2),
before any Diffie-Hellman and without keeping the SA.

Thousands of these run per second, so that a request is a patched template, and the good answer is known by comparing
slices. Every other answer goes through the full walk.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.exchange import IGNORED, Turn, Verdict
from popctl.wire.ike import v2
from popctl.wire.ike.message import (
    HEADER,
    NO_SPI,
    NON_ESP_MARKER,
    PAYLOAD_HEADER,
    Header,
    Payload,
    decode_header,
    message_of,
    with_marker,
    without_marker,
)
from popctl.wire.ike.verdicts import LEAKED, fresh_spi, refusal_v2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from popctl.wire.exchange import Entropy

FOREIGN_GROUP = 1
"""MODP-768: no gateway accepts it (RFC 8247 section 2.4: MUST NOT), whatever else it accepts."""
_FOREIGN_BYTES = 96
_NONCE_BYTES = 32
_MAX_COOKIES = 4
"""Answers to COOKIE; after that the peer only repeats itself."""

_GROUPS = (14, 19, 20, 31, 15, 16, 21, 2, 5)
_PRF = tuple(v2.Transform(v2.TransformType.PRF, prf) for prf in (5, 6, 7, 2))
_DH = tuple(v2.Transform(v2.TransformType.DH, group) for group in (*_GROUPS, FOREIGN_GROUP))
BROAD = (
    v2.Proposal(
        1,
        (
            *(v2.Transform(v2.TransformType.ENCR, 12, bits) for bits in (256, 192, 128)),
            v2.Transform(v2.TransformType.ENCR, 3),
            *_PRF,
            *(v2.Transform(v2.TransformType.INTEG, integ) for integ in (12, 13, 14, 2)),
            *_DH,
        ),
    ),
    v2.Proposal(2, (*(v2.Transform(v2.TransformType.ENCR, 20, bits) for bits in (256, 128)), *_PRF, *_DH)),
)
"""AES-CBC, 3DES and AES-GCM with everything in common use: weak ones too, for nothing is ever agreed on."""


class Template:
    """What all IKEv2 liveness questions with one offer have in common."""

    __slots__ = ("accepted", "before_ke", "before_nonce", "nat_t", "sa", "spi_at")

    def __init__(self, proposals: tuple[v2.Proposal, ...] = BROAD, *, nat_t: bool = False) -> None:
        self.nat_t = nat_t
        self.spi_at = len(NON_ESP_MARKER) if nat_t else 0
        self.sa = Payload(v2.Kind.SA, v2.encode_sa(proposals))
        whole = message_of(_header(NO_SPI), _payloads(self.sa, bytes(_FOREIGN_BYTES), bytes(_NONCE_BYTES)))
        nonce_at = len(whole) - _NONCE_BYTES
        ke_end = nonce_at - PAYLOAD_HEADER.size
        self.before_ke = whole[len(NO_SPI) : ke_end - _FOREIGN_BYTES]
        self.before_nonce = whole[ke_end:nonce_at]
        groups = {
            transform.id
            for proposal in proposals
            for transform in proposal.transforms
            if transform.type == v2.TransformType.DH and transform.id != FOREIGN_GROUP
        }
        self.accepted = {group.to_bytes(2, "big"): _passed(group) for group in groups}
        """Group wanted by the gateway, as in the notification -> what to say."""

    def passed(self, found: Iterable[v2.Notify]) -> Turn | None:
        """Return the good end when the gateway asks for a group that was offered, None otherwise."""
        wanted = (notify.data for notify in found if notify.type == v2.NotifyType.INVALID_KE_PAYLOAD)
        return next((self.accepted[group] for group in wanted if group in self.accepted), None)


def _passed(group: int) -> Turn:
    return Turn(verdict=Verdict(Outcome.PASS, Reason.ANSWERED, f"INVALID_KE_PAYLOAD, wants group {group}"))


def _header(spi: bytes) -> Header:
    return Header(spi, NO_SPI, v2.Kind.SA, v2.VERSION, v2.Exchange.IKE_SA_INIT, v2.FLAG_INITIATOR, 0)


def _payloads(sa: Payload, public: bytes, nonce: bytes) -> tuple[Payload, ...]:
    return (sa, Payload(v2.Kind.KE, v2.encode_ke(FOREIGN_GROUP, public)), Payload(v2.Kind.NONCE, nonce))


_GOOD = HEADER.pack(b"", b"", v2.Kind.NOTIFY, v2.VERSION, v2.Exchange.IKE_SA_INIT, v2.FLAG_RESPONSE, 0, 38)[16:] + (
    bytes.fromhex("0000000a 00000011")
)
"""The good answer from the next payload field up to the group: one Notify, INVALID_KE_PAYLOAD, no SPI, two bytes."""


class LivenessV2:
    """IKE_SA_INIT with a KE of a foreign group; PASS is INVALID_KE_PAYLOAD that asks for an offered one."""

    __slots__ = ("_cookies", "_done", "_first", "_seed", "_spi", "_template")

    def __init__(self, template: Template, entropy: Entropy) -> None:
        seed = entropy(8 + _FOREIGN_BYTES + _NONCE_BYTES)
        marker = NON_ESP_MARKER if template.nat_t else b""
        self._template = template
        self._seed = seed
        self._spi = fresh_spi(seed)
        self._cookies = 0
        self._done = False
        self._first = b"".join(
            (
                marker,
                self._spi,
                template.before_ke,
                seed[8 : 8 + _FOREIGN_BYTES],
                template.before_nonce,
                seed[-_NONCE_BYTES:],
            )
        )

    def start(self) -> bytes:
        """Return the first datagram; the same one when called again."""
        return self._first

    def receive(self, datagram: bytes) -> Turn:
        """Take one datagram. Raises `WireError`."""
        at = self._template.spi_at
        if (
            datagram[at + 16 : at + 36] == _GOOD
            and datagram[at : at + 8] == self._spi
            and len(datagram) == at + 38
            and not self._done
            and datagram[:at] == NON_ESP_MARKER[:at]
        ):
            passed = self._template.accepted.get(datagram[at + 36 :])
            if passed is not None:
                self._done = True
                return passed
        return self._read(datagram)

    def _read(self, datagram: bytes) -> Turn:
        message = without_marker(datagram, nat_t=self._template.nat_t)
        header = decode_header(message)
        if self._done or not self._is_for_us(header):
            return IGNORED
        _, payloads = v2.decode(message)
        found = v2.notifies(payloads)
        cookie = v2.cookie_of(found)
        if cookie is not None:
            return self._again(cookie)
        self._done = True
        if {v2.Kind.SA, v2.Kind.KE} <= {payload.type for payload in payloads}:
            return LEAKED
        return self._template.passed(found) or Turn(verdict=refusal_v2(found))

    def _is_for_us(self, header: Header) -> bool:
        return (
            header.spi_i == self._spi
            and header.major == v2.VERSION >> 4
            and header.exchange == v2.Exchange.IKE_SA_INIT
            and header.flags & (v2.FLAG_RESPONSE | v2.FLAG_INITIATOR) == v2.FLAG_RESPONSE
            and header.message_id == 0
        )

    def _again(self, cookie: bytes) -> Turn:
        """RFC 7296 section 2.6: the same request once more, the cookie first, everything else unchanged."""
        self._cookies += 1
        if self._cookies > _MAX_COOKIES:
            return IGNORED
        public, nonce = self._seed[8 : 8 + _FOREIGN_BYTES], self._seed[-_NONCE_BYTES:]
        payloads = (v2.cookie_payload(cookie), *_payloads(self._template.sa, public, nonce))
        return Turn(send=(with_marker(message_of(_header(self._spi), payloads), nat_t=self._template.nat_t),))

    def abandon(self) -> tuple[bytes, ...]:
        """Nothing is left to clean up."""
        self._done = True
        return ()


@cache
def template(*, nat_t: bool) -> Template:
    """Return the template with the default offer."""
    return Template(nat_t=nat_t)
