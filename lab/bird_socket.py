"""BIRD's control socket, spoken directly: a question in well under a millisecond, for measuring when a route goes."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_TIMEOUT_S = 5.0
_CODE = 4
"""Digits of a reply code; a blank behind them ends the reply, a dash continues it."""


class BirdSocketError(Exception):
    """BIRD closed the connection, or said something that is no reply."""


class Received(NamedTuple):
    """What one session of a router has brought."""

    since: str
    """When the session's protocol came into its present state: which session this is."""
    changes: int
    """UPDATEs and withdraws of routes."""


class Changes:
    """Counts over sessions that come and go, because BIRD begins anew with each."""

    def __init__(self) -> None:
        self._latest = Received("", 0)
        self._earlier = 0

    def total(self, received: Received) -> int:
        """Return how many changes were seen so far, by every reading that was given."""
        if received.since != self._latest.since:
            self._earlier += self._latest.changes
        self._latest = received
        return self._earlier + received.changes


class BirdSocket:
    """One connection to one BIRD (doc: "Remote control", reply codes)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.connect(str(path))
        self._rest = b""
        self._reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, command: str) -> str:
        """Return the reply to one command, codes included."""
        self._socket.sendall(command.encode("ascii") + b"\n")
        return self._reply()

    def carries(self, prefix: str, session: str) -> bool:
        """Tell whether BIRD holds a route to exactly this prefix that came from this session."""
        return f"[{session} " in self.ask(f"show route {prefix} protocol {session}")

    def received(self, session: str) -> Received:
        """Return what a session has brought since it came up."""
        since, changes = "", 0
        for line in self.ask(f"show protocols all {session}").splitlines():
            head, words = line[_CODE + 1 :].split(), line.split()
            if head[:2] == [session, "BGP"]:
                since = head[4]
            if words[:2] in (["Import", "updates:"], ["Import", "withdraws:"]):
                changes += int(words[2])
        return Received(since, changes)

    def _reply(self) -> str:
        lines: list[str] = []
        while True:
            line = self._line()
            lines.append(line)
            if line[:_CODE].isdigit() and line[_CODE : _CODE + 1] == " ":
                return "\n".join(lines)

    def _line(self) -> str:
        while b"\n" not in self._rest:
            data = self._socket.recv(65536)
            if not data:
                raise BirdSocketError("BIRD closed its control socket")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace")
