"""The JSON of the operator API, shared by the agent and its clients: values and both directions of their codec.

Reasons, verdicts and rungs travel as text: a CLI older than its agent shows what it does not know instead of failing.
Times are seconds relative to the answer; a client never needs the agent's clock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import cattrs
from cattrs.preconf.json import make_converter

from popctl.wire.agent_balancer import BalancerStatus, DrainStatus, PlaceStatus
from popctl.wire.errors import UNREADABLE, WireError
from popctl.wire.load_api import LoadStatus, MeterStatus
from popctl.wire.problem import FieldProblem as FieldProblem  # noqa: PLC0414 - marks the re-export
from popctl.wire.problem import Problem as Problem  # noqa: PLC0414 - marks the re-export

T = TypeVar("T")


class RouteState(StrEnum):
    """Where one route stands between what is wanted and what the neighbour has been told."""

    PROVEN = "proven"
    """The neighbour's present session was sent exactly what is wanted; withdrawn counts."""
    PENDING = "pending"
    """Ordered, not yet proven; also a withdrawn route that a session now down would replay."""
    FAILED = "failed"
    """Needed escalation and is still not proven."""
    SESSION_DOWN = "session-down"
    """The neighbour hears nothing now; what is wanted goes out with the next session."""
    UNKNOWN = "unknown"
    """ExaBGP is not connected, or what it carries has not been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PopIdentity:
    """Which PoP answers."""

    id: int
    name: str
    location: str
    asn: int
    router_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatus:
    """One BGP session."""

    neighbor: str
    asn: int
    established: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStatus:
    """One prefix at one neighbour."""

    neighbor: str
    prefix: str
    wanted: bool
    """The last decision wants it announced."""
    carried: bool
    """It was sent and not withdrawn; with the session down: it would be replayed."""
    state: str
    """A `RouteState`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """Where a service stands on the announce ladder, why, and what the neighbours know of it."""

    name: str
    announce: str
    """An `Announce`."""
    reason: str
    """A `Reason`."""
    healthy: int
    unknown: int
    needed: int
    until_s: float | None
    """In how many seconds time alone may change this, if it may."""
    routes: tuple[RouteStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeStatus:
    """One probe of one backend."""

    name: str
    verdict: str
    """A `Verdict`: what is believed now, staleness included."""
    reason: str
    """Why the verdict is what it is."""
    leaning: str
    """Where the latest outcomes point; differs from `verdict` while rising or falling."""
    streak: int
    last_outcome: str | None
    last_reason: str | None
    last_rtt_s: float | None
    last_detail: str
    age_s: float | None
    """Since the last outcome of any kind finished; None when there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """One backend and everything that its verdict rests on."""

    id: int
    name: str
    address: str
    verdict: str
    reason: str
    probe: str | None
    """The probe that decided the verdict, if one did."""
    draining: bool
    probes: tuple[ProbeStatus, ...]
    balancer: PlaceStatus | None = None
    """None: nothing balances it, or it is not known yet."""
    drain: DrainStatus | None = None
    """None: it does not drain."""
    meter: MeterStatus | None = None
    """None: it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentStatus:
    """One order in force."""

    kind: str
    target: str
    reason: str
    owner: str
    created_unix_s: float
    drain_left_s: float
    """How long until the withdraw, or until the deadline of a drain; 0 when it is over or was never set."""
    then: str = "wait"
    """A `DrainEnd`."""
    expires_in_s: float | None = None
    """How long until a withdraw means nothing any more; null: until it is lifted."""
    stage: str = ""
    """Of a withdraw: how far the planned work has got."""
    sessions_left: float | None = None
    """Of a withdraw: live sessions of the service as the meters tell; null: some backend does not."""
    forced: bool = False
    refuse_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatus:
    """What the agent remembers of a service from turn to turn."""

    phase: str
    since_s: float
    """How long the service has been in this phase."""
    warm_up_left_s: float
    hold_down_left_s: float
    unknown_for_s: float | None
    """How long too little has been known to decide, if so."""
    flaps: int
    """Falls inside the flap window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`GET /v1/status`: everything about the PoP."""

    pop: PopIdentity
    version: str
    uptime_s: float
    config_digest: str
    connected: bool
    """The relay answers and ExaBGP behind it does."""
    exabgp_problem: str = ""
    """Why it is not connected; empty while it is."""
    inherited: bool
    """What ExaBGP carried at the start has been read."""
    state_corrupt: bool
    stopping: bool
    turned_s: float
    """How long ago the loop last turned."""
    sessions: tuple[SessionStatus, ...]
    services: tuple[ServiceStatus, ...]
    backends: tuple[BackendStatus, ...]
    intents: tuple[IntentStatus, ...]
    balancer: BalancerStatus | None = None
    """None: this PoP has none."""
    load: LoadStatus | None = None
    """None: announcements are not steered by load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """`GET /v1/why/{prefix}`: the chain from a prefix down to the last answer of every probe behind it."""

    prefix: str
    service: ServiceStatus
    memory: MemoryStatus
    """Of the service."""
    intents: tuple[IntentStatus, ...]
    """Those that bear on the service."""
    backends: tuple[BackendStatus, ...]
    """Those that carry the service."""
    sessions: tuple[SessionStatus, ...]
    connected: bool
    exabgp_problem: str = ""
    """As in `Status`."""
    balancer: BalancerStatus | None = None
    """None: the prefix has no balancer."""
    load: LoadStatus | None = None
    """None: load does not move the service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intents:
    """`GET /v1/intents`."""

    intents: tuple[IntentStatus, ...]
    state_corrupt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReply:
    """An accepted order: what is in force now and what was decided upon it."""

    changed: bool
    """False: the order stood already, or there was none to lift."""
    decided: bool
    """False: persisted and queued, but the loop did not decide in time. The order stands even so."""
    audited: bool
    """False: the audit file could not be written; the order is in the agent's log."""
    intents: tuple[IntentStatus, ...]
    services: tuple[ServiceStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoAmI:
    """`GET /v1/whoami`: whom the agent takes the caller for."""

    name: str
    """As it stands in orders and in the audit file: a user of the host, or a name of the certificate."""
    role: str
    """A `Role`."""
    pop: str
    """Name of the PoP that answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`GET /healthz`."""

    healthy: bool
    turning: bool
    """The loop turned within its bound."""
    connected: bool
    exabgp_problem: str = ""
    """As in `Status`."""
    turned_s: float


def encode(value: object) -> bytes:
    """Return `value`, one of this module, as JSON."""
    return json.dumps(_CONVERTER.unstructure(value), separators=(",", ":")).encode()


def decode(body: bytes, kind: type[T]) -> T:
    """Read a `kind` of this module. Keys that this version does not know are skipped: the agent may be newer.

    Raises:
        WireError: `body` is not a `kind`.
    """
    try:
        return _CONVERTER.structure(_json_object(body), kind)
    except (cattrs.BaseValidationError, *UNREADABLE) as error:
        raise WireError(f"not a {kind.__name__} of this API ({type(error).__name__})", found=body) from error


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError("not JSON", found=body) from error
    if not isinstance(value, dict):
        raise WireError("not a JSON object", found=body)
    return value


_CONVERTER = make_converter(detailed_validation=False)
