"""The kernel's row hash, so that `explain` and the kernel name the same row: Jenkins' lookup3 as Linux has it.

nftables' `jhash X mod N seed S` is `reciprocal_scale(jhash(X, len, S), N)`
(include/linux/jhash.h, net/netfilter/nft_hash.c).
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
_INITVAL = 0xDEADBEEF
_BLOCK = 12


def _rol(word: int, by: int) -> int:
    return ((word << by) | (word >> (32 - by))) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for by in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _MASK) ^ _rol(c, by)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rol(b, by)) & _MASK
        a, b, c = b, c, a
    return b


def jhash(key: bytes, seed: int) -> int:
    """Return the 32-bit hash of `key`. Words are read little-endian, as on every machine popctl balances on."""
    a = b = c = (_INITVAL + len(key) + seed) & _MASK
    if not key:
        return c
    blocks = (len(key) - 1) // _BLOCK
    padded = key + bytes(-len(key) % _BLOCK)
    words = [int.from_bytes(padded[i : i + 4], "little") for i in range(0, len(padded), 4)]
    for block in range(blocks + 1):
        a, b, c = ((x + y) & _MASK for x, y in zip((a, b, c), words[block * 3 : block * 3 + 3], strict=True))
        if block < blocks:
            a, b, c = _mix(a, b, c)
    return _final(a, b, c)


def row_of(key: bytes, seed: int, rows: int) -> int:
    """Return the row that `jhash KEY mod rows seed SEED` names."""
    return (jhash(key, seed) * rows) >> 32
