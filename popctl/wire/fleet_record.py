"""A PoP's record in the store as JSON: one object per PoP, readable by `etcdctl get`.

Instants travel as ages, because no two hosts share a clock: the reader adds what passed since to its own.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from popctl.model.balancer import Labelling, SpiPlan
from popctl.model.fleet import PopReport, Record, ServiceReport, Stance
from popctl.model.instant import Instant
from popctl.model.load import Amounts, PopLoad, Resource
from popctl.model.pop import Announce
from popctl.wire.addresses import prefix_of
from popctl.wire.errors import UNREADABLE, WireError
from popctl.wire.figures import count, number

FORMAT = 1
_RESOURCES = frozenset(resource.value for resource in Resource)
MAX_BYTES = 256 * 1024
"""Of one record; far more than 100 services need, far less than etcd's request limit of 1.5 MiB."""


def encode_record(record: Record, now: Instant) -> bytes:
    """Return the record as the store keeps it.

    Raises:
        WireError: it is too large to be stored, or holds a figure that JSON cannot: infinity, or none at all.
    """
    report = record.report
    document = {
        "format": FORMAT,
        "pop": report.pop,
        "region": report.region,
        "incarnation": report.incarnation,
        "config": report.config_digest,
        "services": {
            name: _service(service, now)
            | {"stance": record.stance(name).value}
            | ({"asking": True} if name in record.asking else {})
            for name, service in report.services.items()
        },
        "load": None if report.load is None else _load(report.load, now),
        **({} if report.labelling is None else {"labelling": asdict(report.labelling)}),
    }
    try:
        content = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise WireError(f"a record with a figure that JSON cannot hold: {error}") from error
    if len(content) > MAX_BYTES:
        raise WireError(f"a record of {len(content)} bytes is larger than {MAX_BYTES}")
    return content


def _service(service: ServiceReport, now: Instant) -> dict[str, object]:
    bad = {}
    if service.bad_since is not None:
        bad["bad_for_s"] = _age(service.bad_since, now)
    return {
        "announce": service.announce.value,
        "announced": [str(prefix) for prefix in service.announced],
        "healthy": service.healthy,
        "needed": service.needed,
        "good": service.good,
        "reason": service.reason,
        "stage": service.stage,
        "certain": service.certain,
        **bad,
    }


def _load(load: PopLoad, now: Instant) -> dict[str, object]:
    return {
        "level": load.level,
        "announcing": load.announcing,
        "used": {resource.value: amount for resource, amount in load.used.items()},
        "peak": {resource.value: amount for resource, amount in load.peak.items()},
        "capacity": {resource.value: amount for resource, amount in load.capacity.items()},
        "age_s": _age(load.at, now),
        "settling": load.settling,
    }


def _age(at: Instant, now: Instant) -> float:
    return round(max(now - at, 0.0), 3)


def decode_record(content: bytes, now: Instant) -> Record:
    """Read a record; unknown keys are a newer version's and are passed over. Raises `WireError`."""
    if len(content) > MAX_BYTES:
        raise WireError("too large for a record", found=content)
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise WireError(f"format {document['format']!r}, this popctl reads {FORMAT}", found=content)
        return _record(document, now)
    except UNREADABLE as error:
        raise WireError(f"not the record of a PoP: {type(error).__name__}: {error}", found=content) from error


def _record(document: dict[str, Any], now: Instant) -> Record:
    services = {_text(name): item for name, item in document["services"].items()}
    return Record(
        report=PopReport(
            pop=_text(document["pop"]),
            region=_text(document["region"]),
            services={name: _service_of(name, item, now) for name, item in services.items()},
            load=None if document["load"] is None else _load_of(document["load"], now),
            config_digest=_text(document["config"]),
            incarnation=_text(document["incarnation"]),
            labelling=_labelling_of(document["labelling"]) if "labelling" in document else None,
        ),
        stances={name: Stance(item["stance"]) for name, item in services.items()},
        asking=frozenset(name for name, item in services.items() if item.get("asking") is True),
    )


def _service_of(name: str, item: dict[str, Any], now: Instant) -> ServiceReport:
    bad_for_s = item.get("bad_for_s")
    return ServiceReport(
        service=name,
        announce=Announce(item["announce"]),
        announced=tuple(map(prefix_of, item["announced"])),
        healthy=count(item["healthy"]),
        needed=count(item["needed"]),
        good=_flag(item["good"]),
        reason=_text(item["reason"]),
        bad_since=None if bad_for_s is None else now - number(bad_for_s),
        stage=_text(item["stage"]),
        certain=_flag(item["certain"]),
    )


def _load_of(item: dict[str, Any], now: Instant) -> PopLoad:
    return PopLoad(
        level=count(item["level"]),
        announcing=_flag(item["announcing"]),
        used=_amounts(item["used"]),
        peak=_amounts(item["peak"]),
        capacity=_amounts(item["capacity"]),
        at=now - number(item["age_s"]),
        settling=_flag(item["settling"]),
    )


def _labelling_of(item: dict[str, Any]) -> Labelling:
    return Labelling(pop=count(item["pop"]), plans=tuple(_plan_of(plan) for plan in item["plans"]))


def _plan_of(item: dict[str, Any]) -> SpiPlan:
    numbers = ("pop_bits", "backend_bits", "sa_bits", "esp_base", "generation")
    return SpiPlan(site=_text(item["site"]), **{name: count(item[name]) for name in numbers})


def _amounts(item: dict[str, Any]) -> Amounts:
    """Read amounts. A resource that only a newer version knows stays what it is here: unknown, or no limit."""
    return {Resource(name): number(amount) for name, amount in item.items() if name in _RESOURCES}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not true or false")
    return value
