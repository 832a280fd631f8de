"""Diffie-Hellman for the conversations that go all the way: MODP (RFC 2409, RFC 3526) and ECP-256 (RFC 5903).

The keys protect one probe with nothing secret in it but the proof of the PSK, and are forgotten after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

MODP_1024 = 2
MODP_2048 = 14
ECP_256 = 19

_PRIMES = {
    # RFC 2409 section 6.2
    MODP_1024: int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
        16,
    ),
    # RFC 3526 section 3
    MODP_2048: int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
        "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
        16,
    ),
}
_GENERATOR = 2
_EXPONENT_BYTES = 32
"""RFC 3526 section 8: 220 to 320 bits are enough for the 2048-bit group."""
_P256 = ec.SECP256R1()
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_UNCOMPRESSED = b"\x04"

SUPPORTED = frozenset({*_PRIMES, ECP_256})


class KeyPair(Protocol):
    """Our half of one exchange."""

    group: int
    public: bytes
    """As a KE payload carries it."""

    def shared(self, peer: bytes) -> bytes:
        """Return the shared secret. Raises `WireError` when `peer` is no public value of the group."""


def generate(group: int, entropy: Callable[[int], bytes]) -> KeyPair:
    """Make a key pair of a group in `SUPPORTED`."""
    secret = int.from_bytes(entropy(_EXPONENT_BYTES), "big")
    return _Ecp256(secret) if group == ECP_256 else _Modp(group, secret)


class _Modp:
    def __init__(self, group: int, secret: int) -> None:
        self.group = group
        self._prime = _PRIMES[group]
        self._secret = secret | 1 << 8 * _EXPONENT_BYTES
        self._size = self._prime.bit_length() // 8
        self.public = pow(_GENERATOR, self._secret, self._prime).to_bytes(self._size, "big")

    def shared(self, peer: bytes) -> bytes:
        value = int.from_bytes(peer, "big")
        if len(peer) != self._size or not 1 < value < self._prime - 1:
            raise WireError("no public value of the group", found=peer)
        return pow(value, self._secret, self._prime).to_bytes(self._size, "big")


class _Ecp256:
    def __init__(self, secret: int) -> None:
        self.group = ECP_256
        self._key = ec.derive_private_key(secret % (_P256_ORDER - 1) + 1, _P256)
        numbers = self._key.public_key().public_numbers()
        self.public = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")

    def shared(self, peer: bytes) -> bytes:
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(_P256, _UNCOMPRESSED + peer)
        except ValueError:
            raise WireError("no point of the curve", found=peer) from None
        return self._key.exchange(ec.ECDH(), point)
