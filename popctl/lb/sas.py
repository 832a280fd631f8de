"""The SAs of one backend over VICI: how many are left, how old the oldest is, and the orderly end of all of them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from popctl.lb.balancer import BalancerError

if TYPE_CHECKING:
    import vici

    from popctl.model.pop import ViciEndpoint

_TIMEOUT_S = 3.0
_NO_WAITING_MS = "-1"


class ViciError(BalancerError):
    """A charon did not answer, or refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaCount:
    """What one look found."""

    ages_s: tuple[float, ...]
    """Of the established IKE SAs."""


def count(endpoint: ViciEndpoint) -> SaCount:
    """Count the established IKE SAs. Blocks for seconds at most; half-open ones and probes come and go.

    Raises:
        ViciError: no answer.
    """
    with _session(endpoint) as session:
        return SaCount(ages_s=tuple(float(sa.get("established", 0)) for sa in _established(session)))


def end(endpoint: ViciEndpoint) -> int:
    """Tell every client that its SA ends (Delete, RFC 7296 section 1.4.1), so that it connects anew. Returns how many.

    Raises:
        ViciError: no answer.
    """
    with _session(endpoint) as session:
        ids = [str(_text(sa["uniqueid"])) for sa in _established(session)]
        for number in ids:
            # The answer is a stream of log lines; nothing is sent before somebody reads it.
            deque(session.terminate({"ike-id": number, "timeout": _NO_WAITING_MS}), maxlen=0)
    return len(ids)


def _established(session: vici.Session) -> Iterator[Mapping[str, Any]]:
    found = [sa for entry in session.list_sas({"noblock": "yes"}) for sa in entry.values()]
    return (sa for sa in found if _text(sa.get("state", b"")) == "ESTABLISHED")


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@contextmanager
def _session(endpoint: ViciEndpoint) -> Iterator[vici.Session]:
    import vici  # noqa: PLC0415 - a PoP that drains nothing need not hold it in memory
    from vici.exception import CommandException, SessionException  # noqa: PLC0415

    family = socket.AF_UNIX if endpoint.path else socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(_TIMEOUT_S)
            sock.connect(str(endpoint.path) if endpoint.path else (endpoint.host, endpoint.port))
            yield vici.Session(sock)
    except (OSError, CommandException, SessionException, ValueError, KeyError) as error:
        raise ViciError(f"{endpoint}: {error or type(error).__name__}") from error
