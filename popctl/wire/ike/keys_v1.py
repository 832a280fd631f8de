"""Keys, protection and proof of IKEv1 Main Mode with a pre-shared key (RFC 2409 section 5 and appendix B)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from popctl.wire.errors import WireError
from popctl.wire.ike.message import Payload, decode_payloads, encode_payloads

AES_CBC = 7
HASHES = {2: "sha1", 4: "sha256", 5: "sha384", 6: "sha512"}
"""Hash attribute -> name (RFC 2409 appendix A, RFC 4868 section 4)."""
_BLOCK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The algorithms of one ISAKMP SA."""

    key_bits: int
    hash_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """What both sides have said in clear."""

    cookie_i: bytes
    cookie_r: bytes
    public_i: bytes
    public_r: bytes
    nonce_i: bytes
    nonce_r: bytes
    sa: bytes
    """Body of the SA payload that the initiator sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of one ISAKMP SA."""

    suite: Suite
    parties: Parties
    root: bytes = field(repr=False)
    """SKEYID."""
    authentication: bytes = field(repr=False)
    """SKEYID_a."""
    encryption: bytes = field(repr=False)

    @staticmethod
    def derive(suite: Suite, parties: Parties, psk: bytes, shared: bytes) -> Keys:
        """SKEYID = prf(PSK, Ni | Nr), SKEYID_d, _a, _e after it, and the key stretched from SKEYID_e (appendix B)."""
        name = suite.hash_name
        root = hmac.digest(psk, parties.nonce_i + parties.nonce_r, name)
        seed = shared + parties.cookie_i + parties.cookie_r
        derivation = hmac.digest(root, seed + b"\0", name)
        authentication = hmac.digest(root, derivation + seed + b"\1", name)
        material = hmac.digest(root, authentication + seed + b"\2", name)
        size = suite.key_bits // 8
        key = block = material if len(material) >= size else b""
        while len(key) < size:
            block = hmac.digest(material, block or b"\0", name)
            key += block
        return Keys(suite=suite, parties=parties, root=root, authentication=authentication, encryption=key[:size])

    def first_iv(self) -> bytes:
        """Return the IV of the first encrypted message of phase 1: hash of both public values (appendix B)."""
        return self._digest(self.parties.public_i + self.parties.public_r)

    def later_iv(self, last_block: bytes, message_id: int) -> bytes:
        """Return the IV of an exchange after phase 1, from the last ciphertext block of phase 1 (appendix B)."""
        return self._digest(last_block + message_id.to_bytes(4, "big"))

    def _digest(self, data: bytes) -> bytes:
        return hashlib.new(self.suite.hash_name, data).digest()[:_BLOCK]

    def encrypt(self, payloads: tuple[Payload, ...], iv: bytes) -> bytes:
        """Encode and encrypt a chain of payloads, zero-padded to whole blocks."""
        plain = encode_payloads(payloads)
        encryptor = Cipher(algorithms.AES(self.encryption), modes.CBC(iv)).encryptor()
        return encryptor.update(plain + bytes(-len(plain) % _BLOCK)) + encryptor.finalize()

    def decrypt(self, first: int, secret: bytes, iv: bytes) -> tuple[Payload, ...]:
        """Decrypt a chain of payloads. Raises `WireError`; what comes out is not yet authenticated."""
        if not secret or len(secret) % _BLOCK:
            raise WireError("not whole cipher blocks", found=secret)
        decryptor = Cipher(algorithms.AES(self.encryption), modes.CBC(iv)).decryptor()
        return decode_payloads(first, decryptor.update(secret) + decryptor.finalize(), padded=True)

    def hash_i(self, id_body: bytes) -> bytes:
        """Return HASH_I: what the initiator proves itself with."""
        it = self.parties
        return self._prf(self.root, it.public_i + it.public_r + it.cookie_i + it.cookie_r + it.sa + id_body)

    def hash_r(self, id_body: bytes) -> bytes:
        """Return HASH_R: what the responder must prove itself with."""
        it = self.parties
        return self._prf(self.root, it.public_r + it.public_i + it.cookie_r + it.cookie_i + it.sa + id_body)

    def hash_1(self, message_id: int, after: bytes) -> bytes:
        """Return the HASH of an Informational exchange (section 5.7) for the encoded payloads `after` it."""
        return self._prf(self.authentication, message_id.to_bytes(4, "big") + after)

    def _prf(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self.suite.hash_name)
