"""A whole IKEv2 authentication without a CHILD_SA: IKE_SA_INIT, IKE_AUTH with a PSK (RFC 6023), Delete.

PASS means that the daemon did Diffie-Hellman, knows the pre-shared key, proved to be who it should be, and took the SA
down again when told so. Only what passed the integrity check is believed once there are keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED, Turn, Verdict
from popctl.wire.ike import dh, keys_v2, v2
from popctl.wire.ike.identity import Identity, decode_identity, encode_identity
from popctl.wire.ike.message import (
    NO_SPI,
    Header,
    Payload,
    decode_header,
    message_of,
    only,
    with_marker,
    without_marker,
)
from popctl.wire.ike.v2 import Exchange, Kind, NotifyType, Proposal, Transform, TransformType
from popctl.wire.ike.verdicts import failed, fresh_spi, refusal_v2

if TYPE_CHECKING:
    from popctl.wire.exchange import Entropy

GROUPS = (dh.MODP_2048, dh.ECP_256)
"""Offered groups; the KE payload is for the first one until the responder asks for another."""
_NONCE_BYTES = 32
_NONCE_RANGE = range(16, 257)
_IV_BYTES = 16
_MAX_COOKIES = 4
_AUTH_ID, _DELETE_ID = 1, 2
"""Message ids: IKE_SA_INIT is 0, each further request one more (RFC 7296 section 2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who the probe is, whom it wants to meet, and the key that both must know."""

    local: Identity
    remote: Identity | None
    """None accepts anybody who knows the key."""
    psk: bytes = field(repr=False)


class _State(Enum):
    INIT = auto()
    AUTH = auto()
    DELETE = auto()
    DONE = auto()


class DeepV2:
    """The initiator's side of one IKE SA that lives for one probe."""

    def __init__(
        self,
        credentials: Credentials,
        entropy: Entropy,
        *,
        nat_t: bool = False,
        groups: tuple[int, ...] = GROUPS,
        algorithms: tuple[Transform, ...] = keys_v2.SUPPORTED,
    ) -> None:
        self._credentials = credentials
        self._entropy = entropy
        self._nat_t = nat_t
        transforms = (*algorithms, *(Transform(TransformType.DH, group) for group in groups))
        self._offer = Proposal(1, transforms)
        self._groups = groups
        self._tried = {groups[0]}
        self._cookies = 0
        self._cookie: bytes | None = None
        self._spi_i = fresh_spi(entropy(8))
        self._spi_r = NO_SPI
        self._nonce = entropy(_NONCE_BYTES)
        self._pair = dh.generate(groups[0], entropy)
        self._keys: keys_v2.Keys | None = None
        self._first_answer = b""
        self._peer = ""
        self._state = _State.INIT
        self._first = self._message = self._init_request()

    def start(self) -> bytes:
        """Return the first datagram; the same one when called again."""
        return with_marker(self._first, nat_t=self._nat_t)

    def receive(self, datagram: bytes) -> Turn:
        """Take one datagram. Raises `WireError`, also for what fails the integrity check."""
        message = without_marker(datagram, nat_t=self._nat_t)
        header = decode_header(message)
        if self._state is _State.DONE or not self._is_for_us(header):
            return IGNORED
        if self._keys is None:
            return self._on_init(message, header)
        if self._state is _State.AUTH:
            return self._on_auth(self._keys, self._keys.open(message))
        return self._on_delete(self._keys, message)

    def abandon(self) -> tuple[bytes, ...]:
        """Ask once for the removal of the SA that the responder may have by now.

        Nothing else is sent again: IKE_AUTH beside the Delete could be taken up after it, and would leave an SA for
        good. Before IKE_AUTH arrived there is only a half-open SA, which ends by the responder's own timer.
        """
        state, self._state = self._state, _State.DONE
        if self._keys is None or state is _State.DONE:
            return ()
        if state is _State.DELETE:
            return (with_marker(self._message, nat_t=self._nat_t),)
        return (self._delete_request(self._keys),)

    def _is_for_us(self, header: Header) -> bool:
        """An answer to the request that is outstanding, from the side that we talk to (RFC 7296 sections 2.2, 3.1)."""
        exchange, message_id = {
            _State.INIT: (Exchange.IKE_SA_INIT, 0),
            _State.AUTH: (Exchange.IKE_AUTH, _AUTH_ID),
            _State.DELETE: (Exchange.INFORMATIONAL, _DELETE_ID),
        }[self._state]
        return (
            header.spi_i == self._spi_i
            and (self._keys is None or header.spi_r == self._spi_r)
            and header.major == v2.VERSION >> 4
            and header.flags & (v2.FLAG_RESPONSE | v2.FLAG_INITIATOR) == v2.FLAG_RESPONSE
            and (header.exchange, header.message_id) == (exchange, message_id)
        )

    def _header(self, exchange: Exchange, message_id: int) -> Header:
        return Header(self._spi_i, self._spi_r, 0, v2.VERSION, exchange, v2.FLAG_INITIATOR, message_id)

    def _init_request(self) -> bytes:
        payloads = (
            *(() if self._cookie is None else (v2.cookie_payload(self._cookie),)),
            Payload(Kind.SA, v2.encode_sa((self._offer,))),
            Payload(Kind.KE, v2.encode_ke(self._pair.group, self._pair.public)),
            Payload(Kind.NONCE, self._nonce),
        )
        return message_of(self._header(Exchange.IKE_SA_INIT, 0), payloads)

    def _on_init(self, message: bytes, header: Header) -> Turn:
        _, payloads = v2.decode(message)
        found = v2.notifies(payloads)
        sa, ke, nonce = (only(payloads, kind) for kind in (Kind.SA, Kind.KE, Kind.NONCE))
        if sa is None or ke is None or nonce is None:
            return self._not_accepted(found)
        if len(nonce) not in _NONCE_RANGE or header.spi_r == NO_SPI:
            raise WireError("no usable nonce or SPI in IKE_SA_INIT", found=nonce)
        chosen = self._chosen(sa)
        group, public = v2.decode_ke(ke)
        if chosen is None or group != self._pair.group:
            return self._end(failed("chose transforms that were not offered"))
        if all(notify.type != NotifyType.CHILDLESS_IKEV2_SUPPORTED for notify in found):
            # Says nothing about the health of the gateway, and RFC 6023 section 3 forbids to go on.
            return self._end(Verdict(Outcome.UNKNOWN, Reason.PROBE_ERROR, "childless IKE_AUTH is not supported"))
        parties = keys_v2.Parties(spi_i=self._spi_i, spi_r=header.spi_r, nonce_i=self._nonce, nonce_r=nonce)
        keys = keys_v2.Keys.derive(keys_v2.Suite.of(chosen), parties, self._pair.shared(public))
        self._keys, self._spi_r, self._first_answer = keys, header.spi_r, message
        self._state = _State.AUTH
        return self._send(self._auth_request(keys))

    def _chosen(self, sa: bytes) -> tuple[Transform, ...] | None:
        """Return the transforms of the responder: one of each type, all offered, with our KE's group; else None."""
        proposals = v2.decode_sa(sa)
        transforms = proposals[0].transforms
        if len(proposals) != 1 or not set(transforms) <= set(self._offer.transforms):
            return None
        if sorted(transform.type for transform in transforms) != sorted(TransformType):
            return None
        return transforms if Transform(TransformType.DH, self._pair.group) in transforms else None

    def _not_accepted(self, found: tuple[v2.Notify, ...]) -> Turn:
        cookie = v2.cookie_of(found)
        if cookie is not None:
            return self._again(cookie=cookie)
        wanted = next((notify for notify in found if notify.type == NotifyType.INVALID_KE_PAYLOAD), None)
        if wanted is None:
            return self._end(refusal_v2(found))
        group = int.from_bytes(wanted.data, "big")
        if group in self._tried and len(self._tried) > 1:
            return IGNORED  # a second answer to a request that has been replaced
        if group in self._tried or group not in self._groups:
            return self._end(failed(f"{wanted.name}, wants group {group}"))
        self._tried.add(group)
        self._pair = dh.generate(group, self._entropy)
        return self._again(cookie=self._cookie)

    def _again(self, *, cookie: bytes | None) -> Turn:
        """RFC 7296 section 2.6: IKE_SA_INIT once more, with the cookie first and all else as it was."""
        self._cookies += 1
        if self._cookies > _MAX_COOKIES:
            return IGNORED
        self._cookie = cookie
        return self._send(self._init_request())

    def _auth_request(self, keys: keys_v2.Keys) -> bytes:
        own = encode_identity(self._credentials.local)
        remote = self._credentials.remote
        proof = keys.auth_of_initiator(self._credentials.psk, self._message, own)
        payloads = (
            Payload(Kind.ID_I, own),
            *(() if remote is None else (Payload(Kind.ID_R, encode_identity(remote)),)),
            Payload(Kind.AUTH, proof),
        )
        return keys.protect(self._header(Exchange.IKE_AUTH, _AUTH_ID), payloads, self._entropy(_IV_BYTES))

    def _on_auth(self, keys: keys_v2.Keys, payloads: tuple[Payload, ...]) -> Turn:
        auth, id_body = only(payloads, Kind.AUTH), only(payloads, Kind.ID_R)
        if auth is None or id_body is None:
            return self._end(refusal_v2(v2.notifies(payloads)))
        identity = decode_identity(id_body)
        if not keys.proves_responder(auth, self._credentials.psk, self._first_answer, id_body):
            problem = "the gateway does not prove that it knows the key"
        elif self._credentials.remote is not None and not self._credentials.remote.matches(identity):
            problem = f"the gateway proves to be {identity}"
        else:
            self._peer = str(identity)
            self._state = _State.DELETE
            return self._send(self._delete_message(keys))
        clean_up = (self._delete_request(keys),)
        return self._end(failed(problem, Reason.AUTHENTICATION_FAILED), clean_up)

    def _on_delete(self, keys: keys_v2.Keys, message: bytes) -> Turn:
        keys.open(message)
        return self._end(Verdict(Outcome.PASS, Reason.ANSWERED, f"authenticated {self._peer}"))

    def _delete_message(self, keys: keys_v2.Keys) -> bytes:
        header = self._header(Exchange.INFORMATIONAL, _DELETE_ID)
        return keys.protect(header, (v2.DELETE_IKE_SA,), self._entropy(_IV_BYTES))

    def _delete_request(self, keys: keys_v2.Keys) -> bytes:
        return with_marker(self._delete_message(keys), nat_t=self._nat_t)

    def _send(self, message: bytes) -> Turn:
        self._message = message
        return Turn(send=(with_marker(message, nat_t=self._nat_t),))

    def _end(self, verdict: Verdict, clean_up: tuple[bytes, ...] = ()) -> Turn:
        self._state = _State.DONE
        return Turn(send=clean_up, verdict=verdict)
