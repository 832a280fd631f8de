"""The operations of the API, as one table: what is served, and what is said of it, are made from the same lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from popctl.model.observation import IntentKind
from popctl.wire.agent_api import Check, Intents, OrderReply, Status, WhoAmI, Why
from popctl.wire.audit_api import AuditTail
from popctl.wire.fleet_api import FleetStatus
from popctl.wire.order_schema import END_SCHEMA, NAME_SCHEMA, REASON_SCHEMA, JsonSchema
from popctl.wire.preview_api import WithdrawPreview

DEFAULT_LINES: Final = 20
MAX_LINES: Final = 500

ANY_QUERY: Final = frozenset(("/metrics", "/healthz"))
"""Paths where monitors may add parameters of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of an operation, in the path or the query."""

    name: str
    meaning: str
    schema: JsonSchema
    query: bool = False
    required: bool = True
    pattern: str = "[^/]+"
    """In the path: what the router takes for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    handler: str
    """The method of `Api` that answers."""
    summary: str
    answer: type | None
    """None: `media` says what comes instead of JSON of ours."""
    parameters: tuple[Parameter, ...] = ()
    takes_order: bool = False
    refusals: tuple[str, ...] = ()
    """Codes beyond those that any request may get."""
    also: Mapping[int, str] = field(default_factory=dict)
    """Other statuses that carry the same answer, and what they mean."""
    media: str = "application/json"

    @property
    def route(self) -> str:
        """Return the path as aiohttp's router writes it."""
        path = self.path
        for one in self.parameters:
            path = path.replace(f"{{{one.name}}}", f"{{{one.name}:{one.pattern}}}")
        return path

    @property
    def query(self) -> frozenset[str]:
        """Return the names of the query parameters."""
        return frozenset(one.name for one in self.parameters if one.query) | {POP.name}


POP: Final = Parameter(
    name="pop",
    meaning="Name of the PoP that is meant: any other one refuses. Best always sent where an address may be mistaken.",
    schema=NAME_SCHEMA,
    query=True,
    required=False,
)
"""Of every operation."""
_REASON: Final = Parameter(name="reason", meaning="Why; goes to the audit file.", schema=REASON_SCHEMA, query=True)
_SERVICE: Final = Parameter(name="service", meaning="Name of a service; `*` is all.", schema=NAME_SCHEMA)
_PREFIX: Final = Parameter(
    name="prefix",
    meaning="A service's prefix, or any prefix or address inside it.",
    schema={"type": "string", "minLength": 1, "format": "ip-prefix"},
    pattern=".+",
)
_KIND: Final = Parameter(
    name="kind", meaning="Of the order.", schema={"type": "string", "enum": [kind.value for kind in IntentKind]}
)
_TARGET: Final = Parameter(name="target", meaning="Whom the order is for; `*` is every service.", schema=NAME_SCHEMA)
_WITHDRAWN: Final = Parameter(
    name="target", meaning="A service; `*` is all that an order stands for.", schema=NAME_SCHEMA
)
_END: Final = Parameter(
    name="expires_s",
    meaning="In so many seconds the order means nothing any more; left out: until it is lifted."
    " Later than the end of its drain.",
    schema=END_SCHEMA,
    query=True,
    required=False,
)
_LAST: Final = Parameter(
    name="last",
    meaning="How many lines.",
    schema={"type": "integer", "minimum": 1, "maximum": MAX_LINES, "default": DEFAULT_LINES},
    query=True,
    required=False,
)
_WRITES: Final = ("state-corrupt", "not-written", "wrong-role", "cross-site")

OPERATIONS: Final = (
    Operation(method="GET", path="/v1/status", handler="status", summary="Everything about the PoP.", answer=Status),
    Operation(
        method="GET",
        path="/v1/why/{prefix}",
        handler="why",
        summary="The chain from a prefix down to the last answer of every probe behind it.",
        answer=Why,
        parameters=(_PREFIX,),
        refusals=("unknown-target",),
    ),
    Operation(
        method="GET",
        path="/v1/fleet",
        handler="fleet",
        summary="The fleet as this agent sees it.",
        answer=FleetStatus,
        refusals=("no-fleet",),
    ),
    Operation(
        method="GET",
        path="/v1/preview/withdraw/{service}",
        handler="preview",
        summary="What would follow if the withdraw were ordered now.",
        answer=WithdrawPreview,
        parameters=(_SERVICE,),
        refusals=("unknown-target",),
    ),
    Operation(method="GET", path="/v1/intents", handler="intents", summary="The orders in force.", answer=Intents),
    Operation(
        method="GET",
        path="/v1/whoami",
        handler="whoami",
        summary="Who the agent takes the caller for, and what that caller may do.",
        answer=WhoAmI,
    ),
    Operation(
        method="GET",
        path="/v1/audit",
        handler="history",
        summary="The last orders, taken and refused.",
        answer=AuditTail,
        parameters=(_LAST,),
    ),
    Operation(
        method="POST",
        path="/v1/intents",
        handler="place",
        summary="Take an order; it replaces one for the same target.",
        answer=OrderReply,
        takes_order=True,
        refusals=("unknown-target", "interlock", "held", "too-large", *_WRITES),
    ),
    Operation(
        method="POST",
        path="/v1/intents/withdraw/{target}/extend",
        handler="extend",
        summary="Give a withdraw that stands another end. Nothing else of it changes, neither owner nor reason.",
        answer=OrderReply,
        parameters=(_WITHDRAWN, _REASON, _END),
        refusals=("unknown-target", "no-order", *_WRITES),
    ),
    Operation(
        method="DELETE",
        path="/v1/intents/{kind}/{target}",
        handler="lift",
        summary="Lift an order.",
        answer=OrderReply,
        parameters=(_KIND, _TARGET, _REASON),
        refusals=("unknown-target", *_WRITES),
    ),
    Operation(
        method="POST",
        path="/v1/state/reset",
        handler="reset",
        summary="Begin anew, without orders, after the state file was found corrupt; a copy of it is kept.",
        answer=OrderReply,
        parameters=(_REASON,),
        refusals=("state-sound", *_WRITES),
    ),
    Operation(
        method="GET",
        path="/metrics",
        handler="scrape",
        summary="Metrics.",
        answer=None,
        media="text/plain; version=0.0.4; charset=utf-8",
    ),
    Operation(
        method="GET",
        path="/healthz",
        handler="healthz",
        summary="Whether the agent does its work.",
        answer=Check,
        also={503: "It does not: the loop hangs, or ExaBGP is not connected."},
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        handler="document",
        summary="This description.",
        answer=None,
        media="application/vnd.oai.openapi+json",
    ),
)
