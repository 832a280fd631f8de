#!/usr/bin/env python3
"""The process that ExaBGP runs: one BGP daemon on stdin and stdout, one popctl agent on a unix socket.

It owns the lease. While an agent renews it, commands go to ExaBGP one at a time and everything ExaBGP says goes
back. When it runs out, all routes are withdrawn; what cannot be proven withdrawn goes with ExaBGP itself, because the
closed session is the one withdraw that always works. It never decides what to announce, and never sends what the
allowlist does not name. Standard library only, `time.monotonic` only.

Usage: relay.py RELAY.JSON
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Json = dict[str, Any]

PROTOCOL = 1
OLDEST, TOO_NEW = (5, 0, 14), (6,)
"""5.0.14 is the first with working GTSM and without line injection by a peer; 6 speaks another API."""
RESEND_S = 0.1
"""A withdraw without echo goes out again: the first batch of a session swallows withdraws."""
TERM_AFTER_S, KILL_AFTER_S = 0.5, 0.7
"""After the lease ran out: end ExaBGP when the withdraw is not proven by then. All is gone at lease + 1 s."""
GUARD_SLACK_S = 0.25
STDIN_LINES = 1 << 17
"""Lines between the reader and the loop. The loop never waits, so only a broken relay fills this."""
AGENT_BUFFER = 4 << 20
"""Bytes kept for a slow agent before its events are dropped and it is told to read everything back."""
LINE_LIMIT = 1 << 16


def log(text: str) -> None:
    """Say one line on stderr, which is ExaBGP's."""
    sys.stderr.write(f"popctl-relay: {text}\n")
    sys.stderr.flush()


def quit_now(text: str, status: int = 1) -> NoReturn:
    """Leave at once, threads or not. ExaBGP starts a successor, or is gone itself."""
    log(text)
    os._exit(status)


# ----------------------------------------------------------------------------------------------- what may be said


class RefusedError(Exception):
    """A command is not one of the few accepted forms, or names something outside the allowlist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The file that popctl renders next to exabgp.conf."""

    socket: str
    lease_s: float
    hold: bool
    asn: int
    neighbors: frozenset[str]
    prefixes: frozenset[str]
    next_hops: frozenset[str]
    communities: frozenset[str]
    large_communities: frozenset[str]

    @classmethod
    def load(cls, path: str) -> Config:
        """Read the file. Raises `ValueError`, `KeyError` or `OSError`: without an allowlist nothing may run."""
        data = json.loads(Path(path).read_text(encoding="ascii"))
        if data["on_expiry"] not in ("withdraw", "hold") or not data["lease_s"] > 0:
            raise ValueError("on_expiry is withdraw or hold, lease_s is positive")
        names = ("neighbors", "prefixes", "next_hops", "communities", "large_communities")
        allow = {name: frozenset(map(str, data["allow"][name])) for name in names}
        return cls(
            socket=data["socket"],
            lease_s=float(data["lease_s"]),
            hold=data["on_expiry"] == "hold",
            asn=int(data["asn"]),
            **allow,
        )


SHOW = frozenset({"show adj-rib out json", "show adj-rib out extensive json", "show neighbor json", "version"})


def check(config: Config, line: str) -> None:
    """Accept `line`, or raise `RefusedError`. A whitelist of forms: what is not understood is not sent."""
    if len(line) > LINE_LIMIT or not (line.isascii() and line.isprintable()):
        raise RefusedError("not one printable ASCII line")
    if line in SHOW:
        return
    match line.split(" "):
        case ["neighbor", peer, "teardown", "2" | "3" | "4"]:
            _listed("neighbor", peer, config.neighbors)
        case ["neighbor", peer, "withdraw", "route", prefix, "next-hop", next_hop]:
            # Any prefix: taking a route back is safe, and a leftover of an older allowlist must be removable.
            _listed("neighbor", peer, config.neighbors)
            _canonical(prefix, ipaddress.ip_network)
            _canonical(next_hop, ipaddress.ip_address)
        case ["neighbor", peer, "announce", "route", prefix, "next-hop", next_hop, *attributes]:
            _listed("neighbor", peer, config.neighbors)
            _listed("prefix", prefix, config.prefixes)
            _listed("next-hop", next_hop, config.next_hops)
            if ipaddress.ip_network(prefix).version != ipaddress.ip_address(next_hop).version:
                raise RefusedError("prefix and next-hop are of different families")
            _attributes(config, attributes)
        case _:
            raise RefusedError("not an accepted command")


