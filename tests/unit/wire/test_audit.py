"""The chain of the audit file finds what was changed, taken out or put in."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from popctl.wire import audit

entries = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), min_size=2, max_size=6)


def chained(some: list[dict[str, str]]) -> list[bytes]:
    lines: list[bytes] = []
    for number, entry in enumerate(some):
        lines.append(audit.encode({**entry, "unix_s": float(number)}, lines[-1] if lines else b""))
    return lines


@given(entries)
def test_what_was_written_is_believed(some: list[dict[str, str]]) -> None:
    found = audit.verify(chained(some))
    assert (found.entries, found.unchained, found.problems) == (len(some), 0, ())


@given(entries, st.data())
def test_a_line_that_was_taken_out_is_found(some: list[dict[str, str]], data: st.DataObject) -> None:
    lines = chained(some)
    del lines[data.draw(st.integers(0, len(lines) - 2))]
    assert audit.verify(lines).problems


@given(entries, st.data())
def test_a_line_that_was_changed_is_found(some: list[dict[str, str]], data: st.DataObject) -> None:
    lines = chained(some)
    at = data.draw(st.integers(0, len(lines) - 2))
    changed = json.loads(lines[at]) | {"owner": "nobody"}
    lines[at] = json.dumps(changed, separators=(",", ":")).encode() + b"\n"
    assert audit.verify(lines).problems


@given(entries, st.binary(max_size=20).filter(lambda text: b"\n" not in text), st.data())
def test_a_line_that_was_put_in_is_found(some: list[dict[str, str]], extra: bytes, data: st.DataObject) -> None:
    lines = chained(some)
    lines.insert(data.draw(st.integers(1, len(lines) - 1)), extra + b"\n")
    assert audit.verify(lines).problems


def test_lines_of_a_popctl_without_a_chain_are_counted_and_the_chain_begins_after_them() -> None:
    lines = [b'{"action":"place"}\n', b'{"action":"lift"}\n']
    lines.append(audit.encode({"action": "place"}, lines[-1]))
    found = audit.verify(lines)
    assert (found.entries, found.unchained, found.problems) == (3, 2, ())


def test_a_line_that_a_full_disk_cut_short_is_found() -> None:
    lines = chained([{}, {}])
    assert audit.verify([lines[0], lines[1][:-4]]).problems
