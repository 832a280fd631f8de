"""Options that all commands share, and how a command's failure becomes text and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from popctl.cli.client import AgentClient, ClientError, RefusedError
from popctl.cli.durations import parse_duration
from popctl.cli.exits import Exit
from popctl.wire.agent_api import encode

DEFAULT_SOCKET = Path("/run/popctl/api.sock")


def _seconds(_: object, tokens: Sequence[Token]) -> float:
    return parse_duration(tokens[0].value)


Duration = Annotated[float, Parameter(converter=_seconds)]
"""Seconds, written as `30s` or `15m`."""

AsJson = Annotated[bool, Parameter(name="--json", negative="")]

Reason = Annotated[str, Parameter(name="--reason")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Which agent to ask, and how to answer."""

    socket: Annotated[Path, Parameter(name="--socket", env_var="POPCTL_SOCKET")] = DEFAULT_SOCKET
    """Unix socket of the agent's API."""
    json: AsJson = False
    """One JSON object on standard output, also for failures."""

    def client(self) -> AgentClient:
        """Return a client for it."""
        return AgentClient(self.socket)


THE_AGENT = Agent()


def attempt(work: Callable[[], int], *, as_json: bool) -> int:
    """Run a command's work; say what went wrong in the form that was asked for."""
    try:
        return work()
    except ClientError as error:
        if as_json:
            write_json({"error": str(error), "exit": int(error.exit_code), "problem": _problem(error)})
        else:
            sys.stderr.write(f"popctl: {printable(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("popctl: interrupted; an order that was accepted stands\n")
        return Exit.INTERRUPTED


def write_json(document: object) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def as_document(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return a value of the API as what `json` prints."""
    return json.loads(encode(value))


def printable(text: str) -> str:
    """Return text from elsewhere without what a terminal would obey."""
    return "".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text)


def _problem(error: ClientError) -> object:
    return as_document(error.problem) if isinstance(error, RefusedError) else None
