"""The number of a question: in all its messages, and in what answers it."""

from __future__ import annotations

import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from popctl.wire.errors import WireError
from popctl.wire.netlink import answering, numbered

numbers = st.integers(0, 2**32 - 1)


def message(number: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), 3, 0, number, 0) + body + bytes(-len(body) % 4)


@given(st.lists(st.binary(max_size=9)), numbers, numbers)
def test_every_message_bears_the_number(bodies: list[bytes], before: int, after: int) -> None:
    datagram = b"".join(message(before, body) for body in bodies)
    assert numbered(datagram, after) == b"".join(message(after, body) for body in bodies)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=9))))
def test_only_what_bears_the_number_answers(parts: list[tuple[int, bytes]]) -> None:
    datagram = b"".join(message(number, body) for number, body in parts)
    assert answering(datagram, 2) == b"".join(message(number, body) for number, body in parts if number == 2)
    assert answering(datagram, 3) == b""


@given(st.binary(max_size=200))
def test_garbage_raises_only_wire_error(datagram: bytes) -> None:
    for read in (numbered, answering):
        with contextlib.suppress(WireError):
            read(datagram, 0)
