"""Parts of the relay that need no ExaBGP: its grammar, its version check, and an agent that does not read."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from popctl.bgp.render import RELAY, render
from tests.unit.bgp.relay_modules import agent, allowlist, daemon
from tests.unit.bgp.test_render import INSTALLATION, POP

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD_VERSIONS = ("5.0.14", "5.0.15", "5.1.0", "5.0.15-abc")
BAD_VERSIONS = ("4.2.25", "5.0.13", "6.0.0", "main")
ANNOUNCE = "neighbor 192.0.2.1 announce route 198.51.100.0/24 next-hop 192.0.2.10"


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> object:
    path = tmp_path / RELAY
    path.write_text(render(POP, INSTALLATION)[RELAY])
    return allowlist.Config.load(str(path))


@pytest.mark.parametrize(
    "line",
    [
        "version",
        "show adj-rib out json",
        "show neighbor json",
        "neighbor 192.0.2.1 teardown 2",
        "neighbor 192.0.2.99 teardown 2",
        "neighbor 192.0.2.99 withdraw route 203.0.113.0/24 next-hop 0.0.0.0",
        "neighbor 192.0.2.1 withdraw route 203.0.113.0/24 next-hop 0.0.0.0",
        ANNOUNCE,
        f"{ANNOUNCE} as-path [ 65010 65010 ] med 0 local-preference 4294967295 community [ 65535:0 ]",
        f"{ANNOUNCE} large-community [ 65010:1:2 ]",
        "neighbor 2001:db8::1 announce route 2001:db8:100::/48 next-hop 2001:db8::10",
    ],
)
def test_the_few_forms_are_accepted(config: object, line: str) -> None:
    allowlist.check(config, line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        " version",
        "version ",
        "version\n",
        "versi\u00f6n",
        "help",
        "show neighbor summary",
        "reload",
        "flush adj-rib out",
        "neighbor 192.0.2.1 teardown 2 ",
        "neighbor * teardown 2",
        "neighbor 192.0.2.099 teardown 2",
        "neighbor 192.0.2.99,192.0.2.1 withdraw route 203.0.113.0/24 next-hop 0.0.0.0",
        "neighbor 192.0.2.99 announce route 198.51.100.0/24 next-hop 192.0.2.10",
        "neighbor 192.0.2.1 , neighbor 192.0.2.99 teardown 2",
        "neighbor 192.0.2.1 withdraw route 203.0.113.0/24",
        "neighbor 192.0.2.1 withdraw route 203.0.113.1/24 next-hop 0.0.0.0",
        "neighbor 192.0.2.1 announce route 2001:db8:100::/48 next-hop 192.0.2.10",
        "neighbor 192.0.2.1 announce eor ipv4 unicast",
        f"{ANNOUNCE}  med 1",
        f"{ANNOUNCE} med",
        f"{ANNOUNCE} med -1",
        f"{ANNOUNCE} med 01",
        f"{ANNOUNCE} med 4294967296",
        pytest.param(f"{ANNOUNCE} med {'9' * 5000}", id="a number of 5000 digits"),
        f"{ANNOUNCE} med 1 as-path [ 65010 ]",
        f"{ANNOUNCE} med 1 med 2",
        f"{ANNOUNCE} as-path [ ]",
        f"{ANNOUNCE} as-path [ 65010",
        f"{ANNOUNCE} as-path [ 65000 ]",
        f"{ANNOUNCE} community [ no-export ]",
        f"{ANNOUNCE} community 65535:0",
        f"{ANNOUNCE} watchdog x",
        f"{ANNOUNCE} split /25",
        "x" * (1 << 17),
    ],
)
def test_everything_else_is_refused(config: object, line: str) -> None:
    with pytest.raises(allowlist.RefusedError):
        allowlist.check(config, line)


@pytest.mark.parametrize(
    ("text", "good"),
    [*((text, True) for text in GOOD_VERSIONS), *((text, False) for text in BAD_VERSIONS)],
)
def test_only_the_known_line_of_exabgp_is_spoken_with(text: str, *, good: bool) -> None:
    assert (daemon._version_problem(text) == "") is good  # noqa: SLF001 - the rule is not part of an interface


@pytest.fixture(name="ends")
def _ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    relay_end, agent_end = socket.socketpair()
    with relay_end, agent_end:
        relay_end.settimeout(0.0)
        agent_end.settimeout(1.0)
        yield relay_end, agent_end


def test_an_agent_that_does_not_read_loses_events_never_answers_and_is_told_so(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    relay_end, agent_end = ends
    slow = agent.Agent(relay_end)
    event = json.dumps({"exabgp": "5.0.0", "type": "state", "filler": "x" * 1000})
    for number in range(3 * agent.AGENT_BUFFER // len(event)):
        slow.send_event(event)
        if number % 1000 == 0:
            slow.send({"type": "answer", "id": number})
    held = sum(len(data) for _, data in slow._output)  # noqa: SLF001 - the bound is the point
    assert held <= agent.AGENT_BUFFER + len(event) + 100
    received = b""
    while slow.has_output:
        received += agent_end.recv(1 << 20)
        slow.flush()
    slow.conn.close()
    while chunk := agent_end.recv(1 << 20):
        received += chunk
    messages = [json.loads(line) for line in received.splitlines()]
    kinds = [message["type"] for message in messages]
    answers = [message["id"] for message in messages if message["type"] == "answer"]
    assert answers == sorted(answers)
    assert answers[-1] - answers[0] == 1000 * (len(answers) - 1), "no answer is missing"
    assert "lost" in kinds
    assert kinds.count("event") > 0


@pytest.mark.parametrize(
    "line", [b"[" * 60000, b'{"op":' * 10000, b"9" * 5000, b"\xff", b"[]", b""], ids=lambda line: line[:6].hex()
)
def test_a_line_that_is_no_message_ends_the_connection_and_nothing_else(
    ends: tuple[socket.socket, socket.socket], line: bytes
) -> None:
    relay_end, agent_end = ends
    mad = agent.Agent(relay_end)
    agent_end.sendall(line + b"\n")
    assert list(mad.messages()) == []
    assert mad.closed


def test_without_a_readable_allowlist_the_relay_does_not_start(tmp_path: Path) -> None:
    for text in ("", "{}", '{"on_expiry": "maybe", "lease_s": 1}'):
        path = tmp_path / RELAY
        path.write_text(text)
        with pytest.raises((ValueError, KeyError)):
            allowlist.Config.load(str(path))