def _attributes(config: Config, words: list[str]) -> None:
    """Accept `as-path [ .. ]`, `med N`, `local-preference N`, `community [ .. ]`, `large-community [ .. ]` in order."""
    lists = {
        "as-path": frozenset({str(config.asn)}),
        "community": config.communities,
        "large-community": config.large_communities,
    }
    rest = deque(words)
    for name in ("as-path", "med", "local-preference", "community", "large-community"):
        if not rest or rest[0] != name:
            continue
        rest.popleft()
        if name in lists:
            for value in _bracketed(rest):
                _listed(name, value, lists[name])
        else:
            _number(rest)
    if rest:
        raise RefusedError(f"unexpected {rest[0]!r}")


def _bracketed(rest: deque[str]) -> list[str]:
    if not rest or rest.popleft() != "[":
        raise RefusedError("'[' expected")
    values = []
    while rest and rest[0] != "]":
        values.append(rest.popleft())
    if not rest or not values:
        raise RefusedError("']' expected after at least one value")
    rest.popleft()
    return values


def _number(rest: deque[str]) -> None:
    word = rest.popleft() if rest else ""
    if not word.isdigit() or str(int(word)) != word or int(word) > 0xFFFF_FFFF:  # noqa: PLR2004 - 32 bits
        raise RefusedError(f"{word!r} is not a 32-bit number")


def _listed(what: str, word: str, allowed: frozenset[str]) -> None:
    if word not in allowed:
        raise RefusedError(f"{what} {word} is not in the allowlist")


def _canonical(word: str, parse: Callable[[str], object]) -> None:
    with contextlib.suppress(ValueError):
        if str(parse(word)) == word:
            return
    raise RefusedError(f"{word!r} is not in canonical form")


# -------------------------------------------------------------------------------------------------- ExaBGP's side


class Reader(threading.Thread):
    """Takes everything from ExaBGP at once. ExaBGP's writes block its whole reactor, keepalives included."""

    def __init__(self, wake_fd: int) -> None:
        super().__init__(daemon=True, name="stdin")
        self.lines: deque[str | None] = deque()
        self._wake_fd = wake_fd

    def run(self) -> None:
        """Read until EOF; `None` is the last item."""
        rest = b""
        while chunk := os.read(0, 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            self.lines.extend(line.decode("ascii", "replace") for line in lines)
            if len(self.lines) > STDIN_LINES:
                quit_now("the loop does not keep up with ExaBGP")
            self._wake()
        self.lines.append(None)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_fd, b"x")


@dataclass(slots=True)
class Session:
    """One established session, as its echoes tell it."""

    watched: bool
    """Seen from its first message, so that `sent` is the whole truth."""
    eor: set[str] = field(default_factory=set)
    """Families whose first batch is through."""
    sent: dict[str, Json] = field(default_factory=Json)
    """Prefix -> next hop and attributes that the peer was told last."""


@dataclass(slots=True)
class Command:
    """One line to ExaBGP; `finish` gets the result and the lines that came before it."""

    line: str
    finish: Callable[[str, list[str]], None]
    by_agent: bool = False


