"""The state file detects every damage that a disk, a crash or an editor can do to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from popctl.model.observation import Intent, IntentKind
from popctl.wire.errors import WireError
from popctl.wire.intents_file import decode_state, encode_state, with_deadline

times = st.floats(min_value=0.0, max_value=1e11)
drains = st.floats(min_value=0.0, max_value=1e6)
intents = st.builds(
    Intent,
    kind=st.sampled_from(IntentKind),
    target=st.text(max_size=20),
    reason=st.text(max_size=40),
    owner=st.text(max_size=10),
    created_unix_s=times,
    drain_s=drains,
    forced=st.booleans(),
    expires_unix_s=st.none() | times,
)
lists = st.lists(intents, max_size=4, unique_by=lambda intent: (intent.kind, intent.target))


def is_refused(content: bytes) -> bool:
    try:
        decode_state(content)
    except WireError:
        return True
    return False


@given(lists)
def test_what_was_written_is_read(some: list[Intent]) -> None:
    assert set(decode_state(encode_state(some))) == set(some)
    assert encode_state(reversed(some)) == encode_state(some)


@given(lists, st.data())
def test_every_truncation_is_detected(some: list[Intent], data: st.DataObject) -> None:
    content = encode_state(some)
    assert is_refused(content[: data.draw(st.integers(0, len(content) - 1))])


@given(lists, st.data())
def test_every_flipped_bit_is_detected(some: list[Intent], data: st.DataObject) -> None:
    content = bytearray(encode_state(some))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert is_refused(bytes(content))


@given(lists, st.binary(min_size=1, max_size=8), st.data())
def test_everything_added_is_detected(some: list[Intent], extra: bytes, data: st.DataObject) -> None:
    content = encode_state(some)
    at = data.draw(st.integers(0, len(content)))
    assert is_refused(content[:at] + extra + content[at:])


@given(st.binary(max_size=200))
def test_garbage_raises_only_wire_error(content: bytes) -> None:
    assert is_refused(content)


@given(intents, times, st.floats(min_value=0.0, max_value=1e9))
def test_no_clock_can_make_a_drain_longer_than_ordered(intent: Intent, unix_s: float, now: float) -> None:
    left_s = with_deadline(intent, unix_s=unix_s, now=now).drain_until - now
    assert left_s <= intent.drain_s * (1 + 1e-9) + 1e-6
