"""Probes as configured: what is asked of a backend, how often, and how many answers make a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from popctl.model.secret import Secret

HALF_OPEN_S: Final = 30.0
"""How long charon keeps an SA whose authentication did not come to an end (`charon.half_open_timeout`).

With another key on either side IKEv1 has no message that could take it back. IKEv2 has, and leaves nothing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeLiveness:
    """Stateless IKE question that a worker thread must answer and that leaves no half-open SA.

    IKEv2 sends a KE payload of a group other than the offered one and wants INVALID_KE_PAYLOAD (RFC 7296 section 1.2);
    IKEv1 starts Aggressive Mode with a PSK proposal and wants AUTHENTICATION-FAILED.
    """

    version: int
    port: int
    """500, or 4500 with the non-ESP marker (RFC 3948 section 2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeDeep:
    """A whole IKE authentication with a probe identity, the server's proof checked, then Delete."""

    version: int
    port: int
    identity: str
    remote_identity: str | None
    """What the server must prove to be; None accepts any identity that holds the key."""
    psk: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class L2tp:
    """SCCRQ, SCCRP, StopCCN (RFC 2661 section 5.1): the control plane answers and nothing is left open."""

    port: int
    secret: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Icmp:
    """Echo request and reply (RFC 792, RFC 4443 section 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp:
    """A TCP connection is accepted."""

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """A GET answers with an accepted status."""

    url: str
    statuses: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    """A program exits 0. No shell; the whole process group ends with the time limit."""

    argv: tuple[str, ...]


Method: TypeAlias = IkeLiveness | IkeDeep | L2tp | Icmp | Tcp | Http | Exec


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """When a probe runs."""

    interval_s: float
    jitter: float
    """Each wait is drawn from interval_s * (1 +- jitter), so that PoPs and probes do not march in step."""
    timeout_s: float
    retry_s: float
    """Wait after a failure while the verdict is still up: bad news is checked sooner than good news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """How many outcomes in a row flip a verdict."""

    rise: int
    fall: int
    """For silence and wrong answers: a packet can be lost."""
    fall_refused: int
    """For a refusal: the host itself said that nothing listens."""
    stale_after_s: float
    """Without PASS or FAIL for this long, nothing is known any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """One probe of one backend."""

    name: str
    method: Method
    cadence: Cadence
    thresholds: Thresholds


class ProbeKey(NamedTuple):
    """Which probe of which backend an observation is about."""

    backend: int
    probe: str
