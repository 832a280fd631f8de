"""Weighted rendezvous rows: which backend a row prefers, and who follows when that one is down.

A pure function of (seed, ids, weights), so that all balancers of a PoP agree without talking. Weights are whole numbers
that somebody wrote, never measured: docs/decisions/013 says why. Every backend draws a
waiting time per row, exponential with its weight as the rate; the row lists them by waiting time. Taking a backend
away therefore moves only its own share, and giving it back restores exactly what was.

Chance gives the fullest of 8 equal backends 1.5 % more rows than the mean. `build` evens that out: where the first two
of a row are nearly equal and the second has too few rows, they change places. docs/decisions/007 has the price.

Only correctly rounded operations (+ - * /) and bit operations are used, never a library logarithm: the last bit of
`log` differs between machines, and two balancers must not differ in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import shake_256
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from popctl.model.balancer import MAX_SLOT, ROWS, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words: TypeAlias = NDArray[np.uint64]
    Reals: TypeAlias = NDArray[np.float64]

_CHUNK = 2048
"""Rows at a time: all columns of a chunk stay in the processor's cache."""
_TABLE_BITS = 14
_SLOT_BITS = 8


def build(weights: Mapping[int, int], seed: bytes, rows: int = ROWS) -> Rows:
    """Return the rows of backends by id -> weight (whole, positive): each is first in its exact share of them.

    Raises:
        ValueError: a weight is not positive, or an id does not fit in a slot of the mark.
    """
    order, gaps = _ranked(weights, seed, rows)
    _even(order, gaps, shares(weights, rows))
    return Rows(width=order.shape[1], order=order.tobytes())


def ranked(weights: Mapping[int, int], seed: bytes, rows: int = ROWS) -> Rows:
    """Return the rows as chance made them. Raises as `build` does."""
    order, _ = _ranked(weights, seed, rows)
    return Rows(width=order.shape[1], order=order.tobytes())


def shares(weights: Mapping[int, int], rows: int) -> dict[int, int]:
    """Return how many rows each backend is due: whole numbers, the largest remainders rounded up, by id when equal."""
    total = sum(weights.values())
    due = {b: rows * weights[b] // total for b in sorted(weights)}
    left = rows - sum(due.values())
    for backend in sorted(due, key=lambda b: (-(rows * weights[b] % total), b))[:left]:
        due[backend] += 1
    return due


def _even(order: NDArray[np.uint8], gaps: Words, due: Mapping[int, int]) -> None:
    """Give every backend its share of first places, where that changes least: a row moves one entry to its front."""
    width = order.shape[1]
    excess = np.bincount(order[:, 0], minlength=MAX_SLOT + 1) if width else np.zeros(MAX_SLOT + 1, np.int64)
    for backend, rows in due.items():
        excess[backend + 1] -= rows
    over = excess.tolist()
    for rank in range(1, width):
        if not any(over):
            return
        left = np.array(over)
        movable = np.flatnonzero((left[order[:, 0]] > 0) & (left[order[:, rank]] < 0))
        if rank == 1:
            movable = movable[np.argsort(gaps[movable], kind="stable")]
        for row, first, other in zip(
            movable.tolist(), order[movable, 0].tolist(), order[movable, rank].tolist(), strict=True
        ):
            if over[first] > 0 > over[other]:
                over[first] -= 1
                over[other] += 1
                order[row, 1 : rank + 1] = order[row, :rank].copy()
                order[row, 0] = other


def _ranked(weights: Mapping[int, int], seed: bytes, rows: int) -> tuple[NDArray[np.uint8], Words]:
    """Return slots by rank, a row each, and how far apart the first two of each row are."""
    ids = sorted(weights)
    if any(weights[b] < 1 for b in ids) or any(not 0 <= b < MAX_SLOT for b in ids):
        raise ValueError(f"ids must be 0..{MAX_SLOT - 1} and weights positive: {dict(weights)}")
    if not ids:
        return np.empty((0, 0), np.uint8), np.empty(0, np.uint64)
    row_words = _words(seed, b"rows", rows)
    backend_words = np.array([_words(seed, b"backend %d" % b, 1)[0] for b in ids], np.uint64)
    rates = np.array([1.0 / weights[b] for b in ids], np.float64)
    slots = np.array([b + 1 for b in ids], np.uint64)
    order = np.empty((rows, len(ids)), np.uint8)
    gaps = np.zeros(rows, np.uint64)
    for start in range(0, rows, _CHUNK):
        part = row_words[start : start + _CHUNK]
        end = start + len(part)
        keys = _keys(part, backend_words, rates, slots)
        order[start:end] = keys & np.uint64(0xFF)
        if len(ids) > 1:
            # Of the bits of two doubles the difference is nearly that of their logarithms: which was closest.
            gaps[start:end] = keys[:, 1] - keys[:, 0]
    return order, gaps


def _words(seed: bytes, purpose: bytes, count: int) -> Words:
    """Draw 64-bit words from a keyed stream."""
    key = len(seed).to_bytes(2, "big") + seed + purpose
    return np.frombuffer(shake_256(key).digest(count * 8), "<u8").astype(np.uint64)


def _keys(row_words: Words, backend_words: Words, rates: Reals, slots: Words) -> Words:
    """Return waiting times, each with whose it is in its low byte, in order."""
    base, step = _waiting_table()
    x = row_words[:, None] ^ backend_words[None, :]
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    index = (x >> np.uint64(64 - _TABLE_BITS)).astype(np.intp)
    x <<= np.uint64(_TABLE_BITS)
    x >>= np.uint64(11)
    wait = x.view(np.int64).astype(np.float64)
    wait *= 2.0**-53
    wait *= step[index]
    wait += base[index]
    wait *= rates
    # Positive doubles sort like their bits; the low byte makes room for whose waiting time it is.
    key = wait.view(np.uint64)
    key >>= np.uint64(_SLOT_BITS)
    key <<= np.uint64(_SLOT_BITS)
    key |= slots
    key.sort(axis=1)
    return key


@cache
def _waiting_table() -> tuple[Reals, Reals]:
    """Return -ln(1 - v) at the ends of 2**14 equal intervals of v, as values and differences.

    The last interval, where the curve runs to infinity, ends at the middle of a further half: those draws come last
    in their row anyhow.
    """
    size = 1 << _TABLE_BITS
    v = np.arange(size + 1, dtype=np.float64) / size
    v[size] = 1.0 - 0.25 / size
    ends = _minus_log(1.0 - v)
    return ends[:-1], np.diff(ends)


def _minus_log(y: Reals) -> Reals:
    """Return -ln(y) for 0 < y <= 1, correctly rounded operations only.

    y = m * 2**e and ln m = 2 artanh((m - 1) / (m + 1)), whose series ends far below the last bit.
    """
    mantissa, exponent = np.frexp(y)
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square = z * z
    total = np.zeros_like(z)
    for odd in range(41, 0, -2):
        total = total * square + 1.0 / odd
    ln2 = 0.6931471805599453
    return -(2.0 * z * total + exponent * ln2)
