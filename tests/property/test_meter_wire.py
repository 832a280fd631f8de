"""Codecs of the meter: what was written is read back; whatever else comes is a `WireError` and nothing more."""

from __future__ import annotations

from contextlib import suppress
from json import dumps
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from popctl.model.load import Resource, Share, TrafficClasses
from popctl.model.meter import Conntrack, Cpu, Daemon, Ike, L2tpCount, Link, Snapshot, Symptom, Unread
from popctl.model.playbook import Playbook
from popctl.model.reason import Reason
from popctl.wire import meter_api, playbook, proc_text, vici_meter, xl2tpd_control
from popctl.wire.errors import WireError
from popctl.wire.meter_api import DaemonChanged, Hello, Measured

T = TypeVar("T")
amount = st.floats(0.0, 1e15)
st.register_type_strategy(float, amount)


def _or_unread(kind: st.SearchStrategy[T]) -> st.SearchStrategy[T | Unread]:
    return st.one_of(kind, st.builds(Unread, reason=st.sampled_from(Reason), detail=st.text(max_size=8)))


daemons = st.lists(st.builds(Daemon), max_size=3).map(tuple)
snapshots = st.builds(
    Snapshot,
    used=st.dictionaries(st.sampled_from(Resource), amount),
    unknown=st.dictionaries(st.sampled_from([one.value for one in Resource]), st.sampled_from(Reason)),
    cpu=_or_unread(st.builds(Cpu)),
    links=_or_unread(st.lists(st.builds(Link), max_size=3).map(tuple)),
    conntrack=_or_unread(st.builds(Conntrack)),
    ike=_or_unread(st.builds(Ike)),
    l2tp=_or_unread(st.builds(L2tpCount)),
    classes=st.none() | st.builds(TrafficClasses, interactive=st.builds(Share), bulk=st.builds(Share)),
    symptoms=st.lists(st.sampled_from(Symptom), max_size=2).map(tuple),
    daemons=daemons,
)
measured = st.builds(Measured, snapshot=snapshots, age_s=amount)
lines = st.one_of(
    measured,
    st.builds(Hello, interval_s=amount, daemons=daemons),
    st.builds(DaemonChanged, daemon=st.builds(Daemon), age_s=amount),
)


@given(line=lines)
def test_a_line_of_the_stream_comes_back_as_it_was(line: meter_api.Line) -> None:
    text = meter_api.encode_line(line)
    assert text.count(b"\n") == 1
    assert meter_api.decode_line(text) == line


@given(value=measured)
def test_a_snapshot_comes_back_as_it_was(value: Measured) -> None:
    assert meter_api.decode_measured(meter_api.encode_measured(value)) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(data=st.binary(max_size=200))
def test_garbage_is_a_wire_error_for_every_reader(data: bytes) -> None:
    text = data.decode("latin-1")
    readers = (
        lambda: meter_api.decode_line(data),
        lambda: meter_api.decode_measured(data),
        lambda: playbook.decode(data),
        lambda: vici_meter.Receiver().receive(data),
        lambda: vici_meter.decode(data),
        lambda: xl2tpd_control.status(data),
        lambda: xl2tpd_control.status(b"00 OK\n00 STATUS " + data),
        lambda: proc_text.cpu(text),
        lambda: proc_text.links("\n\n" + text),
        lambda: proc_text.conntrack(text, text, text),
        lambda: proc_text.pppol2tp(text),
        lambda: proc_text.start_ticks(text),
    )
    for read in readers:
        with suppress(WireError):
            read()


@given(value=json_values, key=st.sampled_from(["pops", "fleet", "created_unix_s", "reconnect_window_s", "version"]))
def test_any_json_in_a_playbook_is_a_wire_error_or_a_playbook(value: object, key: str) -> None:
    body = {"format": "popctl-playbook", "version": 1, "fleet": "f", "created_unix_s": 1, "pops": {"a": {}}, key: value}
    with suppress(WireError):
        assert isinstance(playbook.decode(dumps(body)), Playbook)
