"""Keys, protection and proof of IKEv2 with a pre-shared key (RFC 7296 sections 2.13 to 2.15 and 3.14)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from popctl.wire.errors import WireError
from popctl.wire.ike import v2
from popctl.wire.ike.message import HEADER, PAYLOAD_HEADER, Header, Payload, encode, encode_payloads
from popctl.wire.ike.v2 import Kind, Transform, TransformType

AES_CBC = 12
_BLOCK = 16
_PRF_HASHES = {2: ("sha1", 20), 5: ("sha256", 32), 6: ("sha384", 48), 7: ("sha512", 64)}
"""PRF transform -> hash and output bytes (RFC 2104, RFC 4868)."""
_INTEG_HASHES = {2: ("sha1", 20, 12), 12: ("sha256", 32, 16), 13: ("sha384", 48, 24), 14: ("sha512", 64, 32)}
"""INTEG transform -> hash, key bytes, check value bytes."""
_KEY_PAD = b"Key Pad for IKEv2"
_AUTH_SHARED_KEY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The algorithms of one IKE SA. All that `SUPPORTED` lists, in any mixture."""

    key_bits: int
    prf: int
    integ: int

    @staticmethod
    def of(chosen: tuple[Transform, ...]) -> Suite:
        """Read what the responder chose. The caller has checked that it was offered."""
        by_type = {transform.type: transform for transform in chosen}
        return Suite(
            key_bits=by_type[TransformType.ENCR].key_bits or 0,
            prf=by_type[TransformType.PRF].id,
            integ=by_type[TransformType.INTEG].id,
        )


SUPPORTED: tuple[Transform, ...] = (
    *(Transform(TransformType.ENCR, AES_CBC, bits) for bits in (256, 128)),
    *(Transform(TransformType.PRF, prf) for prf in (5, 6, 7, 2)),
    *(Transform(TransformType.INTEG, integ) for integ in (12, 13, 14, 2)),
)
"""Strongest common first; SHA-1 last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """What the keys are made of, beside the shared secret."""

    spi_i: bytes
    spi_r: bytes
    nonce_i: bytes
    nonce_r: bytes


def _prf_plus(hash_name: str, key: bytes, seed: bytes, size: int) -> bytes:
    out = block = b""
    count = 1
    while len(out) < size:
        block = hmac.digest(key, block + seed + bytes((count,)), hash_name)
        out += block
        count += 1
    return out[:size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """The keys of one direction."""

    integrity: bytes = field(repr=False)
    encryption: bytes = field(repr=False)
    proof: bytes = field(repr=False)
    """SK_pi or SK_pr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of one IKE SA, as its initiator uses them."""

    suite: Suite
    parties: Parties
    ours: Direction
    theirs: Direction

    @staticmethod
    def derive(suite: Suite, parties: Parties, shared: bytes) -> Keys:
        """Section 2.14: SKEYSEED = prf(Ni | Nr, g^ir), then prf+ in the order d, ai, ar, ei, er, pi, pr."""
        hash_name, prf_size = _PRF_HASHES[suite.prf]
        integ_size, key_size = _INTEG_HASHES[suite.integ][1], suite.key_bits // 8
        nonces = parties.nonce_i + parties.nonce_r
        seed = hmac.digest(nonces, shared, hash_name)
        sizes = (prf_size, integ_size, integ_size, key_size, key_size, prf_size, prf_size)
        stream = _prf_plus(hash_name, seed, nonces + parties.spi_i + parties.spi_r, sum(sizes))
        parts = [stream[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]
        _, auth_i, auth_r, encr_i, encr_r, proof_i, proof_r = parts
        return Keys(
            suite=suite,
            parties=parties,
            ours=Direction(integrity=auth_i, encryption=encr_i, proof=proof_i),
            theirs=Direction(integrity=auth_r, encryption=encr_r, proof=proof_r),
        )

    def protect(self, header: Header, payloads: tuple[Payload, ...], iv: bytes) -> bytes:
        """Encode a message whose payloads are all inside an Encrypted payload (section 3.14)."""
        hash_name, _, check_size = _INTEG_HASHES[self.suite.integ]
        inner = encode_payloads(payloads)
        padding = -(len(inner) + 1) % _BLOCK
        plain = inner + bytes(padding) + bytes((padding,))
        encryptor = Cipher(algorithms.AES(self.ours.encryption), modes.CBC(iv)).encryptor()
        sealed = iv + encryptor.update(plain) + encryptor.finalize()
        first = payloads[0].type if payloads else 0
        size = PAYLOAD_HEADER.size + len(sealed) + check_size
        body = PAYLOAD_HEADER.pack(first, 0, size) + sealed + bytes(check_size)
        checked = encode(header._replace(next_payload=Kind.ENCRYPTED), body)[:-check_size]
        return checked + hmac.digest(self.ours.integrity, checked, hash_name)[:check_size]

    def open(self, message: bytes) -> tuple[Payload, ...]:
        """Check and decrypt a message of the responder.

        Raises:
            WireError: not protected, the check value is wrong (nothing inside may be believed), or malformed inside.
        """
        hash_name, _, check_size = _INTEG_HASHES[self.suite.integ]
        header, payloads = v2.decode(message)
        if len(payloads) != 1 or header.next_payload != Kind.ENCRYPTED:
            raise WireError("not an Encrypted payload alone", found=message[HEADER.size :])
        sealed = payloads[0].body
        if len(sealed) < 2 * _BLOCK + check_size or (len(sealed) - check_size) % _BLOCK:
            raise WireError("Encrypted payload of impossible length", found=sealed)
        check = hmac.digest(self.theirs.integrity, message[:-check_size], hash_name)[:check_size]
        if not hmac.compare_digest(check, message[-check_size:]):
            raise WireError("integrity check failed", found=message[-check_size:])
        iv, secret = sealed[:_BLOCK], sealed[_BLOCK:-check_size]
        decryptor = Cipher(algorithms.AES(self.theirs.encryption), modes.CBC(iv)).decryptor()
        plain = decryptor.update(secret) + decryptor.finalize()
        padding = plain[-1]
        if padding >= len(plain):
            raise WireError("padding longer than the message", found=plain[-1:])
        return v2.walk(message[HEADER.size], plain[: len(plain) - 1 - padding])

    def auth_of_initiator(self, psk: bytes, first_message: bytes, id_body: bytes) -> bytes:
        """Return the body of our AUTH payload (section 2.15) for the IKE_SA_INIT that was sent last."""
        proof = self._proof(psk, first_message + self.parties.nonce_r, self.ours.proof, id_body)
        return bytes((_AUTH_SHARED_KEY, 0, 0, 0)) + proof

    def proves_responder(self, auth_body: bytes, psk: bytes, first_answer: bytes, id_body: bytes) -> bool:
        """Tell whether the responder knows the PSK and says who it is under it (section 2.15)."""
        proof = self._proof(psk, first_answer + self.parties.nonce_i, self.theirs.proof, id_body)
        return auth_body[:1] == bytes((_AUTH_SHARED_KEY,)) and hmac.compare_digest(auth_body[4:], proof)

    def _proof(self, psk: bytes, octets: bytes, key: bytes, id_body: bytes) -> bytes:
        hash_name = _PRF_HASHES[self.suite.prf][0]
        signed = octets + hmac.digest(key, id_body, hash_name)
        return hmac.digest(hmac.digest(psk, _KEY_PAD, hash_name), signed, hash_name)
