"""The JSON lines between agent and relay, the agent's end."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest

from popctl.model.route import Family
from popctl.wire import relay_api
from popctl.wire.errors import WireError
from popctl.wire.exabgp_api import SessionUp
from popctl.wire.relay_api import Answer, Event, Lost, Refused, Released, Renewed, Result


def test_every_message_of_the_agent_is_one_json_line() -> None:
    lines = [
        relay_api.hello(),
        relay_api.renew(),
        relay_api.command(7, "version"),
        relay_api.stop(),
        relay_api.release(),
    ]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert json.loads(lines[2]) == {"op": "command", "id": 7, "line": "version"}


def test_a_newline_in_a_command_stays_inside_its_json_string() -> None:
    assert relay_api.command(1, "a\nb").count(b"\n") == 1


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"type":"renewed"}', Renewed()),
        (b'{"type":"released"}', Released()),
        (b'{"type":"lost","count":3}', Lost(count=3)),
        (b'{"type":"refused","reason":"fenced","detail":"x"}', Refused(reason="fenced", detail="x")),
        (
            b'{"type":"answer","id":4,"result":"refused","lines":[],"detail":"no"}',
            Answer(number=4, result=Result.REFUSED, detail="no"),
        ),
        (
            b'{"type":"event","event":{"type":"state","neighbor":{"address":{"peer":"192.0.2.1"},"state":"up"}}}',
            Event(event=SessionUp(neighbor=ip_address("192.0.2.1"))),
        ),
    ],
)
def test_every_message_of_the_relay_is_read(line: bytes, value: relay_api.Message) -> None:
    assert relay_api.message(line) == value


def test_the_welcome_tells_what_every_watched_session_was_told() -> None:
    told = {"198.51.100.0/24": {"next_hop": "192.0.2.10", "attribute": {"med": 5}}}
    sessions = {"192.0.2.1": {"eor": ["ipv4 unicast", "ipv4 flow"], "sent": told}}
    data = {"type": "welcome", "protocol": 1, "exabgp": "5.0.15", "lease_s": 3.0, "sessions": sessions}
    welcome = relay_api.message(json.dumps(data).encode())
    assert isinstance(welcome, relay_api.Welcome)
    watched = welcome.sessions[ip_address("192.0.2.1")]
    assert watched.finished == {Family.IPV4_UNICAST}
    assert watched.told[ip_network("198.51.100.0/24")].med == 5
    assert welcome.withdrawn == {}, "a relay of an earlier version does not tell it"


def test_the_welcome_tells_what_was_withdrawn_on_sessions_that_nobody_saw_begin() -> None:
    data = {"type": "welcome", "protocol": 1, "exabgp": "5.0.15", "lease_s": 3.0, "sessions": {}}
    data["withdrawn"] = {"192.0.2.1": ["198.51.100.0/24"], "192.0.2.2": []}
    welcome = relay_api.message(json.dumps(data).encode())
    assert isinstance(welcome, relay_api.Welcome)
    assert welcome.withdrawn == {
        ip_address("192.0.2.1"): {ip_network("198.51.100.0/24")},
        ip_address("192.0.2.2"): frozenset(),
    }


@pytest.mark.parametrize("line", [b"", b"\xff", b"{}", b'{"type":"other"}', b'{"type":"welcome","protocol":2}', b"[]"])
def test_what_the_relay_cannot_have_written_raises_wire_error(line: bytes) -> None:
    with pytest.raises(WireError):
        relay_api.message(line)
