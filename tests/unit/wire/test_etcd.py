"""The gateway's JSON: what was captured from etcd 3.4.23, and everything that is no answer."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.wire import etcd
from popctl.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = (
    '"header":{"cluster_id":"6930805681439470907","member_id":"9265619892315062708","revision":"2","raft_term":"2"}'
)
KV = '{"key":"L2EveA==","create_revision":"2","mod_revision":"2","version":"1","value":"aGk=","lease":"12"}'
KEY_VALUE = etcd.KeyValue(key=b"/a/x", value=b"hi", created=2, modified=2)
READERS: tuple[Callable[[bytes], object], ...] = (etcd.granted, etcd.seconds_left, etcd.found, etcd.ended)


def text(content: bytes) -> str:
    return b64encode(content).decode()


def test_a_lease_is_read() -> None:
    assert etcd.granted(b"{" + HEADER.encode() + b',"ID":"122901240049819398","TTL":"2"}') == 122901240049819398


def test_a_renewed_lease_says_what_is_left_and_an_ended_one_leaves_it_out() -> None:
    assert etcd.seconds_left(f'{{"result":{{{HEADER},"ID":"12","TTL":"2"}}}}\n'.encode()) == 2
    assert etcd.seconds_left(f'{{"result":{{{HEADER},"ID":"99"}}}}\n'.encode()) == 0


def test_a_range_is_read_and_an_empty_one_has_no_list() -> None:
    answer = f'{{{HEADER},"kvs":[{KV}],"count":"1"}}'.encode()
    assert etcd.found(answer) == etcd.Range(revision=2, found=(KEY_VALUE,))
    assert etcd.found(f"{{{HEADER}}}".encode()) == etcd.Range(revision=2, found=())


def test_a_transaction_that_succeeded_and_one_that_did_not() -> None:
    put = f'{{{HEADER},"succeeded":true,"responses":[{{"response_put":{{"header":{{"revision":"2"}}}}}}]}}'
    assert etcd.ended(put.encode()) == etcd.TxnAnswer(succeeded=True, revision=2, found=())
    found = f'{{{HEADER},"responses":[{{"response_range":{{"header":{{"revision":"2"}},"kvs":[{KV}],"count":"1"}}}}]}}'
    assert etcd.ended(found.encode()) == etcd.TxnAnswer(succeeded=False, revision=2, found=(KEY_VALUE,))


WATCHED = (
    f'{{"result":{{{HEADER},"created":true}}}}\n'
    f'{{"result":{{{HEADER},"events":[{{"kv":{KV}}}]}}}}\n'
    f'{{"result":{{{HEADER},"events":[{{"type":"DELETE","kv":{{"key":"L2EveA==","mod_revision":"3"}}}}]}}}}\n'
    f'{{"result":{{{HEADER},"canceled":true,"compact_revision":"3"}}}}\n'
).encode()


@pytest.mark.parametrize("width", [1, 7, 64, len(WATCHED)])
def test_a_watch_is_read_however_the_bytes_were_cut(width: int) -> None:
    lines = etcd.WatchLines()
    pieces = [WATCHED[begin : begin + width] for begin in range(0, len(WATCHED), width)]
    found = [message for piece in pieces for message in lines.feed(piece)]
    gone = etcd.KeyValue(key=b"/a/x", value=None, created=0, modified=3)
    assert [message.events for message in found] == [(), (KEY_VALUE,), (gone,), ()]
    assert [message.canceled for message in found] == ["", "", "", "compacted at 3"]


def test_an_error_in_a_watch_ends_it() -> None:
    line = b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}\n'
    (message,) = etcd.WatchLines().feed(line)
    assert "no leader" in message.canceled


def test_a_watch_message_without_an_end_is_refused() -> None:
    lines = etcd.WatchLines()
    for _ in range(etcd.MAX_LINE_BYTES // 2**20):
        assert list(lines.feed(b"x" * 2**20)) == []
    with pytest.raises(WireError):
        list(lines.feed(b"x"))


def test_a_grant_compares_own_record_fence_and_pins() -> None:
    keys = etcd.Keys("fleet")
    wanted = etcd.Txn(pop="a", value=b"v", lease=12, replaces=7, fence=5, renew_fence=True, pins=(("b", 3),))
    body = json.loads(etcd.txn(keys, wanted))
    own, fence, other = (text(key) for key in (keys.pop("a"), keys.fence, keys.pop("b")))
    assert body["compare"] == [
        {"key": own, "target": "MOD", "result": "EQUAL", "mod_revision": "7"},
        {"key": fence, "target": "MOD", "result": "EQUAL", "mod_revision": "5"},
        {"key": other, "target": "CREATE", "result": "EQUAL", "create_revision": "3"},
    ]
    assert body["success"] == [
        {"request_put": {"key": own, "value": text(b"v"), "lease": "12"}},
        {"request_put": {"key": fence, "value": text(b"a")}},
    ]
    assert body["failure"] == [{"request_range": keys.all()}]


def test_a_plain_write_compares_only_the_own_record() -> None:
    wanted = etcd.Txn(pop="a", value=b"v", lease=12, replaces=0, fence=None, renew_fence=False, pins=())
    body = json.loads(etcd.txn(etcd.Keys("fleet"), wanted))
    assert len(body["compare"]) == len(body["success"]) == 1


@given(st.text(), st.text(min_size=1))
def test_keys_name_their_pop_and_lie_in_the_range_of_their_fleet(fleet: str, pop: str) -> None:
    try:
        keys = etcd.Keys(fleet)
        key = keys.pop(pop)
    except UnicodeEncodeError:
        return
    assert keys.name(key) == pop
    assert keys.name(keys.fence) is None
    first, end = (b64decode(keys.all()[bound]) for bound in ("key", "range_end"))
    assert first <= key < end
    assert first <= keys.fence < end


def test_fleets_whose_names_begin_alike_do_not_meet() -> None:
    assert etcd.Keys("eu").name(etcd.Keys("eu2").pop("a")) is None


def test_a_lease_is_never_shorter_than_a_second() -> None:
    assert json.loads(etcd.grant(0.2)) == {"TTL": "1"}


def test_an_error_answer_is_told_even_if_it_is_no_json() -> None:
    assert etcd.error(b'{"error":"etcdserver: requested lease not found","code":5}') == (
        "etcdserver: requested lease not found"
    )
    assert etcd.error(b"404 page not found\n") == "404 page not found\n"


@pytest.mark.parametrize("read", READERS)
@given(st.binary(max_size=200))
def test_garbage_raises_only_wire_errors(read: Callable[[bytes], object], content: bytes) -> None:
    with suppress(WireError):
        read(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("header", "result", "kvs", "kv", "events", "ID", "responses")), inner, max_size=3
        )
    ),
)


@pytest.mark.parametrize("read", [*READERS, lambda content: list(etcd.WatchLines().feed(content + b"\n"))])
@given(JSON)
def test_json_of_another_shape_raises_only_wire_errors(read: Callable[[bytes], object], document: object) -> None:
    with suppress(WireError):
        read(json.dumps(document).encode())
