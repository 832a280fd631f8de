"""Rendezvous rows against a tiny second implementation, and their promises: balance, least movement, no order."""

from __future__ import annotations

import math
from collections import Counter
from hashlib import shake_256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.core.jhash import row_of
from popctl.core.rendezvous import build, ranked, shares
from popctl.core.rows import eligible, packed, rescue

ids = st.integers(0, 253)
weights = st.dictionaries(ids, st.integers(1, 128), min_size=1, max_size=12)
seeds = st.binary(min_size=1, max_size=16)
WEIGHT = 64
M64 = (1 << 64) - 1


def oracle(members: dict[int, int], seed: bytes, row: int) -> list[tuple[float, int]]:
    """Say the same in the fewest lines: a word per row and backend, mixed, as an exponential waiting time."""

    def word(purpose: bytes, index: int) -> int:
        stream = shake_256(len(seed).to_bytes(2, "big") + seed + purpose).digest((index + 1) * 8)
        return int.from_bytes(stream[index * 8 :], "little")

    waits = []
    for backend, weight in members.items():
        x = word(b"rows", row) ^ word(b"backend %d" % backend, 0)
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & M64
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & M64
        x ^= x >> 31
        waits.append((-math.log1p(-x / 2**64) / weight, backend))
    return sorted(waits)


@given(weights, seeds)
@settings(max_examples=60, deadline=None)
def test_rows_agree_with_the_second_implementation(members: dict[int, int], seed: bytes) -> None:
    rows = ranked(members, seed, 32)
    for number in range(32):
        want = oracle(members, seed, number)
        place = {backend: wait for wait, backend in want}
        found = rows.row(number)
        assert sorted(found) == sorted(members)
        # The table interpolates the logarithm: only near-equal waiting times may stand the other way round.
        assert all(place[a] <= place[b] * 1.0001 + 1e-9 for a, b in pairwise(found))


@given(weights, seeds, st.data())
@settings(max_examples=60, deadline=None)
def test_taking_a_backend_away_moves_only_its_own_rows(
    members: dict[int, int], seed: bytes, data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(members)))
    before = ranked(members, seed, 64)
    after = ranked({b: w for b, w in members.items() if b != gone}, seed, 64)
    for number in range(64):
        assert [b for b in before.row(number) if b != gone] == list(after.row(number) if after.width else ())


@given(weights, seeds, st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_evened_rows_give_every_backend_its_share_and_move_no_more_than_that_takes(
    members: dict[int, int], seed: bytes, count: int
) -> None:
    raw, even = ranked(members, seed, count), build(members, seed, count)
    first = Counter(even.row(number)[0] for number in range(count))
    due = shares(members, count)
    assert {b: n for b, n in due.items() if n} == first
    assert sum(due.values()) == count
    chance = Counter(raw.row(number)[0] for number in range(count))
    moved = [number for number in range(count) if raw.row(number) != even.row(number)]
    assert len(moved) == sum(max(0, chance[b] - due[b]) for b in members)
    for number in moved:
        front = even.row(number)[0]
        assert [b for b in raw.row(number) if b != front] == list(even.row(number)[1:])


@pytest.mark.parametrize(("count", "most"), [(3, 0.002), (8, 0.005), (64, 0.005)])
def test_a_backend_taken_out_of_the_configuration_moves_hardly_more_than_its_share(count: int, most: float) -> None:
    before = build(dict.fromkeys(range(count), WEIGHT), b"seed")
    after = build(dict.fromkeys(range(1, count), WEIGHT), b"seed")
    one, other = before.order[:: before.width], after.order[:: after.width]
    moved = sum(a != b for a, b in zip(one, other, strict=True) if a != 1)
    assert moved / before.count <= most


@pytest.mark.parametrize(
    ("count", "weight", "most"), [(8, 99, 0.0005), (8, 50, 0.002), (64, 99, 0.0005), (64, 50, 0.003)]
)
def test_a_weight_that_is_changed_moves_hardly_more_than_its_share(count: int, weight: int, most: float) -> None:
    even = dict.fromkeys(range(count), 100)
    before, after = build(even, b"seed"), build({**even, 0: weight}, b"seed")
    moved = sum(a != b for a, b in zip(before.order[::count], after.order[::count], strict=True)) / before.count
    assert moved - (1 / count - weight / (weight + 100 * (count - 1))) <= most


@given(weights, seeds, st.sets(ids), st.data())
@settings(max_examples=60, deadline=None)
def test_health_skips_entries_and_recovery_restores_all(
    members: dict[int, int], seed: bytes, down: set[int], data: st.DataObject
) -> None:
    rows = build(members, seed, 64)
    usable = set(members) - down
    number = data.draw(st.integers(0, 63))
    chosen = eligible(rows, number, usable)
    row = rows.row(number)
    assert chosen == next(((b, row.index(b)) for b in row if b in usable), None)
    assert eligible(rows, number, set(members)) == (row[0], 0)


@given(weights, seeds, st.sets(ids))
@settings(max_examples=60, deadline=None)
def test_four_slots_and_the_rescue_map_are_the_whole_row(members: dict[int, int], seed: bytes, down: set[int]) -> None:
    rows = build(members, seed, 64)
    usable = set(members) - down
    marks, extra = packed(rows), rescue(rows, usable)
    for number in range(64):
        slots = [marks[number] >> shift & 0xFF for shift in (0, 8, 16, 24)]
        first = next((slot for slot in slots if slot - 1 in usable), None)
        found = first if first is not None else extra.get(number)
        want = eligible(rows, number, usable)
        assert found == (want[0] + 1 if want else None)
        assert first is None or number not in extra


@given(weights, seeds)
@settings(max_examples=30, deadline=None)
def test_the_order_in_which_backends_are_named_does_not_matter(members: dict[int, int], seed: bytes) -> None:
    assert build(members, seed, 64) == build(dict(reversed(members.items())), seed, 64)


def test_shares_follow_weights() -> None:
    members = {b: 16 * (1 + b % 4) for b in range(8)}
    rows = build(members, b"seed")
    first = Counter(rows.order[:: rows.width])
    total = sum(members.values())
    for backend, weight in members.items():
        assert abs(first[backend + 1] - rows.count * weight / total) < 1


def test_ten_thousand_sas_of_one_cgnat_address_spread_as_evenly_as_chance_allows() -> None:
    """The rows are even; the rest is the luck of 10,000 random SPIs, which no stateless table can even out.

    Thrown at random on 8 backends, 10,000 have a peak of at most 1.06 of the mean in 91 % of all throws, 1.038 in half.
    """
    peaks = []
    for draw in range(60):
        rows = build(dict.fromkeys(range(8), WEIGHT), b"pop %d" % draw)
        stream = shake_256(b"spis %d" % draw).digest(80000)
        owners = Counter(
            rows.order[rows.width * row_of(stream[i : i + 8], 0xC0FFEE + draw, rows.count)] for i in range(0, 80000, 8)
        )
        peaks.append(max(owners.values()) / 1250)
    assert sorted(peaks)[30] <= 1.045
    assert sum(peak <= 1.06 for peak in peaks) >= 48
    assert max(peaks) <= 1.11


def test_a_weight_or_id_that_cannot_be_is_refused() -> None:
    for members in ({0: 0}, {254: 1}, {-1: 1}):
        with pytest.raises(ValueError, match="ids must be"):
            build(members, b"seed")
    assert build({}, b"seed").count == 0
    assert packed(build({}, b"seed")) == []
