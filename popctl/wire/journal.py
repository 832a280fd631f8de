"""The journal's lines: what the agent heard and decided, so that `popctl replay` can decide it again.

One JSON object a line. A file begins with a `start` line that holds all that later lines build upon (configuration
text, what was known by then); each `turn` line holds the events of one turn and, if there was one, its decision.
Floats are written by `repr` and so come back bit for bit; a replay compares decisions for equality.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeAlias, get_args, get_origin

import cattrs
from cattrs.preconf.json import make_converter

from popctl.model.balancer import BalancerActual
from popctl.model.capacity import LoadMemory
from popctl.model.damping import Penalty
from popctl.model.desired import Actual, BackendDecision, Desired, LoadDecision, ServiceDecision
from popctl.model.fleet import FleetView, FleetWish
from popctl.model.instant import NEVER, Instant
from popctl.model.load import LoadSample
from popctl.model.meter import DaemonDied, DaemonStarted, MeterEvent, MeterLost, Overloaded
from popctl.model.observation import Intent, Observation
from popctl.model.past import Past
from popctl.model.playbook import Playbook, PlaybookInForce
from popctl.model.probe import ProbeKey
from popctl.model.route import Address, Community, LargeCommunity, Prefix, Route, RouteKey, RouteTable, route_table
from popctl.model.view import View
from popctl.wire import playbook
from popctl.wire.addresses import address_of, prefix_of
from popctl.wire.errors import UNREADABLE, WireError

VERSION = 1

JsonObject: TypeAlias = dict[str, Any]

_WORDS = {"never": NEVER, "never-yet": -NEVER}


class EventKind(StrEnum):
    """Which of the events of a turn a line holds; the key it stands under."""

    OBSERVED = "o"
    ACTUAL = "a"
    INTENTS = "i"
    STOP = "s"
    TABLES_INHERITED = "k"
    TABLES = "t"
    FLEET = "f"
    LOAD = "l"
    DIED = "d"
    STARTED = "u"
    OVERLOADED = "x"
    METER_LOST = "m"
    PLAYBOOK = "b"
    LOAD_MEMORY = "r"
    PAST = "p"


@dataclass(frozen=True, slots=True)
class IntentsRecord:
    """All orders as they stood, and whether the state file could be read."""

    intents: tuple[Intent, ...]
    corrupt: bool


@dataclass(frozen=True, slots=True)
class StopRecord:
    """The agent was told to stop."""


@dataclass(frozen=True, slots=True)
class InheritedRecord:
    """What the kernel was found with."""

    alive: frozenset[int]


@dataclass(frozen=True, slots=True)
class FleetRecord:
    """What changed in the view of the fleet: a fleet of a thousand PoPs is not written out for every word of one."""

    view: FleetView
    """The new view; its members are only those that are not as they were."""
    gone: frozenset[str]
    """Members that were and are not."""

    @classmethod
    def of(cls, before: FleetView, after: FleetView) -> FleetRecord:
        """Take down a change."""
        fresh = {name: one for name, one in after.members.items() if before.members.get(name) != one}
        return cls(view=replace(after, members=fresh), gone=frozenset(before.members.keys() - after.members.keys()))

    def after(self, before: FleetView) -> FleetView:
        """Return the view that was taken down."""
        kept = {name: one for name, one in before.members.items() if name not in self.gone}
        return replace(self.view, members={**kept, **self.view.members})


Record: TypeAlias = (
    Observation
    | Actual
    | IntentsRecord
    | StopRecord
    | InheritedRecord
    | BalancerActual
    | FleetRecord
    | PlaybookInForce
    | LoadMemory
    | Past
    | MeterEvent
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """One decision, complete enough to be compared."""

    services: tuple[ServiceDecision, ...]
    routes: RouteTable
    wake_at: Instant | None
    """None stands for never: JSON has no infinity."""
    fleet: FleetWish | None = None
    """What the fleet was to be told and asked."""
    backends: tuple[BackendDecision, ...] = ()
    """Where the balancer should have them; the rows and labels beside follow from the configuration."""
    load: LoadDecision | None = None

    @classmethod
    def of(cls, desired: Desired, wake_at: Instant) -> DecisionRecord:
        """Take down a decision of the core."""
        wake = none_if_never(wake_at)
        return cls(
            services=desired.services,
            routes=desired.routes,
            wake_at=wake,
            fleet=desired.fleet,
            backends=desired.backends,
            load=desired.load,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLine:
    """The first line of a file."""

    version: int
    config: str
    """The text of the configuration. It holds no secret: those stand in files of their own."""
    source: str
    at: Instant
    unix_s: float
    """Wall time of `at`, for people."""
    view: View
    """What was known when the file was begun: empty for a fresh agent, not so after a rotation."""
    wake_at: Instant | None
    """When time alone was to change the decision, as of then. None stands for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnLine:
    """One turn of the loop."""

    at: Instant
    events: tuple[Record, ...]
    decision: DecisionRecord | None = field(default=None)


