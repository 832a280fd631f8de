"""The tables of docs/configuration.md, made from the schema. `python -m popctl.config.reference FILE` renews them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_origin

from pydantic import BaseModel

from popctl.config import defaults, schema, schema_api, schema_balancer, schema_capacity, schema_fleet, schema_probes
from popctl.config.fields import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo

_MARKED = re.compile(r"(<!-- table: ([a-z0-9_ ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

MODELS: dict[str, type[BaseModel]] = {
    "document": schema.Document,
    "pop": schema.Identity,
    "neighbors": schema.Neighbor,
    "next_hops": schema.NextHops,
    "attributes": schema.Ladder,
    "state attributes": schema.StateAttributes,
    "services": schema.Service,
    "allowlist": schema.Allowlist,
    "backends": schema.Backend,
    "meter": schema.Meter,
    "capacity": schema_capacity.Capacity,
    "probe entry": schema_probes.ProbeEntry,
    "pace": schema_probes.Pace,
    "ike": schema_probes.Ike,
    "ike_deep": schema_probes.IkeDeep,
    "l2tp": schema_probes.L2tp,
    "tcp": schema_probes.Tcp,
    "http": schema_probes.Http,
    "exec": schema_probes.Exec,
    "profiles": schema_probes.Profile,
    "forward": schema_balancer.Forward,
    "service balancer": schema_balancer.ServiceBalancer,
    "affinity": schema_balancer.Affinity,
    "spi_plan": schema_balancer.SpiPlan,
    "sizes": schema_balancer.Sizes,
    "balancer": schema_balancer.Balancer,
    "timing": schema.Timing,
    "lease": schema.Lease,
    "state": schema.State,
    "paths": schema.Paths,
    "api": schema_api.Api,
    "fleet": schema_fleet.Fleet,
    "fleet tls": schema_fleet.FleetTls,
    "floor": schema_fleet.Floor,
    "load": schema_capacity.Load,
    "level": schema_capacity.Level,
    "gate": schema_capacity.Gate,
    "verification": schema_capacity.Verification,
    "flap_damping": schema_capacity.FlapDamping,
}
"""Every mapping of the file by the name of its table."""


def rewrite(text: str) -> str:
    """Return the document with every marked table renewed. Raises `KeyError` on a marker without a table."""
    return _MARKED.sub(lambda match: f"{match[1]}{table(match[2])}{match[3]}", text)


def table(name: str) -> str:
    """Return one table as Markdown."""
    if name == "built_in profiles":
        return _built_in()
    model = MODELS[name]
    pace = schema_probes.Pace
    shared = pace.model_fields if issubclass(model, pace) and model is not pace else {}
    rows = [
        (f"`{key}`", _value(field.annotation, field.metadata), _default(field), field.description or "")
        for key, field in model.model_fields.items()
        if key not in shared
    ]
    return _markdown(("key", "value", "default", "meaning"), rows)


def _built_in() -> str:
    columns = {
        "default": defaults.PROFILES["default"].liveness,
        "fast": defaults.PROFILES["fast"].liveness,
        "deep, in both": defaults.PROFILES["default"].deep,
        "deep IKEv1, in both": defaults.PROFILES["default"].deep_v1,
    }
    values = [
        {
            "interval": f"{pace.cadence.interval_s:g} s",
            "jitter": f"{pace.cadence.jitter:g}",
            "timeout": f"{pace.cadence.timeout_s:g} s",
            "retry": f"{pace.cadence.retry_s:g} s",
            "rise": str(pace.thresholds.rise),
            "fall": str(pace.thresholds.fall),
            "fall_refused": str(pace.thresholds.fall_refused),
            "stale_after": f"{pace.thresholds.stale_after_s:g} s",
        }
        for pace in columns.values()
    ]
    rows = [(f"`{key}`", *(column[key] for column in values)) for key in schema_probes.Pace.model_fields]
    return _markdown(("key", *columns), rows)


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _value(annotation: object, metadata: Iterable[object]) -> str:
    """Return what a table says about the values that an annotation takes."""
    notes = list(metadata)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if kinds := [note.text for note in notes if isinstance(note, Kind)]:
        text = kinds[0]
    elif origin is Annotated:
        text = _value(arguments[0], [note for part in arguments[1:] for note in getattr(part, "metadata", (part,))])
    elif origin is Literal:
        text = " or ".join(f"`{choice}`" for choice in arguments)
    elif origin is list:
        text = f"list of: {_value(arguments[0], ())}"
    elif origin is dict:
        text = "mapping by name"
    elif arguments:  # a union
        text = ", or ".join(_value(argument, notes) for argument in arguments if argument is not type(None))
    else:
        text = _plain(annotation, notes)
    return text


def _plain(annotation: object, notes: Iterable[object]) -> str:
    if annotation is bool:
        return "true or false"
    if annotation is not int:
        return "mapping"
    bounds = list(notes)
    low = next((note.ge for note in bounds if hasattr(note, "ge")), None)
    high = next((note.le for note in bounds if hasattr(note, "le")), None)
    return "whole number" if low is None or high is None else f"whole number, {low}..{high}"


def _default(field: FieldInfo) -> str:
    """Return what a table says about the default of a key."""
    if field.is_required():
        return "**required**"
    match field.default:
        case None | "":
            text = "-"
        case BaseModel():
            text = "see there"
        case list() as items:
            text = f"`[{', '.join(map(str, items))}]`" if items else "none"
        case dict():
            text = "none"
        case bool() as truth:
            text = f"`{str(truth).lower()}`"
        case float() | int() as seconds if any(
            isinstance(n, Kind) and n.text.startswith("duration") for n in field.metadata
        ):
            text = f"{seconds:g} s"
        case int() as word if any(isinstance(n, Kind) and n.text.startswith("number") for n in field.metadata):
            text = f"`{word:#x}`"
        case other:
            text = f"`{other}`"
    return text


def main(path: Path) -> None:
    """Renew the tables of one file."""
    path.write_text(rewrite(path.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
