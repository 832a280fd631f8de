"""nftables' own messages: what changed in which set, and nothing but `WireError` for what is cut short."""

from __future__ import annotations

import contextlib
import struct

from hypothesis import given
from hypothesis import strategies as st

from popctl.wire.errors import WireError
from popctl.wire.nfnetlink import Change, End, Entry, Generation, Interrupted, Kind, bones, counted, dumped, messages
from popctl.wire.nft_text import SeenSet, SeenTable

INET = b"\x01\x00\x00\x00"


def attribute(number: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, number) + value + bytes(-len(value) % 4)


def message(kind: int, *attributes: bytes, flags: int = 0) -> bytes:
    body = INET + b"".join(attributes)
    return struct.pack("=IHHII", len(body) + 16, 10 << 8 | kind, flags, 1, 0) + body


def test_a_changed_element_names_its_set_and_a_changed_rule_none() -> None:
    element = message(12, attribute(1, b"popctl\0"), attribute(2, b"alive\0"))
    rule = message(6, attribute(1, b"popctl\0"), attribute(2, b"prerouting\0"))
    end = message(15, attribute(1, (77).to_bytes(4, "big")))
    assert list(messages(element + rule + end)) == [Change("popctl", "alive"), Change("popctl"), Generation(77)]


def test_bones_hold_chains_rules_by_comment_sets_and_counters_of_one_table() -> None:
    hook = attribute(4, attribute(1, bytes(4)) + attribute(2, (-300).to_bytes(4, "big", signed=True)))
    comment = b"\x00\x05a 12\x00"
    answers = [
        (Kind.RULES, (attribute(1, b"t\0"), attribute(2, b"c\0"), attribute(7, comment))),
        (Kind.RULES, (attribute(1, b"t\0"), attribute(2, b"c\0"))),
        (Kind.CHAINS, (attribute(1, b"t\0"), attribute(3, b"c\0"), hook)),
        (Kind.CHAINS, (attribute(1, b"other\0"), attribute(3, b"d\0"))),
        (Kind.SETS, (attribute(1, b"t\0"), attribute(2, b"m\0"), attribute(3, b"\0\0\0\x08"), attribute(9, b""))),
        (Kind.SETS, (attribute(1, b"t\0"), attribute(2, b"__set0\0"), attribute(3, b"\0\0\0\x01"))),
        (Kind.OBJECTS, (attribute(1, b"t\0"), attribute(2, b"n\0"))),
    ]
    entries = [one for kind, attributes in answers for one in dumped(message(kind - 1, *attributes), kind)]
    assert bones([e for e in entries if isinstance(e, Entry)], "inet", "t") == SeenTable(
        counters=frozenset({"n"}),
        sets={"m": SeenSet(kind="map", size=0, timeout_s=0, elements=None)},
        chains={"c": ("a 12", "")},
        hooks={"c": ("prerouting", -300)},
    )


def test_counters_are_read_of_one_table_in_every_family() -> None:
    value = attribute(1, (900).to_bytes(8, "big")) + attribute(2, (9).to_bytes(8, "big"))
    one = message(18, attribute(1, b"t\0"), attribute(2, b"n\0"), attribute(3, b"\0\0\0\x01"), attribute(4, value))
    quota = message(18, attribute(1, b"t\0"), attribute(2, b"q\0"), attribute(3, b"\0\0\0\x02"))
    other = message(18, attribute(1, b"u\0"), attribute(2, b"n\0"), attribute(3, b"\0\0\0\x01"))
    found = [entry for entry in dumped(one + quota + other, Kind.OBJECTS) if isinstance(entry, Entry)]
    assert list(counted(found, "t")) == [("n", 9, 900)]


def test_a_dump_ends_and_an_interrupted_one_says_so_before_its_end() -> None:
    done = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)
    refused = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)
    assert list(dumped(done, Kind.SETS)) == [End(0)]
    assert list(dumped(refused, Kind.SETS)) == [End(1)]
    entry, end = Entry(1, Kind.SETS, {}), End(0)
    found = [*dumped(message(9, flags=0x10) + message(9) + done, Kind.SETS)]
    assert found == [Interrupted(), entry, entry, end]


@given(st.binary(max_size=200))
def test_garbage_is_a_wire_error_or_nothing(data: bytes) -> None:
    for read in (messages, lambda d: dumped(d, Kind.RULES)):
        try:
            found = list(read(data))
        except WireError:
            continue
        bones([e for e in found if isinstance(e, Entry)], "inet", "t")


@given(st.dictionaries(st.sampled_from([1, 2, 3, 4, 7, 9, 11]), st.binary(max_size=12)), st.sampled_from(Kind))
def test_hostile_attributes_are_a_wire_error_or_something(attributes: dict[int, bytes], kind: Kind) -> None:
    datagram = message(kind - 1, attribute(1, b"t\0"), *(attribute(n, v) for n, v in attributes.items() if n != 1))
    with contextlib.suppress(WireError):
        bones([e for e in dumped(datagram, kind) if isinstance(e, Entry)], "inet", "t")
