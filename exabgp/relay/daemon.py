"""ExaBGP's side: its text API on stdin and stdout, one command in flight, and what the peers were told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from console import log, quit_now

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]

OLDEST, TOO_NEW = (5, 0, 14), (6,)
"""5.0.14 is the first with working GTSM and without line injection by a peer; 6 speaks another API."""
STDIN_LINES = 1 << 17
"""Lines between the reader and the loop. The loop never waits, so only a broken relay fills this."""


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
    withdrawn: set[str] = field(default_factory=set)
    """Prefixes whose withdraw the peer was told last: all that is known of what an unwatched one does not hold."""


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
                _apply(self._session(peer), update)

    def _session(self, peer: str) -> Session:
        return self.sessions.setdefault(peer, Session(watched=False))


def _apply(session: Session, update: Json) -> None:
    for nlris in update.get("withdraw", {}).values():
        for nlri in nlris:
            session.sent.pop(nlri["nlri"], None)
            session.withdrawn.add(nlri["nlri"])
    for by_next_hop in update.get("announce", {}).values():
        for next_hop, nlris in by_next_hop.items():
            for nlri in nlris:
                session.sent[nlri["nlri"]] = {"next_hop": next_hop, "attribute": update.get("attribute", {})}
                session.withdrawn.discard(nlri["nlri"])


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
