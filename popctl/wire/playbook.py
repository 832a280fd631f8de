"""The playbook file: JSON in, a checked `Playbook` out, and back.

    {"format": "popctl-playbook", "version": 1, "fleet": "example", "created_unix_s": 1760000000,
     "reconnect_window_s": 60,
     "pops": {
       "fra1": {
         "levels": [{"name": "normal"},
                    {"name": "as1299 depreferred", "upstreams": {"1299": "depreferred"}},
                    {"name": "withdrawn", "others": "withdrawn"}],
         "steps": [{"from": 0, "to": 1, "origin": "simulated", "error": 0.2,
                    "flows": [["fra1", "ams1", 0.25], ["fra1", null, 0.01]]},
                   {"from": 1, "to": 0, "when": {"ams1": 1}, "flows": [["ams1", "fra1", 0.1]]}]},
       "ams1": {}}}

A flow is [source, target or null for "reaches no PoP", share of what the source carries before the step]. Without
`levels` a PoP has the default ladder normal, depreferred, graceful-shutdown, withdrawn. `others` (default "normal") is
for upstreams that `upstreams` does not name by AS number. `when` names the levels of other PoPs that a row assumes; a
PoP that is not named there is at level 0. `error` defaults to 0, `origin` to "simulated", `reconnect_window_s` to 60.
Every PoP that a flow or `when` names must stand under `pops`; unknown keys are refused.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from popctl.model.playbook import DEFAULT_LADDER, Flow, Level, Origin, Playbook, Step, StepKey
from popctl.model.pop import Announce
from popctl.wire import strict_json
from popctl.wire.errors import WireError

FORMAT: Final = "popctl-playbook"
VERSION: Final = 1
MAX_BYTES: Final = 64 * 2**20
"""1000 PoPs with five levels and twenty receivers a step are some 8 MB."""
_MAX_LEVELS: Final = 32
_MAX_NAME: Final = 128
_MAX_ASN: Final = 0xFFFFFFFF
_ASN: Final = re.compile(r"[1-9][0-9]{0,9}")
_SUM_SLACK: Final = 1e-6


def decode(data: bytes | str) -> Playbook:
    """Read a playbook.

    Raises:
        WireError: it is not one; the problem begins with the key path.
    """
    if len(data) > MAX_BYTES:
        raise WireError(f"longer than {MAX_BYTES} bytes")
    return _playbook(strict_json.read(data))


def encode(playbook: Playbook) -> bytes:
    """Return the file of a playbook: what `decode` reads back as the same value."""
    return json.dumps(to_json(playbook), separators=(",", ":"), allow_nan=False).encode()


def to_json(playbook: Playbook) -> dict[str, Any]:
    """Return the same as an object of JSON. What a reader assumes anyway is left out."""
    pops: dict[str, dict[str, Any]] = {}
    for name, ladder in playbook.ladders.items():
        pops[name] = {} if ladder == DEFAULT_LADDER else {"levels": [_level_json(level) for level in ladder]}
    for rows in playbook.steps.values():
        for step in rows:
            pops[step.key.pop].setdefault("steps", []).append(_step_json(step))
    return {
        "format": FORMAT,
        "version": VERSION,
        "fleet": playbook.fleet,
        "created_unix_s": playbook.created_unix_s,
        "reconnect_window_s": playbook.reconnect_window_s,
        "pops": pops,
    }


def of_json(value: object) -> Playbook:
    """Read what `to_json` returned. Raises `WireError`."""
    return _playbook(value)


def _level_json(level: Level) -> dict[str, Any]:
    upstreams = {str(asn): str(rung) for asn, rung in level.upstreams.items()}
    return {"name": level.name, "others": str(level.others), "upstreams": upstreams}


def _step_json(step: Step) -> dict[str, Any]:
    return {
        "from": step.key.before,
        "to": step.key.after,
        "origin": str(step.origin),
        "error": step.error,
        "when": dict(step.when),
        "flows": [list(flow) for flow in step.flows],
    }


def _playbook(value: object) -> Playbook:
    top = _object(value, "top", {"format", "version", "fleet", "created_unix_s", "reconnect_window_s", "pops"})
    if top.get("format") != FORMAT:
        _bad("format", f"not {FORMAT!r}", top.get("format"))
    if top.get("version") != VERSION or isinstance(top["version"], bool):
        _bad("version", f"not {VERSION}", top.get("version"))
    pops = top.get("pops")
    if not isinstance(pops, dict) or not pops:
        _bad("pops", "not an object with at least one PoP", pops)
    entries = {_name(name, "pops"): _object(entry, f"pops.{name}", {"levels", "steps"}) for name, entry in pops.items()}
    ladders = {name: _ladder(entry.get("levels"), f"pops.{name}.levels") for name, entry in entries.items()}
    steps: dict[StepKey, tuple[Step, ...]] = {}
    for name, entry in entries.items():
        path = f"pops.{name}.steps"
        for index, row in enumerate(_list(entry.get("steps", []), path)):
            step = _step(row, name, ladders, f"{path}[{index}]")
            earlier = steps.get(step.key, ())
            if any(other.when == step.when for other in earlier):
                _bad(f"{path}[{index}]", "the same step under the same conditions stands above", row)
            steps[step.key] = (*earlier, step)
    return Playbook(
        fleet=_name(top.get("fleet"), "fleet"),
        created_unix_s=_number(top.get("created_unix_s"), "created_unix_s", least=0.0, most=1e12),
        reconnect_window_s=_number(top.get("reconnect_window_s", 60), "reconnect_window_s", least=1.0, most=86400.0),
        ladders=ladders,
        steps=steps,
    )


def _ladder(value: object, path: str) -> tuple[Level, ...]:
    if value is None:
        return DEFAULT_LADDER
    levels = tuple(_level(one, f"{path}[{index}]") for index, one in enumerate(_list(value, path)))
    if not 1 <= len(levels) <= _MAX_LEVELS:
        _bad(path, f"not 1..{_MAX_LEVELS} levels", len(levels))
    if levels[0].rungs() != {Announce.NORMAL}:
        _bad(f"{path}[0]", "level 0 is not normal for every upstream", levels[0].name)
    for index in range(1, len(levels)):
        if not levels[index].at_least(levels[index - 1]):
            _bad(f"{path}[{index}]", "milder for some upstream than the level before", levels[index].name)
        if any(levels[index].name == earlier.name for earlier in levels[:index]):
            _bad(f"{path}[{index}].name", "the name of an earlier level", levels[index].name)
    return levels


def _level(value: object, path: str) -> Level:
    entry = _object(value, path, {"name", "others", "upstreams"})
    upstreams = entry.get("upstreams", {})
    if not isinstance(upstreams, dict):
        _bad(f"{path}.upstreams", "not an object", upstreams)
    return Level(
        name=_name(entry.get("name"), f"{path}.name"),
        others=_rung(entry.get("others", Announce.NORMAL), f"{path}.others"),
        upstreams={
            _asn(asn, f"{path}.upstreams"): _rung(rung, f"{path}.upstreams.{asn}") for asn, rung in upstreams.items()
        },
    )


def _step(value: object, pop: str, ladders: Mapping[str, tuple[Level, ...]], path: str) -> Step:
    entry = _object(value, path, {"from", "to", "origin", "error", "when", "flows"})
    top = len(ladders[pop]) - 1
    before = _whole(entry.get("from"), f"{path}.from", most=top)
    after = _whole(entry.get("to"), f"{path}.to", most=top)
    if abs(before - after) != 1:
        _bad(path, "a step goes to the next level up or down", f"{before} to {after}")
    origin = entry.get("origin", Origin.SIMULATED)
    if origin not in tuple(Origin):
        _bad(f"{path}.origin", f"none of {', '.join(Origin)}", origin)
    when = entry.get("when", {})
    if not isinstance(when, dict):
        _bad(f"{path}.when", "not an object", when)
    if pop in when:
        _bad(f"{path}.when", "names the PoP that steps", pop)
    levels = {
        name: _whole(level, f"{path}.when.{name}", most=len(ladders[_known(name, ladders, f"{path}.when")]) - 1)
        for name, level in when.items()
    }
    flows = tuple(
        _flow(flow, ladders, f"{path}.flows[{index}]")
        for index, flow in enumerate(_list(entry.get("flows"), f"{path}.flows"))
    )
    _check_sums(flows, path)
    return Step(
        key=StepKey(pop, before, after),
        flows=flows,
        # Level 0 is what is assumed anyway; without it equal conditions compare equal.
        when={name: level for name, level in levels.items() if level},
        error=_number(entry.get("error", 0.0), f"{path}.error", least=0.0, most=10.0),
        origin=Origin(origin),
    )


def _flow(value: object, ladders: Mapping[str, tuple[Level, ...]], path: str) -> Flow:
    match value:
        case [source, target, share]:
            pass
        case _:
            _bad(path, "not [source, target, share]", value)
    flow = Flow(
        _known(source, ladders, path),
        None if target is None else _known(target, ladders, path),
        _number(share, path, least=0.0, most=1.0),
    )
    if flow.source == flow.target:
        _bad(path, "from a PoP to itself", flow.source)
    return flow


def _check_sums(flows: Iterable[Flow], path: str) -> None:
    sums: dict[str, float] = {}
    pairs = set()
    for flow in flows:
        sums[flow.source] = sums.get(flow.source, 0.0) + flow.share
        if (flow.source, flow.target) in pairs:
            _bad(f"{path}.flows", "the same source and target stand twice", f"{flow.source} to {flow.target}")
        pairs.add((flow.source, flow.target))
    for source, total in sums.items():
        if total > 1.0 + _SUM_SLACK:
            _bad(f"{path}.flows", f"more than all of what {source} carries leaves it", total)


def _bad(path: str, problem: str, found: object) -> NoReturn:
    raise WireError(f"{path}: {problem}", found=found if isinstance(found, str) else reprlib.repr(found))


def _object(value: object, path: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        _bad(path, "not an object", value)
    unknown = sorted(value.keys() - keys)
    if unknown:
        _bad(path, "unknown key", unknown[0])
    return value


def _list(value: object, path: str) -> list[Any]:
    if not isinstance(value, list):
        _bad(path, "not a list", value)
    return value


def _name(value: object, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
        _bad(path, f"not a printable name of 1..{_MAX_NAME} characters", value)
    return value


def _known(value: object, ladders: Mapping[str, tuple[Level, ...]], path: str) -> str:
    if not isinstance(value, str) or value not in ladders:
        _bad(path, "no PoP of that name stands under pops", value)
    return value


def _rung(value: object, path: str) -> Announce:
    if not isinstance(value, str) or value not in tuple(Announce):
        _bad(path, f"none of {', '.join(Announce)}", value)
    return Announce(value)


def _asn(text: str, path: str) -> int:
    # A leading zero would be the same AS number under another key.
    if not (_ASN.fullmatch(text) and int(text) <= _MAX_ASN):
        _bad(path, "not an AS number", text)
    return int(text)


def _whole(value: object, path: str, *, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        _bad(path, f"not a whole number of 0..{most}", value)
    return value


def _number(value: object, path: str, *, least: float, most: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        _bad(path, "not a number", value)
    if not least <= value <= most:
        _bad(path, f"not in {least:g}..{most:g}", value)
    return float(value)