_Plain: TypeAlias = (
    Actual | IntentsRecord | BalancerActual | FleetRecord | PlaybookInForce | LoadMemory | Past | MeterEvent
)
_PLAIN_KINDS: dict[EventKind, type[_Plain]] = {
    EventKind.ACTUAL: Actual,
    EventKind.INTENTS: IntentsRecord,
    EventKind.TABLES: BalancerActual,
    EventKind.FLEET: FleetRecord,
    EventKind.PLAYBOOK: PlaybookInForce,
    EventKind.LOAD_MEMORY: LoadMemory,
    EventKind.PAST: Past,
    EventKind.LOAD: LoadSample,
    EventKind.DIED: DaemonDied,
    EventKind.STARTED: DaemonStarted,
    EventKind.OVERLOADED: Overloaded,
    EventKind.METER_LOST: MeterLost,
}
"""Records whose line is simply all that they hold."""
_KIND_OF = {kind: name for name, kind in _PLAIN_KINDS.items()}


def none_if_never(instant: Instant) -> Instant | None:
    """Return `instant` as a journal writes it."""
    return None if instant == NEVER else instant


def encode_start(line: StartLine) -> str:
    """Return the line without its newline."""
    return json.dumps({"start": _CONVERTER.unstructure(line)}, separators=(",", ":"))


def encode_turn(line: TurnLine) -> str:
    """Return the line without its newline. Runs on the probe path: observations take a short form of their own."""
    body: JsonObject = {"turn": line.at, "events": [_encode_record(record) for record in line.events]}
    if line.decision is not None:
        body["decision"] = _CONVERTER.unstructure(line.decision)
    return json.dumps(body, separators=(",", ":"))


def decode(text: str) -> StartLine | TurnLine:
    """Read one line.

    Raises:
        WireError: it is no line of a journal of this version.
    """
    try:
        body = json.loads(text)
        if not isinstance(body, dict):
            raise WireError("a journal line is a JSON object", found=text)
        if "start" in body:
            start = _CONVERTER.structure(body["start"], StartLine)
            if start.version != VERSION:
                raise WireError(f"journal version {start.version}, this popctl reads {VERSION}", found=text)
            return start
        events = tuple(_decode_record(record) for record in body["events"])
        decision = body.get("decision")
        return TurnLine(
            at=float(body["turn"]),
            events=events,
            decision=None if decision is None else _CONVERTER.structure(decision, DecisionRecord),
        )
    except (cattrs.BaseValidationError, *UNREADABLE) as error:
        raise WireError(f"not a journal line ({type(error).__name__})", found=text) from error


def _encode_record(record: Record) -> JsonObject:
    match record:
        case Observation():
            key = record.key
            short = [key.backend, key.probe, record.outcome, record.reason, record.at, record.rtt_s, record.detail]
            return {EventKind.OBSERVED: short}
        case StopRecord():
            return {EventKind.STOP: True}
        case InheritedRecord(alive):
            return {EventKind.TABLES_INHERITED: sorted(alive)}
        case _:
            return {_KIND_OF[type(record)]: _CONVERTER.unstructure(record)}