class Exabgp:
    """Strictly one command in flight, and what the peers were told."""

    def __init__(self, forward: Callable[[str, Json], None], pid: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.version = ""
        self.refusal = ""
        self.ready = False
        self.sessions: dict[str, Session] = {}
        self.output = bytearray(b"reset\nversion\n")
        self._forward = forward
        self._queue: deque[Command] = deque()
        self._current: Command | None = None
        self._lines: list[str] = []

    def order(self, command: Command) -> None:
        """Queue a command that was checked before."""
        self._queue.append(command)
        self._next()

    def forget_agent(self) -> None:
        """Drop what a gone agent still had queued. The one in flight keeps its answer in step."""
        self._queue = deque(command for command in self._queue if not command.by_agent)

    def signal(self, number: int) -> None:
        """Signal ExaBGP; by pidfd, so never a process that reuses its number."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def feed(self, line: str) -> None:
        """Take one line that ExaBGP wrote."""
        event = _event(line)
        if event is not None:
            self._track(event)
            self._forward(line, event)
        elif not self.ready:
            self._handshake(line)
        elif line in ("done", "error", "shutdown"):
            self._answer(line)
        elif self._current is not None:
            self._lines.append(line)

    def flush(self) -> None:
        """Write what the pipe takes. ExaBGP may be stopped: never wait for it."""
        try:
            while self.output:
                del self.output[: os.write(1, self.output)]
        except BlockingIOError:
            return
        except OSError as error:
            quit_now(f"ExaBGP is gone: {error}", 0)

    def _handshake(self, line: str) -> None:
        # Everything before this line was meant for a helper that died.
        if line.startswith("exabgp "):
            self.version = line.removeprefix("exabgp ")
            self.refusal = _version_problem(self.version)
            if self.refusal:
                log(self.refusal)
        elif line == "done" and self.version:
            self.ready = True
            self._next()

    def _answer(self, result: str) -> None:
        command, lines = self._current, self._lines
        self._current, self._lines = None, []
        if command is not None:
            command.finish(result, lines)
        self._next()

    def _next(self) -> None:
        if self.ready and self._current is None and self._queue:
            self._current = self._queue.popleft()
            self.output += self._current.line.encode("ascii") + b"\n"
            self.flush()

    def _track(self, event: Json) -> None:
        neighbor = event.get("neighbor", {})
        peer = neighbor.get("address", {}).get("peer", "")
        match event["type"], neighbor.get("state"), neighbor.get("message"):
            case "state", "up", _:
                self.sessions[peer] = Session(watched=True)
            case "state", "down", _:
                self.sessions.pop(peer, None)
            case "update", None, {"eor": {"afi": afi, "safi": safi}} if neighbor.get("direction") == "send":
                self._session(peer).eor.add(f"{afi} {safi}")
            case "update", None, {"update": dict(update)} if neighbor.get("direction") == "send":
                _apply(self._session(peer).sent, update)

    def _session(self, peer: str) -> Session:
        return self.sessions.setdefault(peer, Session(watched=False))


def _apply(sent: dict[str, Json], update: Json) -> None:
    for nlris in update.get("withdraw", {}).values():
        for nlri in nlris:
            sent.pop(nlri["nlri"], None)
    for by_next_hop in update.get("announce", {}).values():
        for next_hop, nlris in by_next_hop.items():
            for nlri in nlris:
                sent[nlri["nlri"]] = {"next_hop": next_hop, "attribute": update.get("attribute", {})}


def _event(line: str) -> Json | None:
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if "exabgp" in event and "type" in event else None


def _version_problem(text: str) -> str:
    try:
        version = tuple(int(part) for part in text.partition("-")[0].split("."))
    except ValueError:
        version = ()
    return "" if OLDEST <= version < TOO_NEW else f"ExaBGP {text} found, at least 5.0.14 and below 6 needed"


# ------------------------------------------------------------------------------------------------- the agent's side


class Agent:
    """The one connected agent. Its slowness costs it events, never ExaBGP a wait."""

    def __init__(self, conn: socket.socket) -> None:
        self.conn = conn
        self.greeted = False
        self.closed = False
        self._input = b""
        self._output: deque[tuple[bool, bytes]] = deque()
        self._size = 0
        self._offset = 0

    def send(self, message: Json, *, droppable: bool = False) -> None:
        """Queue a message; nothing but events is ever dropped."""
        self._push(json.dumps(message, separators=(",", ":")).encode("ascii"), droppable=droppable)

    def send_event(self, line: str) -> None:
        """Queue an event as ExaBGP wrote it."""
        self._push(b'{"type":"event","event":' + line.encode("ascii", "replace") + b"}", droppable=True)

    def _push(self, data: bytes, *, droppable: bool) -> None:
        if self._size + len(data) > AGENT_BUFFER and droppable:
            self._drop_events()
        self._output.append((droppable, data + b"\n"))
        self._size += len(data) + 1
        self.flush()

    def _drop_events(self) -> None:
        head = [self._output.popleft()] if self._offset else []
        kept = [item for item in self._output if not item[0]]
        lost = json.dumps({"type": "lost", "count": len(self._output) - len(kept)}).encode("ascii") + b"\n"
        self._output = deque([*head, *kept, (False, lost)])
        self._size = sum(len(data) for _, data in self._output)

    @property
    def has_output(self) -> bool:
        """Whether the socket was full."""
        return bool(self._output)

    def flush(self) -> None:
        """Write what the socket takes."""
        try:
            while self._output:
                data = self._output[0][1]
                self._offset += self.conn.send(data[self._offset :])
                if self._offset == len(data):
                    self._output.popleft()
                    self._size -= len(data)
                    self._offset = 0
        except BlockingIOError:
            return
        except OSError:
            self.closed = True

    def messages(self) -> Iterable[Json]:
        """Read what is there; marks itself closed at EOF or at the first unreadable line."""
        try:
            chunk = self.conn.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self.closed = self.closed or not chunk
        *lines, self._input = (self._input + chunk).split(b"\n")
        if len(self._input) > LINE_LIMIT:
            self.closed = True
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                message = None
            if not isinstance(message, dict):
                self.closed = True
                return
            yield message


# --------------------------------------------------------------------------------------------------------- the purge


class Purge:
    """Withdraw everything, believe only echoes, and end ExaBGP when they do not come in time."""

    def __init__(self, config: Config, exabgp: Exabgp, started: float) -> None:
        self.done = False
        self._config = config
        self._exabgp = exabgp
        self._started = started
        self._resend_at = started
        self._families: dict[str, list[str]] = {}
        self._rib: dict[tuple[str, str], str] = {}
        self._unanswered = 2
        self._signalled = 0
        exabgp.forget_agent()
        exabgp.order(Command("show neighbor json", self._read_neighbors))
        exabgp.order(Command("show adj-rib out json", self._read_rib))

    def deadline(self) -> float:
        """When `tick` has something to do for time alone."""
        steps = (self._started + TERM_AFTER_S, self._started + KILL_AFTER_S, float("inf"))
        return min(steps[self._signalled], self._resend_at if self._unanswered == 0 else float("inf"))

    def tick(self, now: float) -> None:
        """Look at what is left."""
        if self._unanswered == 0 and not self._left():
            self.done = True
            log("lease expired: all routes are withdrawn")
        elif now >= self._started + KILL_AFTER_S and self._signalled < 2:  # noqa: PLR2004 - the last step
            self._signalled = 2
            log("lease expired: ExaBGP is killed")
            self._exabgp.signal(signal.SIGKILL)
        elif now >= self._started + TERM_AFTER_S and self._signalled < 1:
            self._signalled = 1
            log("lease expired: withdraw not proven, ExaBGP is ended")
            self._exabgp.signal(signal.SIGTERM)
        elif self._unanswered == 0 and now >= self._resend_at:
            self._resend_at = now + RESEND_S
            self._withdraw(self._left())

    def _left(self) -> dict[tuple[str, str], str]:
        """What is not proven gone: still in ExaBGP's table, or still told to a peer."""
        left = dict(self._rib)
        for peer, session in self._exabgp.sessions.items():
            left.update({(peer, prefix): told["next_hop"] for prefix, told in session.sent.items()})
        return left

    def _read_neighbors(self, _: str, lines: list[str]) -> None:
        self._unanswered -= 1
        for neighbor in json.loads("".join(lines) or "[]"):
            if neighbor.get("fsm") == "ESTABLISHED":
                self._families[neighbor["peer"]["address"]] = neighbor["families"]

    def _read_rib(self, _: str, lines: list[str]) -> None:
        self._unanswered -= 1
        for line in lines:
            entry = json.loads(line)
            nlri = entry["route"]["nlri"]
            self._rib[entry["peer"]["address"], nlri["prefix"]] = nlri["nexthop"]
        for peer, families in self._families.items():
            self._assume_told(peer, families)

    def _assume_told(self, peer: str, families: list[str]) -> None:
        """A session that began before this process may carry anything on the allowlist, in its negotiated families.

        Of another family there is no echo to wait for, and that would end ExaBGP for nothing.
        """
        session = self._exabgp.sessions.setdefault(peer, Session(watched=False))
        if session.watched:
            return
        held = {prefix: hop for (holder, prefix), hop in self._rib.items() if holder == peer}
        for prefix in self._config.prefixes | held.keys():
            version = ipaddress.ip_network(prefix).version
            if f"ipv{version} unicast" in families:
                hop = held.get(prefix, "0.0.0.0" if version == 4 else "::")  # noqa: S104, PLR2004 - no binding; IPv4
                session.sent.setdefault(prefix, {"next_hop": hop, "attribute": {}})

    def _withdraw(self, left: dict[tuple[str, str], str]) -> None:
        self._unanswered += len(left)
        for (peer, prefix), next_hop in left.items():
            line = f"neighbor {peer} withdraw route {prefix} next-hop {next_hop}"
            self._exabgp.order(Command(line, self._withdrawn(peer, prefix)))

    def _withdrawn(self, peer: str, prefix: str) -> Callable[[str, list[str]], None]:
        def finish(result: str, _: list[str]) -> None:
            self._unanswered -= 1
            if result == "done":
                self._rib.pop((peer, prefix), None)

        return finish


# ------------------------------------------------------------------------------------------------------------- relay


class Relay:
    """The loop: one thread, nothing in it waits but the selector."""

    def __init__(self, config: Config, guard_fd: int) -> None:
        self._config = config
        self._guard_fd = guard_fd
        self._agent: Agent | None = None
        self._purge: Purge | None = None
        self._deadline = time.monotonic() + config.lease_s
        self._expired = False
        self._kill_at = float("inf")
        self._exabgp = Exabgp(self._forward, os.getppid())
        self._selector = selectors.DefaultSelector()
        self._wake_fd, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._reader = Reader(wake)
        self._listener = _listen(config.socket)

    def run(self) -> NoReturn:
        """Work until ExaBGP is gone."""
        os.set_blocking(1, False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._take_lines)
        self._reader.start()
        self._exabgp.flush()
        while True:
            self._watch_writable()
            for key, _ in self._selector.select(max(0.0, self._next_alarm() - time.monotonic())):
                key.data()
            self._tick(time.monotonic())
            with contextlib.suppress(BlockingIOError):
                os.write(self._guard_fd, b".")

    def abandon(self) -> None:
        """Leave no half-done purge to a successor, which would grant another lease first."""
        if self._purge is not None:
            self._exabgp.signal(signal.SIGKILL)

    def _watch_writable(self) -> None:
        _register(self._selector, 1, selectors.EVENT_WRITE if self._exabgp.output else 0, self._exabgp.flush)
        if self._agent is not None:
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._agent.has_output else 0)
            _register(self._selector, self._agent.conn, mask, self._serve)

    def _next_alarm(self) -> float:
        heartbeat = time.monotonic() + self._config.lease_s / 4
        purge = self._purge.deadline() if self._purge else float("inf")
        lease = float("inf") if self._expired else self._deadline
        return min(heartbeat, purge, lease, self._kill_at)

    def _tick(self, now: float) -> None:
        if not self._expired and now >= self._deadline:
            self._expire(now)
        if self._purge:
            self._purge.tick(now)
            if self._purge.done:
                self._purge = None
        if now >= self._kill_at:
            self._exabgp.signal(signal.SIGKILL)

    def _expire(self, now: float) -> None:
        self._expired = True
        self._close_agent()
        if self._config.hold:
            log("lease expired: routes are held, as this site chose")
        else:
            self._start_purge(now)

    def _start_purge(self, now: float) -> None:
        self._purge = Purge(self._config, self._exabgp, now)

    def _take_lines(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_fd, 1 << 12)
        while self._reader.lines:
            line = self._reader.lines.popleft()
            if line is None:
                quit_now("ExaBGP closed the pipe", 0)
            self._exabgp.feed(line)

    def _forward(self, line: str, event: Json) -> None:
        if self._agent is not None and self._agent.greeted:
            self._agent.send_event(line)
        update = event.get("neighbor", {}).get("message", {}).get("update", {})
        if self._expired and not self._config.hold and self._purge is None and "announce" in update:
            self._start_purge(time.monotonic())

    # ------------------------------------------------------------------ one agent at a time

    def _accept(self) -> None:
        conn, _ = self._listener.accept()
        conn.setblocking(False)  # noqa: FBT003 - the signature of the standard library
        newcomer = Agent(conn)
        refusal = self._refusal(conn)
        if refusal:
            newcomer.send({"type": "refused", **refusal})
            conn.close()
            return
        self._close_agent()
        self._agent = newcomer

    def _refusal(self, conn: socket.socket) -> dict[str, str]:
        _, uid, _ = struct.unpack("3i", conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.getuid()):
            return {"reason": "credentials", "detail": f"uid {uid} is neither root nor {os.getuid()}"}
        if self._exabgp.refusal:
            return {"reason": "exabgp-version", "detail": self._exabgp.refusal}
        if self._agent is not None and self._agent.greeted:
            return {"reason": "fenced", "detail": "another agent is connected and its lease is alive"}
        if self._purge is not None or not self._exabgp.ready:
            return {"reason": "busy", "detail": "starting, or withdrawing after an expired lease; try again"}
        return {}

    def _serve(self) -> None:
        agent = self._agent
        if agent is None:
            return
        agent.flush()
        for message in agent.messages():
            if self._agent is agent:
                self._handle(agent, message)
        if agent.closed and self._agent is agent:
            self._close_agent()

    def _close_agent(self) -> None:
        if self._agent is not None:
            _register(self._selector, self._agent.conn, 0, self._serve)
            self._agent.conn.close()
            self._agent = None
            self._exabgp.forget_agent()

    def _handle(self, agent: Agent, message: Json) -> None:
        match message:
            case {"op": "hello", "protocol": 1} if not agent.greeted and self._purge is None:
                self._renew()
                agent.greeted = True
                agent.send(self._welcome())
            case {"op": "renew"} if agent.greeted:
                self._renew()
                agent.send({"type": "renewed"})
            case {"op": "command", "id": int(number), "line": str(line)} if agent.greeted:
                self._command(agent, number, line)
            case {"op": "stop"} if agent.greeted:
                log("the agent ends ExaBGP")
                self._exabgp.signal(signal.SIGTERM)
                self._kill_at = time.monotonic() + (KILL_AFTER_S - TERM_AFTER_S)
            case {"op": "release"} if agent.greeted:
                self._renew()
                agent.send({"type": "released"})
                self._close_agent()
            case _:
                agent.send({"type": "refused", "reason": "protocol", "detail": "not an expected message"})
                self._close_agent()

    def _renew(self) -> None:
        self._deadline = time.monotonic() + self._config.lease_s
        self._expired = False

    def _welcome(self) -> Json:
        sessions = {
            peer: {"eor": sorted(session.eor), "sent": session.sent}
            for peer, session in self._exabgp.sessions.items()
            if session.watched
        }
        return {
            "type": "welcome",
            "protocol": PROTOCOL,
            "exabgp": self._exabgp.version,
            "lease_s": self._config.lease_s,
            "sessions": sessions,
        }

    def _command(self, agent: Agent, number: int, line: str) -> None:
        def finish(result: str, lines: list[str]) -> None:
            if self._agent is agent:
                agent.send({"type": "answer", "id": number, "result": result, "lines": lines})

        try:
            check(self._config, line)
        except RefusedError as refused:
            log(f"refused: {refused}")
            agent.send({"type": "answer", "id": number, "result": "refused", "lines": [], "detail": str(refused)})
            return
        self._exabgp.order(Command(line, finish, by_agent=True))


