"""The agent's API as methods, over HTTP of the standard library: a command must start fast."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from popctl.cli.exits import Exit
from popctl.cli.reach import ANSWER_WITHIN_S, Reach, ReachError
from popctl.model.observation import IntentKind
from popctl.wire.agent_api import Check, Intents, OrderReply, Problem, Status, WhoAmI, Why, decode
from popctl.wire.agent_order import Order, encode_order
from popctl.wire.audit_api import AuditTail
from popctl.wire.errors import WireError

T = TypeVar("T")

MAX_ANSWER_BYTES = 64 * 2**20

_OK = 200
_UNAVAILABLE = 503
_EXITS = {
    "interlock": Exit.INTERLOCK,
    "held": Exit.HELD,
    "unknown-target": Exit.NOT_FOUND,
    "unknown-pop": Exit.NOT_FOUND,
    "no-order": Exit.NOT_FOUND,
    "state-corrupt": Exit.STATE,
    "not-written": Exit.STATE,
    "bad-request": Exit.USAGE,
    "no-role": Exit.NO_PERMISSION,
    "wrong-role": Exit.NO_PERMISSION,
    "too-many": Exit.BUSY,
    "busy": Exit.BUSY,
    "not-found": Exit.PROTOCOL,
    "method-not-allowed": Exit.PROTOCOL,
}
_OTHER_CERTIFICATE = "use a certificate that the agent's authority signed for clients and that is valid now"


class ClientError(Exception):
    """A command cannot do what it was asked. Knows its exit code."""

    exit_code = Exit.REFUSED
    located = False
    """Every line of it begins with its place, such as a file's name, as editors and people look for it."""


class UsageError(ClientError):
    """What was asked makes no sense. Nothing was sent."""

    exit_code = Exit.USAGE


class UnreadableError(UsageError):
    """A file that a command was told to read cannot be read."""

    def __init__(self, file: Path, error: OSError) -> None:
        super().__init__(f"{file}: {error.strerror}")
        if isinstance(error, PermissionError):
            self.exit_code = Exit.NO_PERMISSION


class NothingThereError(ClientError):
    """There is nothing of this name. Nothing was changed."""

    exit_code = Exit.NOT_FOUND


class MissingError(ClientError):
    """An optional part of popctl is not installed here."""

    exit_code = Exit.MISSING


class UnreachableError(ClientError):
    """Nobody answers."""

    exit_code = Exit.UNREACHABLE

    def __init__(self, reach: Reach, problem: str) -> None:
        super().__init__(f"no agent answers at {reach}: {problem}; remedy: is popctl agent running there?")


class PermissionDeniedError(ClientError):
    """The socket's mode keeps this user out, or the agent does not take our certificate."""

    exit_code = Exit.NO_PERMISSION

    def __init__(self, reach: Reach, remedy: str) -> None:
        super().__init__(f"no permission to open {reach}; remedy: {remedy}")


class StrangeAnswerError(ClientError):
    """Something answered that is not this API, or is not whom it should be."""

    exit_code = Exit.PROTOCOL

    def __init__(self, reach: Reach, problem: str) -> None:
        super().__init__(f"what answers at {reach} does not speak this API: {problem}")


class RefusedError(ClientError):
    """The agent said no, and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"refused ({problem.code}): {problem.detail or problem.title}")
        self.problem = problem
        self.exit_code = _EXITS.get(problem.code, Exit.REFUSED)


def quoted(text: str) -> str:
    """Return text as a part of a URL. Raises `UsageError`."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        found = ascii(text)
        raise UsageError(f"found {found}: not text in UTF-8; remedy: type it anew, in a terminal of UTF-8") from None


