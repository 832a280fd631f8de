"""Seeded randomness by entity: every PoP and session has a stream of its own, indexed by turn.

A draw depends on the seed, the purpose, the entity and the turn, and on nothing else: neither on the order of events
nor on how often anybody else draws. So two controllers in the same scenario meet the same noise.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Words = npt.NDArray[np.uint64]
    Floats = npt.NDArray[np.float64]

_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = 2**64 - 1
_FRACTION_BITS: Final = 53


class Streams:
    """One stream per entity for one purpose."""

    def __init__(self, seed: int, purpose: str, entities: Iterable[str]) -> None:
        words = [
            int.from_bytes(blake2b(f"{seed}|{purpose}|{name}".encode(), digest_size=8).digest(), "big")
            for name in entities
        ]
        self._keys: Words = np.array(words, dtype=np.uint64)

    def uniform(self, turn: int) -> Floats:
        """Return one number of [0, 1) per entity."""
        return _fractions(self._keys + np.uint64(turn * _GOLDEN & _MASK))

    def one(self, entity: int, turn: int) -> float:
        """Return what `uniform(turn)` has for one entity."""
        return float(_fractions(self._keys[entity : entity + 1] + np.uint64(turn * _GOLDEN & _MASK))[0])


def _fractions(state: Words) -> Floats:
    """Finish splitmix64 (Steele, Lea and Flood 2014) and keep the top bits."""
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(64 - _FRACTION_BITS)).astype(np.float64) / float(1 << _FRACTION_BITS)