def _register(
    selector: selectors.BaseSelector, fileobj: int | socket.socket, mask: int, call: Callable[[], None]
) -> None:
    known = selector.get_map().get(fileobj)
    if known is None and mask:
        selector.register(fileobj, mask, call)
    elif known is not None and not mask:
        selector.unregister(fileobj)
    elif known is not None and known.events != mask:
        selector.modify(fileobj, mask, call)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    umask = os.umask(0o117)
    try:
        listener.bind(path)
    finally:
        os.umask(umask)
    listener.listen(8)
    listener.setblocking(False)  # noqa: FBT003 - the signature of the standard library
    return listener


# ------------------------------------------------------------------------------------------------------------- guard


def start_guard(config: Config) -> int:
    """Fork the process that ends ExaBGP when this one no longer turns; returns the descriptor to beat on."""
    beat_read, beat_write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(beat_write, False)
    exabgp, relay = os.getppid(), os.getpid()
    if os.fork() != 0:
        os.close(beat_read)
        return beat_write
    os.close(beat_write)
    os.setpgid(0, 0)
    # The guard must not keep ExaBGP's pipes open: their end is how ExaBGP learns that the relay died.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    return _guard(config, beat_read, os.pidfd_open(exabgp), os.pidfd_open(relay))


def _guard(config: Config, beat_fd: int, exabgp_fd: int, relay_fd: int) -> NoReturn:
    poll = select.poll()
    poll.register(beat_fd, select.POLLIN)
    while poll.poll((config.lease_s + GUARD_SLACK_S) * 1000):
        if not os.read(beat_fd, 1 << 12):
            os._exit(0)  # the relay ended; ExaBGP knows
    if config.hold:
        quit_now("the relay hangs: routes are held, as this site chose")
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(exabgp_fd, signal.SIGTERM)
        select.select([exabgp_fd], [], [], GUARD_SLACK_S)
        signal.pidfd_send_signal(exabgp_fd, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(relay_fd, signal.SIGKILL)
    quit_now("the relay hung: ExaBGP was ended")


def main() -> NoReturn:
    """Run until ExaBGP is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = Config.load(sys.argv[1])
        guard_fd = start_guard(config)
        relay = Relay(config, guard_fd)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        quit_now(f"cannot start: {error!r}")
    try:
        relay.run()
    except BrokenPipeError:
        quit_now("the guard is gone")
    finally:
        relay.abandon()


if __name__ == "__main__":
    main()
