"""The JSON of `popctl meter`: the snapshot (`GET /v1/meter`) and the lines of the held connection (`GET /v1/stream`).

The stream begins with a `hello` line. A `snapshot` line comes at every interval, and between them at once when symptoms
of overload appear; a `daemon` line comes the moment the kernel says that a watched daemon ended, and when it runs
again. Times are ages in seconds: neither side needs the other's clock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar, get_args

import cattrs
from cattrs.preconf.json import make_converter

from popctl.model.load import Amounts, Resource
from popctl.model.meter import Conntrack, Cpu, Daemon, Ike, L2tpCount, Link, Snapshot, Unread
from popctl.wire.errors import UNREADABLE, WireError
from popctl.wire.figures import count, number

MAX_LINE: Final = 256 * 1024
"""A snapshot is some 3 kB, with a hundred links 20 kB."""

_MOST: Final = 1e24
"""Of any figure: far more than a host can do, and so little that the figures of a whole fleet still add up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First line of a stream."""

    interval_s: float
    """A snapshot comes at least this often; silence for longer than twice that is a dead connection."""
    daemons: tuple[Daemon, ...]
    """As they are now: a life that differs from the one of an earlier stream means a restart in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A snapshot and how old it was when it was sent."""

    snapshot: Snapshot
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonChanged:
    """A watched daemon died or was started."""

    daemon: Daemon
    age_s: float


Line: TypeAlias = Hello | Measured | DaemonChanged
_KINDS: Final[dict[str, type[Hello | Measured | DaemonChanged]]] = {
    "hello": Hello,
    "snapshot": Measured,
    "daemon": DaemonChanged,
}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def encode_measured(measured: Measured) -> bytes:
    """Return the body of `GET /v1/meter`."""
    return json.dumps(_CONVERTER.unstructure(measured), separators=(",", ":"), allow_nan=False).encode()


def decode_measured(body: bytes) -> Measured:
    """Read it. Raises `WireError`."""
    return _structured(_object(body), Measured, body)


def encode_line(line: Line) -> bytes:
    """Return one line of the stream, newline included."""
    body = {"event": _NAMES[type(line)], **_CONVERTER.unstructure(line)}
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode_line(text: bytes) -> Line | None:
    """Read one line; None for an event that this version does not know. Raises `WireError`."""
    body = _object(text)
    kind = _KINDS.get(str(body.pop("event", "")))
    return None if kind is None else _structured(body, kind, text)


def _object(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_LINE:
        raise WireError(f"longer than {MAX_LINE} bytes", found=text)
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError("not JSON", found=text) from error
    if not isinstance(value, dict):
        raise WireError("not a JSON object", found=text)
    return value


def _no_constant(found: str) -> float:
    raise ValueError(found)


def _structured(body: dict[str, Any], kind: type[T], text: bytes) -> T:
    try:
        return _CONVERTER.structure(body, kind)
    except (cattrs.BaseValidationError, *UNREADABLE) as error:
        raise WireError(f"not a {kind.__name__} ({type(error).__name__})", found=text) from error


_CONVERTER = make_converter(detailed_validation=False)


def _amounts(value: Any, _: object) -> Amounts:  # noqa: ANN401 - JSON
    """Read amounts; a resource that only a newer meter knows is skipped."""
    known = {one.value: one for one in Resource}
    return {known[name]: _figure(amount, float) for name, amount in value.items() if name in known}


def _figure(value: Any, _: object) -> float:  # noqa: ANN401 - JSON
    return number(value, most=_MOST)


def _or_unread(told: Any) -> None:  # noqa: ANN401 - a class or a generic alias, which share no type
    """Teach the converter `told | Unread`: only `Unread` has a reason."""

    def structure(value: Any, _: object) -> Any:  # noqa: ANN401 - JSON in, a value of either type out
        return _CONVERTER.structure(value, Unread if isinstance(value, dict) and "reason" in value else told)

    _CONVERTER.register_structure_hook_func(lambda kind: set(get_args(kind)) == {told, Unread}, structure)


_CONVERTER.register_structure_hook(float, _figure)
_CONVERTER.register_structure_hook(int, lambda value, _: count(value))
_CONVERTER.register_structure_hook_func(lambda kind: kind == Amounts, _amounts)
for _told in (Cpu, tuple[Link, ...], Conntrack, Ike, L2tpCount):
    _or_unread(_told)
