"""HTTP to an agent over its unix socket, with the standard library: a command must start fast."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

from popctl.cli.exits import Exit
from popctl.model.observation import IntentKind
from popctl.wire.agent_api import Intents, OrderReply, Problem, Status, Why, decode
from popctl.wire.agent_order import Order, encode_order
from popctl.wire.errors import WireError

T = TypeVar("T")

ANSWER_WITHIN_S = 15.0
"""Longer than the agent waits for a slow disk and for its loop together."""
MAX_ANSWER_BYTES = 64 * 2**20

_OK = 200
_EXITS = {
    "interlock": Exit.INTERLOCK,
    "unknown-target": Exit.NOT_FOUND,
    "state-corrupt": Exit.STATE,
    "not-written": Exit.STATE,
    "bad-request": Exit.USAGE,
}


class ClientError(Exception):
    """A command cannot do what it was asked. Knows its exit code."""

    exit_code = Exit.REFUSED


class UnreachableError(ClientError):
    """Nobody answers at the socket."""

    exit_code = Exit.UNREACHABLE

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"no agent answers at {path}: {problem}; remedy: is popctl agent running here?")
        self.path = path
        self.problem = problem


class PermissionDeniedError(ClientError):
    """The socket's mode keeps this user out."""

    exit_code = Exit.NO_PERMISSION

    def __init__(self, path: Path) -> None:
        super().__init__(f"no permission to open {path}; remedy: run as root or join the socket's group")
        self.path = path


class StrangeAnswerError(ClientError):
    """Something answered that is not this API."""

    exit_code = Exit.PROTOCOL

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"what answers at {path} does not speak this API: {problem}")
        self.path = path
        self.problem = problem


class RefusedError(ClientError):
    """The agent said no, and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"refused ({problem.code}): {problem.detail or problem.title}")
        self.problem = problem
        self.exit_code = _EXITS.get(problem.code, Exit.REFUSED)


class AgentClient:
    """The API as methods. Every one raises `ClientError` and nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def status(self) -> Status:
        """Ask for everything about the PoP."""
        return self._ask("GET", "/v1/status", Status)

    def why(self, prefix: str) -> Why:
        """Ask for the chain behind a prefix."""
        return self._ask("GET", f"/v1/why/{quote(prefix, safe='')}", Why)

    def intents(self) -> Intents:
        """Ask for the orders in force."""
        return self._ask("GET", "/v1/intents", Intents)

    def place(self, order: Order) -> OrderReply:
        """Give an order."""
        return self._ask("POST", "/v1/intents", OrderReply, encode_order(order))

    def lift(self, kind: IntentKind, target: str, reason: str) -> OrderReply:
        """Lift an order."""
        query = urlencode({"reason": reason})
        return self._ask("DELETE", f"/v1/intents/{kind}/{quote(target, safe='')}?{query}", OrderReply)

    def reset_state(self, reason: str) -> OrderReply:
        """Begin anew after a corrupt state file."""
        return self._ask("POST", f"/v1/state/reset?{urlencode({'reason': reason})}", OrderReply)

    def _ask(self, method: str, target: str, kind: type[T], body: bytes | None = None) -> T:
        status, answer = self._exchange(method, target, body)
        try:
            if status == _OK:
                return decode(answer, kind)
            problem = decode(answer, Problem)
        except WireError as error:
            raise StrangeAnswerError(self.path, f"HTTP {status}, {error}") from error
        raise RefusedError(problem)

    def _exchange(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
        connection = _UnixConnection(self.path)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES)
        except PermissionError as error:
            raise PermissionDeniedError(self.path) from error
        except TimeoutError as error:
            raise UnreachableError(self.path, f"no answer within {ANSWER_WITHIN_S:.0f} s") from error
        except OSError as error:
            raise UnreachableError(self.path, error.strerror or str(error)) from error
        except http.client.HTTPException as error:
            raise StrangeAnswerError(self.path, f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        return response.status, answer


class _UnixConnection(http.client.HTTPConnection):
    """HTTP/1.1 on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("popctl", timeout=ANSWER_WITHIN_S)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_WITHIN_S)
        self.sock.connect(str(self._path))
