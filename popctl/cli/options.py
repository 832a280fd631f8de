"""Options that all commands share, and how a command's failure becomes text and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from cyclopts import Parameter, Token

from popctl.cli.client import AgentClient, ClientError, RefusedError, UsageError
from popctl.cli.durations import parse_duration
from popctl.cli.exits import Exit
from popctl.cli.reach import Reach, TlsReach, UnixReach
from popctl.wire.agent_api import encode

C = TypeVar("C", bound=AgentClient)

DEFAULT_SOCKET = Path("/run/popctl/api.sock")
CONFIGURATION = Path("/etc/popctl/popctl.yaml")
"""The agent's, which is the inventory of its host, too."""


def _seconds(_: object, tokens: Sequence[Token]) -> float:
    return parse_duration(tokens[0].value)


Duration = Annotated[float, Parameter(converter=_seconds)]
"""Seconds, written as `30s` or `15m`."""

For = Annotated[float | None, Parameter(name="--for", converter=_seconds)]
"""How long an order stands or a drain has; None, not 0, is without end: `ending_after`."""

Inventory = Annotated[Path, Parameter(name="--inventory")]

AsJson = Annotated[bool, Parameter(name="--json", negative="")]

Reason = Annotated[str, Parameter(name="--reason")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Which agent to ask, and how to answer."""

    socket: Annotated[Path | None, Parameter(name="--socket", env_var="POPCTL_SOCKET")] = None
    """Unix socket of the agent's API; /run/popctl/api.sock if nothing else is said."""
    api: Annotated[str, Parameter(name="--api", env_var="POPCTL_API")] = ""
    """Agent elsewhere, as https://HOST:PORT; with --cert, --key and --ca."""
    cert: Annotated[Path | None, Parameter(name="--cert", env_var="POPCTL_CERT")] = None
    """Own certificate (PEM)."""
    key: Annotated[Path | None, Parameter(name="--key", env_var="POPCTL_KEY")] = None
    """File with its key (PEM, not encrypted)."""
    ca: Annotated[Path | None, Parameter(name="--ca", env_var="POPCTL_CA")] = None
    """Certificates (PEM) of the authority that signed the agent's one."""
    pop: Annotated[str, Parameter(name="--pop", env_var="POPCTL_POP")] = ""
    """Name of the PoP that is meant; the agent of another one refuses."""
    json: AsJson = False
    """One JSON object on standard output, also for failures."""

    def client(self) -> AgentClient:
        """Return a client for it. Raises `UsageError`."""
        return self.client_of(AgentClient)

    def client_of(self, kind: type[C]) -> C:
        """Return a client that knows more of the API. Raises `UsageError`."""
        return kind(self._reach(), self.pop)

    def _reach(self) -> Reach:
        if not self.api:
            return UnixReach(self.socket or DEFAULT_SOCKET)
        if self.socket is not None:
            raise UsageError("--socket and --api (or POPCTL_SOCKET and POPCTL_API) are two agents; name one")
        if self.cert is None or self.key is None or self.ca is None:
            files = {"--cert": self.cert, "--key": self.key, "--ca": self.ca}
            missing = ", ".join(name for name, file in files.items() if file is None)
            raise UsageError(f"--api needs {missing}: an agent elsewhere is asked with certificates only")
        host, port = _host_and_port(self.api)
        return TlsReach(host=host, port=port, certificate=self.cert, key=self.key, authority=self.ca)


THE_AGENT = Agent()


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
        # As the resolver will, which does not say whose fault it was.
        host.encode("idna")
        more = parts.scheme != "https" or parts.path.strip("/") or parts.query or parts.username
    except ValueError:
        host, port, more = "", 0, True
    if more or not host or not port or " " in host or not host.isprintable():
        raise UsageError(f"--api {printable(url)!r} is not https://HOST:PORT")
    return host, port


def ending_after(for_s: float | None) -> float | None:
    """Return seconds of `--for`. Raises `UsageError`: a script that is late for its own end does not mean for ever."""
    if for_s == 0:
        raise UsageError("--for: found 0: past; remedy: leave it out to let the order stand until it is lifted")
    return for_s


def attempt(work: Callable[[], int], *, as_json: bool) -> int:
    """Run a command's work; say what went wrong in the form that was asked for."""
    try:
        return work()
    except ClientError as error:
        problem = as_document(error.problem) if isinstance(error, RefusedError) else None
        return fail(str(error), error.exit_code, as_json=as_json, located=error.located, problem=problem)
    except KeyboardInterrupt:
        return fail("interrupted; an order that was accepted stands", Exit.INTERRUPTED, as_json=as_json)


def fail(text: str, code: Exit, *, as_json: bool, located: bool = False, problem: object = None) -> Exit:
    """Say why a command ends with `code`, in lines for people or as one JSON object; return the code.

    Args:
        text: what is wrong.
        code: how the command ends.
        as_json: whether standard output is JSON.
        located: every line of the text begins with its place already.
        problem: what the agent said, as JSON.
    """
    if as_json:
        write_json({"error": text, "exit": int(code), "problem": problem})
    else:
        sys.stderr.write(f"{'' if located else 'popctl: '}{printable(text)}\n")
    return code


def write_json(document: object) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def as_document(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return a value of the API as what `json` prints."""
    return json.loads(encode(value))


def printable(text: str) -> str:
    """Return text from elsewhere without what a terminal would obey."""
    return "".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text)
