"""The JSON Schema of an order, for those who write clients. `agent_order` decides; tests hold the two together.

What a schema cannot say: an expiry must be later than the end of the drain, and text must be printable (`one-line`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from popctl.model.observation import DrainEnd, IntentKind
from popctl.wire.agent_order import MAX_DRAIN_S, MAX_EXPIRY_S, MAX_NAME_CHARACTERS, MAX_REASON_CHARACTERS

JsonSchema = Mapping[str, Any]

NAME_SCHEMA: Final[JsonSchema] = {
    "type": "string",
    "format": "one-line",
    "minLength": 1,
    "maxLength": MAX_NAME_CHARACTERS,
}
REASON_SCHEMA: Final[JsonSchema] = {
    "type": "string",
    "format": "one-line",
    "minLength": 1,
    "maxLength": MAX_REASON_CHARACTERS,
    "description": "Printable characters on one line, not only spaces.",
}
END_SCHEMA: Final[JsonSchema] = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_EXPIRY_S}
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": MAX_DRAIN_S}
_FORCE: Final = {"type": "boolean", "description": "Go on against the interlock (drain) or the guard (withdraw)."}


def _variant(title: str, kind: IntentKind, required: tuple[str, ...], **properties: JsonSchema) -> JsonSchema:
    shared = {"kind": {"const": kind.value}, "target": NAME_SCHEMA, "reason": REASON_SCHEMA, "force": _FORCE}
    return {
        "title": title,
        "type": "object",
        "properties": shared | properties,
        "required": ["kind", "target", "reason", *required],
        "additionalProperties": False,
    }


ORDER_SCHEMA: Final[JsonSchema] = {
    "oneOf": [
        _variant(
            "Withdraw",
            IntentKind.WITHDRAW,
            (),
            drain_s=_SECONDS | {"description": "Graceful shutdown (RFC 8326) is announced this long first."},
            then={"const": DrainEnd.WAIT.value},
            expires_s={
                **END_SCHEMA,
                "description": "From so many seconds on the order means nothing any more; left out: until it is lifted."
                " Later than `drain_s`.",
            },
            refuse_if_held={"type": "boolean", "description": "Order nothing if the guard would hold it now."},
            refuse_new={"type": "boolean", "description": "The balancer refuses new SAs; those that are up stay."},
        ),
        _variant(
            "Drain",
            IntentKind.DRAIN,
            (),
            drain_s=_SECONDS | {"description": "Until its deadline; 0: it has none."},
            then={"const": DrainEnd.WAIT.value},
            refuse_if_held={"const": False},
            refuse_new={"const": False},
        ),
        _variant(
            "Drain, then cut",
            IntentKind.DRAIN,
            ("drain_s", "then"),
            drain_s={"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DRAIN_S, "description": "The deadline."},
            then={"const": DrainEnd.CUT.value, "description": "At the deadline the SAs that are left are ended."},
            refuse_if_held={"const": False},
            refuse_new={"const": False},
        ),
    ]
}
