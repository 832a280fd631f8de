"""Codecs of the meter: what was written is read back; whatever else comes is a `WireError` and nothing more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from json import dumps
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.model.load import Resource, Share, TrafficClasses
from popctl.model.meter import Conntrack, Cpu, Daemon, DaemonState, Ike, L2tpCount, Link, Snapshot, Symptom, Unread
from popctl.model.playbook import Playbook
from popctl.model.reason import Reason
from popctl.wire import meter_api, playbook, proc_text, vici_meter, xl2tpd_control
from popctl.wire.errors import WireError
from popctl.wire.meter_api import DaemonChanged, Hello, Measured
from tests.unit.wire.strange_numbers import documents

T = TypeVar("T")
amount = st.floats(0.0, 1e15)
count = st.integers(0, 2**64 - 1)
_FIGURES = {"float": amount, "int": count, "int | None": st.none() | count}


def _built(kind: type[T], **given: st.SearchStrategy[object]) -> st.SearchStrategy[T]:
    """Build a `kind` whose figures are such as a host has."""
    figures = {one.name: _FIGURES[one.type] for one in fields(kind) if one.type in _FIGURES}
    return st.builds(kind, **figures | given)


def _or_unread(kind: st.SearchStrategy[T]) -> st.SearchStrategy[T | Unread]:
    return st.one_of(kind, st.builds(Unread, reason=st.sampled_from(Reason), detail=st.text(max_size=8)))


daemons = st.lists(_built(Daemon), max_size=3).map(tuple)
snapshots = st.builds(
    Snapshot,
    used=st.dictionaries(st.sampled_from(Resource), amount),
    unknown=st.dictionaries(st.sampled_from([one.value for one in Resource]), st.sampled_from(Reason)),
    cpu=_or_unread(_built(Cpu)),
    links=_or_unread(st.lists(_built(Link), max_size=3).map(tuple)),
    conntrack=_or_unread(_built(Conntrack)),
    ike=_or_unread(_built(Ike)),
    l2tp=_or_unread(_built(L2tpCount)),
    classes=st.none() | _built(TrafficClasses, interactive=_built(Share), bulk=_built(Share)),
    symptoms=st.lists(st.sampled_from(Symptom), max_size=2).map(tuple),
    daemons=daemons,
)
measured = _built(Measured, snapshot=snapshots, age_s=amount)
lines = st.one_of(
    measured,
    _built(Hello, interval_s=amount, daemons=daemons),
    _built(DaemonChanged, daemon=_built(Daemon), age_s=amount),
)


@given(line=lines)
def test_a_line_of_the_stream_comes_back_as_it_was(line: meter_api.Line) -> None:
    text = meter_api.encode_line(line)
    assert text.count(b"\n") == 1
    assert meter_api.decode_line(text) == line


@given(value=measured)
def test_a_snapshot_comes_back_as_it_was(value: Measured) -> None:
    assert meter_api.decode_measured(meter_api.encode_measured(value)) == value


def _figures(value: object) -> Iterator[float]:
    match value:
        case bool():
            raise AssertionError("truth is no figure")
        case int() | float():
            yield value
        case dict():
            for one in value.values():
                yield from _figures(one)
        case tuple():
            for one in value:
                yield from _figures(one)
        case _ if is_dataclass(value):
            for one in fields(value):
                yield from _figures(getattr(value, one.name))


SNAPSHOT = Snapshot(
    used={Resource.SESSIONS: 3.0, Resource.BITS: 1e9},
    unknown={},
    cpu=Cpu(cores=4, user=0.25, system=0.125, softirq=0.5, steal=0.0, busiest_softirq=1.0),
    links=(Link(name="eth0", rx_bit_s=1.5, tx_bit_s=2.5, rx_packet_s=3.5, tx_packet_s=4.5, drop_s=0.0),),
    conntrack=Conntrack(entries=5, limit=9, insert_failed_s=0.0, drop_s=0.0),
    ike=Ike(
        uptime_s=60.0,
        sas=3,
        half_open=1,
        children=3,
        handshakes_s=0.5,
        rekeys_min=0.25,
        invalid_spi_s=0.0,
        workers_idle=11,
        jobs_queued=0,
        leases=3,
        addresses=100,
    ),
    l2tp=L2tpCount(tunnels=2, sessions=2),
    classes=TrafficClasses(interactive=Share(sessions=2, bit_s=100.5), bulk=Share(sessions=1, bit_s=1e8)),
    daemons=(Daemon(name="charon", state=DaemonState.RUNNING, pid=12, life="1-12"),),
    refused_ike=1,
    refused_esp=2,
)


@pytest.mark.parametrize(
    "line",
    [
        Measured(snapshot=SNAPSHOT, age_s=0.5),
        Hello(interval_s=5.0, daemons=SNAPSHOT.daemons),
        DaemonChanged(daemon=SNAPSHOT.daemons[0], age_s=0.25),
    ],
)
def test_whatever_stands_where_a_number_should_no_strange_figure_is_read(line: meter_api.Line) -> None:
    """What is read is added up over backends, put on the clock, and told to the fleet in JSON."""
    tried = 0
    for what, text in documents(meter_api.encode_line(line).decode()):
        tried += 1
        with suppress(WireError):
            found = list(_figures(meter_api.decode_line(text.encode())))
            assert all(math.isfinite(sum([float(one)] * 1000)) and one >= 0 for one in found), what
    assert tried


@pytest.mark.parametrize("interval_s", ["-5", "true", '"5"', "1e999"])
def test_an_interval_is_a_time(interval_s: str) -> None:
    with pytest.raises(WireError):
        meter_api.decode_line(f'{{"event":"hello","interval_s":{interval_s},"daemons":[]}}'.encode())


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
