"""The SAs of one backend over VICI: how many, how old, whose; what was refused; and the orderly end of all of them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from popctl.lb.balancer import BalancerError
from popctl.model.missteer import ClientAt
from popctl.wire.errors import WireError
from popctl.wire.spi import Identity
from popctl.wire.strongswan_conf import check

if TYPE_CHECKING:
    import vici

    from popctl.model.balancer import SpiPlan
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What all SAs of a backend show."""

    clients: tuple[ClientAt, ...]
    """With a child SA: a client that is still signing on has none."""
    label_problem: str
    """Why the backend does not label as the plan says; empty when it does, or has no SA."""


def refused(endpoint: ViciEndpoint) -> int:
    """Return how many IKE messages came for SAs that this charon does not have, since it started.

    Raises:
        ViciError: no answer.
    """
    with _session(endpoint) as session:
        counters = session.get_counters()["counters"]
        return int(counters[""]["invalid-spi"])


def walk(endpoint: ViciEndpoint, backend: int, plan: SpiPlan | None, pop: int) -> Walk:
    """Look at all SAs. Costs charon about 0.1 ms each: not to be done all the time.

    Raises:
        ViciError: no answer.
    """
    with _session(endpoint) as session:
        sas = list(_established(session))
    clients = tuple(found for sa in sas if (found := _client(sa)) is not None)
    try:
        problems = check(plan, Identity(pop, backend), sas).problems if plan else ()
    except WireError as error:
        raise ViciError(f"{endpoint}: {error}") from error
    return Walk(clients=clients, label_problem=str(problems[0]) if problems else "")


def _client(sa: Mapping[str, Any]) -> ClientAt | None:
    children = [one for one in sa.get("child-sas", {}).values() if _text(one.get("state", b"")) == "INSTALLED"]
    if not children:
        return None
    return ClientAt(
        address=_text(sa.get("remote-host", b"")),
        port=int(_text(sa.get("remote-port", b"0"))),
        received=any(int(_text(one.get("packets-in", b"0"))) > 0 for one in children),
        answered=any(int(_text(one.get("packets-out", b"0"))) > 0 for one in children),
    )


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