def _decode_record(body: Mapping[str, Any]) -> Record:
    ((kind, value),) = body.items()
    match EventKind(kind):
        case EventKind.OBSERVED:
            backend, probe, outcome, reason, at, rtt_s, detail = value
            plain = {"outcome": outcome, "reason": reason, "at": at, "rtt_s": rtt_s, "detail": detail}
            return _CONVERTER.structure({"key": [backend, probe], **plain}, Observation)
        case EventKind.STOP:
            return StopRecord()
        case EventKind.TABLES_INHERITED:
            return InheritedRecord(_CONVERTER.structure(value, frozenset[int]))
        case plain:
            return _CONVERTER.structure(value, _PLAIN_KINDS[plain])


def _pairs(table: Mapping[Any, Any]) -> list[list[Any]]:
    return [[_CONVERTER.unstructure(key), _CONVERTER.unstructure(value)] for key, value in table.items()]


def _table_of(key: Any, value: Any) -> Callable[[Any, Any], dict[Any, Any]]:  # noqa: ANN401 - types as values
    def structure(data: list[list[Any]], _: object) -> dict[Any, Any]:
        return {_CONVERTER.structure(one, key): _CONVERTER.structure(other, value) for one, other in data}

    return structure


def _structure_routes(data: list[list[Any]], _: object) -> RouteTable:
    return route_table((_CONVERTER.structure(key, RouteKey), _CONVERTER.structure(value, Route)) for key, value in data)


def _make_converter() -> cattrs.Converter:
    converter = make_converter(detailed_validation=False)
    # JSON objects have text keys only: tables travel as lists of pairs.
    converter.register_unstructure_hook_func(_is_table, _pairs)
    for text_like in (IPv4Address, IPv6Address, IPv4Network, IPv6Network):
        converter.register_unstructure_hook(text_like, str)
    # Named tuples travel as lists, and strictly: a missing part is an error, not a shorter tuple.
    converter.register_unstructure_hook(RouteKey, lambda key: [str(key.neighbor), str(key.prefix)])
    converter.register_structure_hook(RouteKey, lambda data, _: RouteKey(address_of(data[0]), prefix_of(data[1])))
    converter.register_structure_hook(Penalty, lambda data, _: Penalty(float(data[0]), float(data[1])))
    # In the words of its own file, which has a reader and a writer.
    converter.register_unstructure_hook(Playbook, playbook.to_json)
    converter.register_structure_hook(Playbook, lambda data, _: playbook.of_json(data))
    converter.register_structure_hook(ProbeKey, lambda data, _: ProbeKey(int(data[0]), str(data[1])))
    for numbers in (Community, LargeCommunity):
        converter.register_structure_hook(numbers, lambda data, kind: kind(*map(int, data)))
    converter.register_structure_hook_factory(_is_table, lambda kind: _table_of(*get_args(kind)))
    _register(converter, Address, lambda data, _: address_of(data))
    _register(converter, Prefix, lambda data, _: prefix_of(data))
    _register(converter, RouteTable, _structure_routes)
    # JSON has no infinity, and a view that was never read is that old, an order without an end lasts that long.
    converter.register_unstructure_hook(float, _float_or_word)
    converter.register_structure_hook(float, lambda value, _: _WORDS.get(value) or float(value))
    return converter


def _float_or_word(value: float) -> float | str:
    return next((word for word, endless in _WORDS.items() if value == endless), value)


def _is_table(kind: Any) -> bool:  # noqa: ANN401 - any type may be asked about
    return get_origin(kind) is Mapping


def _register(converter: cattrs.Converter, wanted: object, hook: Callable[[Any, Any], Any]) -> None:
    """Register a hook for a type expression, which cattrs cannot key by class."""

    def is_wanted(kind: object) -> bool:
        return kind == wanted

    converter.register_structure_hook_func(is_wanted, hook)


_CONVERTER = _make_converter()
