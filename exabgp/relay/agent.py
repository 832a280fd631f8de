"""The agent's side: JSON lines on a unix socket, kept for an agent that is slow."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING

from allowlist import LINE_LIMIT

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from daemon import Json

AGENT_BUFFER = 4 << 20
"""Bytes kept for a slow agent before its events are dropped and it is told to read everything back."""


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
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                self.closed = True
                return
            yield message
