"""The loop between the two sides: who may speak, until when, and what goes where."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from agent import Agent
from allowlist import Config, RefusedError, check
from console import log, quit_now
from daemon import Command, Exabgp, Json, Reader
from purge import KILL_AFTER_S, TERM_AFTER_S, Purge

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL = 1
REFUSED_MOST = 8
"""Refused connections that are kept until they have spoken."""


class Relay:
    """The loop: one thread, nothing in it waits but the selector."""

    def __init__(self, config: Config, guard_fd: int) -> None:
        self._config = config
        self._guard_fd = guard_fd
        self._agent: Agent | None = None
        self._refused: deque[socket.socket] = deque()
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
            self._see_off(conn)
            return
        self._close_agent()
        self._agent = newcomer

    def _see_off(self, conn: socket.socket) -> None:
        """Close a refused connection after its hello: whoever still writes when it closes never reads the reason."""
        with contextlib.suppress(OSError):
            conn.shutdown(socket.SHUT_WR)
        self._refused.append(conn)
        _register(self._selector, conn, selectors.EVENT_READ, partial(self._forget, conn))
        if len(self._refused) > REFUSED_MOST:
            self._forget(self._refused[0])

    def _forget(self, conn: socket.socket) -> None:
        if conn not in self._refused:
            return
        with contextlib.suppress(OSError):
            conn.recv(1 << 16)
        self._refused.remove(conn)
        _register(self._selector, conn, 0, self._accept)
        conn.close()

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
        unwatched = {
            peer: sorted(session.withdrawn) for peer, session in self._exabgp.sessions.items() if not session.watched
        }
        return {
            "type": "welcome",
            "protocol": PROTOCOL,
            "exabgp": self._exabgp.version,
            "lease_s": self._config.lease_s,
            "sessions": sessions,
            "withdrawn": unwatched,
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
