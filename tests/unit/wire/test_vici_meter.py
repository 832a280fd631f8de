"""VICI as a meter reads it: charon's real answers, bytes in any portions, and garbage."""

from __future__ import annotations

import struct

import pytest
from vici.protocol import Message

from popctl.model.meter import SaBytes
from popctl.wire import vici_meter
from popctl.wire.errors import WireError
from popctl.wire.vici_meter import Kind, Receiver

STATS = {
    "uptime": {"running": "7 minutes", "since": "Nov 23 05:30:58 2026"},
    "workers": {"total": "16", "idle": "10", "active": {"critical": "5", "high": "0", "medium": "1", "low": "0"}},
    "queues": {"critical": "0", "high": "1", "medium": "0", "low": "2"},
    "ikesas": {"total": "12", "half-open": "3"},
    "plugins": ["charon-systemd", "random"],
}
COUNTERS = {
    "counters": {
        "": {
            "ike-rekey-init": "1",
            "ike-rekey-resp": "2",
            "child-rekey": "4",
            "invalid": "0",
            "invalid-spi": "9",
            "ike-init-in-req": "40",
        }
    },
    "success": "yes",
}
POOLS = {"net": {"base": "10.9.0.0", "size": "254", "online": "9", "offline": "1"}}
SA = {
    "ikev2-psk": {
        "uniqueid": "5",
        "state": "ESTABLISHED",
        "child-sas": {"net-1": {"bytes-in": "100", "bytes-out": "50"}, "net-2": {"bytes-in": "1", "bytes-out": "1"}},
    }
}


def _packet(kind: int, message: dict[str, object], event: str = "") -> bytes:
    name = bytes([len(event)]) + event.encode() if event else b""
    body = bytes([kind]) + name + Message.serialize(message)
    return struct.pack("!I", len(body)) + body


def _body(message: dict[str, object]) -> dict[str, object]:
    (found,) = Receiver().receive(_packet(Kind.ANSWER, message))
    return dict(found.body)


def test_charons_answers_become_counters() -> None:
    found = vici_meter.counters(_body(STATS), _body(COUNTERS), _body(POOLS))
    assert (found.sas, found.half_open, found.workers_idle, found.jobs_queued) == (12, 3, 10, 3)
    assert (found.handshakes, found.rekeys, found.invalid_spi, found.uptime_s) == (42, 7, 9, 420.0)
    assert (found.leases, found.addresses) == (9, 254)


def test_without_pools_leases_are_unknown_not_none_used() -> None:
    assert vici_meter.counters(_body(STATS), _body(COUNTERS), {}).leases is None


@pytest.mark.parametrize("name", ["workers", "queues", "ikesas", "uptime"])
def test_an_answer_that_lacks_a_section_is_a_wire_error(name: str) -> None:
    with pytest.raises(WireError):
        vici_meter.counters(_body({key: value for key, value in STATS.items() if key != name}), _body(COUNTERS), {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("0 seconds", 0), ("1 minute", 60), ("3 hours", 10800), ("2 days", 172800)]
)
def test_uptime_is_read_as_charon_prints_it(text: str, seconds: float) -> None:
    assert vici_meter.uptime_s(text) == seconds


def test_an_established_sa_tells_its_children_and_bytes() -> None:
    assert vici_meter.sa_bytes(_body(SA)) == {"5": SaBytes(children=2, bytes=152)}
    assert vici_meter.sa_bytes(_body({"(unnamed)": {"uniqueid": "6", "state": "CONNECTING"}})) == {}


def test_packets_are_found_in_bytes_of_any_portions() -> None:
    stream = _packet(Kind.EVENT, SA, "list-sa") + _packet(Kind.ANSWER, {}) + _packet(Kind.CONFIRMED, {})[:3]
    whole = Receiver().receive(stream)
    receiver = Receiver()
    single = [packet for byte in stream for packet in receiver.receive(bytes([byte]))]
    assert whole == single
    assert [(packet.kind, packet.event) for packet in whole] == [(Kind.EVENT, "list-sa"), (Kind.ANSWER, "")]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\x09",
        b"\x00\x00\x00\x01\x07",
        b"\x00\x00\x00\x03\x01\x03\x05",
        b"\x00\x00\x00\x02\x01\x01",
    ],
)
def test_what_is_no_packet_is_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        Receiver().receive(data)


def test_requests_are_framed_as_the_package_frames_them() -> None:
    assert vici_meter.request("stats") == b"\x00\x00\x00\x07\x00\x05stats"
    assert vici_meter.register("list-sa") == b"\x00\x00\x00\x09\x03\x07list-sa"
    assert vici_meter.unregister("list-sa") == b"\x00\x00\x00\x09\x04\x07list-sa"