class AgentClient:
    """The API as methods. Every one raises `ClientError` and nothing else."""

    def __init__(self, reach: Reach, pop: str = "") -> None:
        """`pop`: the PoP that is meant; the agent of another one refuses."""
        self._reach = reach
        self._pop = pop

    def status(self) -> Status:
        """Ask for everything about the PoP."""
        return self._ask("GET", "/v1/status", Status)

    def why(self, prefix: str) -> Why:
        """Ask for the chain behind a prefix."""
        return self._ask("GET", f"/v1/why/{quoted(prefix)}", Why)

    def whoami(self) -> WhoAmI:
        """Ask whom the agent takes us for."""
        return self._ask("GET", "/v1/whoami", WhoAmI)

    def check(self) -> Check:
        """Ask whether the agent does its work."""
        return self._ask("GET", "/healthz", Check, also=_UNAVAILABLE)

    def audit(self, last: int) -> AuditTail:
        """Ask for the last orders, taken and refused."""
        return self._ask("GET", f"/v1/audit?last={last}", AuditTail)

    def intents(self) -> Intents:
        """Ask for the orders in force."""
        return self._ask("GET", "/v1/intents", Intents)

    def place(self, order: Order) -> OrderReply:
        """Give an order."""
        return self._ask("POST", "/v1/intents", OrderReply, encode_order(order))

    def extend(self, service: str, expires_s: float | None, reason: str) -> OrderReply:
        """Give a withdraw that stands another end; None is without end."""
        end = "" if expires_s is None else f"&expires_s={expires_s}"
        target = f"/v1/intents/{IntentKind.WITHDRAW}/{quoted(service)}/extend?reason={quoted(reason)}{end}"
        return self._ask("POST", target, OrderReply)

    def lift(self, kind: IntentKind, target: str, reason: str) -> OrderReply:
        """Lift an order."""
        return self._ask("DELETE", f"/v1/intents/{kind}/{quoted(target)}?reason={quoted(reason)}", OrderReply)

    def reset_state(self, reason: str) -> OrderReply:
        """Begin anew after a corrupt state file."""
        return self._ask("POST", f"/v1/state/reset?reason={quoted(reason)}", OrderReply)

    def _ask(self, method: str, target: str, kind: type[T], body: bytes | None = None, also: int = _OK) -> T:
        status, answer = self._exchange(method, self._meant(target), body)
        try:
            if status in (_OK, also):
                return decode(answer, kind)
            problem = decode(answer, Problem)
        except WireError as error:
            raise StrangeAnswerError(self._reach, f"HTTP {status}, {error}") from error
        raise RefusedError(problem)

    def _meant(self, target: str) -> str:
        if not self._pop:
            return target
        return f"{target}{'&' if '?' in target else '?'}pop={quoted(self._pop)}"

    def _exchange(self, method: str, target: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            connection = self._reach.open()
        except (ReachError, http.client.InvalidURL) as error:
            raise UsageError(str(error)) from error
        try:
            if self._reach.knocks:
                self._knock(connection)
            connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER_BYTES)
        except OSError as error:
            raise self._of_transport(error) from error
        except (http.client.HTTPException, ValueError) as error:
            raise StrangeAnswerError(self._reach, f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def _knock(self, connection: http.client.HTTPConnection) -> None:
        """Find out whether our certificate is taken, before an order is on its way.

        With TLS 1.3 the agent judges it after we are done, and may then hang up without a word. Met by an order, that
        would leave open whether the order was taken.
        """
        connection.connect()
        try:
            connection.request("HEAD", "/v1/whoami")
            connection.getresponse().read()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise PermissionDeniedError(self._reach, _OTHER_CERTIFICATE) from error

    def _of_transport(self, error: OSError) -> ClientError:
        """Say what the failure of a connection means for whoever gave the command."""
        # By name: the module behind these classes is loaded only where TLS is spoken.
        kind, said = type(error).__name__, getattr(error, "reason", None) or ""
        if isinstance(error, PermissionError):
            return PermissionDeniedError(self._reach, "run as root or join the socket's group")
        if isinstance(error, TimeoutError):
            return UnreachableError(self._reach, f"no answer within {ANSWER_WITHIN_S:.0f} s")
        if kind == "SSLCertVerificationError":
            return StrangeAnswerError(self._reach, f"its certificate is not the agent's: {error.args[-1]}")
        if kind.startswith("SSL") and "ALERT" in said:
            return PermissionDeniedError(self._reach, f"{_OTHER_CERTIFICATE} ({said.lower()})")
        return UnreachableError(self._reach, error.strerror or str(error))
