"""Rows as one netlink transaction: as the kernel wants it, and nothing but `WireError` for a strange answer."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.wire.errors import WireError
from popctl.wire.nft_load import load_answers, load_request

BEGIN, ELEMENTS, END = 0x10, 10 << 8 | 12, 0x11
marks = st.integers(0, 2**32 - 1)


def split(data: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    while data:
        length, kind, flags, _, _ = struct.unpack_from("=IHHII", data)
        found.append((kind, flags, data[16:length]))
        data = data[(length + 3) & ~3 :]
    return found


def attributes(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        length, number = struct.unpack_from("=HH", body)
        found.append((number & 0x3FFF, body[4:length]))
        body = body[(length + 3) & ~3 :]
    return found


@given(st.lists(st.tuples(marks, marks), max_size=40).map(lambda some: some * 103))
def test_a_request_is_one_transaction_that_holds_every_element(elements: list[tuple[int, int]]) -> None:
    begin, *middle, end = split(load_request("inet", "t", "m", elements, 7))
    assert (begin[0], end[0]) == (BEGIN, END)
    assert attributes(begin[2][4:]) == [(1, struct.pack(">I", 7))]
    found = []
    for kind, _, body in middle:
        (table, name, listed) = attributes(body[4:])
        assert (kind, body[0], table, name, listed[0]) == (ELEMENTS, 1, (1, b"t\0"), (2, b"m\0"), 3)
        for _, element in attributes(listed[1]):
            (_, key), (_, value) = attributes(element)
            found.append(tuple(struct.unpack("=I", attributes(part)[0][1])[0] for part in (key, value)))
    assert found == elements
    assert [flags & 4 for _, flags, _ in middle] == [0] * (len(middle) - 1) + [4] * bool(middle)


def test_answers_are_errno_each() -> None:
    def answer(error: int) -> bytes:
        return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -error) + bytes(16)

    assert load_answers(answer(0)) == [0]
    assert load_answers(answer(17) + answer(0)) == [17, 0]
    with pytest.raises(WireError):
        load_answers(b"")


@given(st.binary(max_size=100))
def test_a_strange_answer_is_a_wire_error_or_none(data: bytes) -> None:
    with contextlib.suppress(WireError):
        load_answers(data)
