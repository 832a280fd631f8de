"""A PoP's record: what goes in comes out, ages instead of instants, and nothing but WireError for the rest."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import asdict, replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.model.balancer import Labelling, SpiPlan
from popctl.model.fleet import PopReport, Record, ServiceReport, Stance
from popctl.model.load import PopLoad, Resource
from popctl.model.pop import Announce
from popctl.wire.errors import WireError
from popctl.wire.fleet_record import MAX_BYTES, decode_record, encode_record
from tests.fleet_agents import SERVICE, bad, member
from tests.unit.wire.strange_numbers import documents

NUMBERS = st.floats(0, 1e12)
AMOUNTS = st.dictionaries(st.sampled_from(Resource), NUMBERS, max_size=3)
LOADS = st.builds(
    PopLoad,
    level=st.integers(0, 9),
    announcing=st.booleans(),
    used=AMOUNTS,
    peak=AMOUNTS,
    capacity=AMOUNTS,
    at=st.just(5.0),
    settling=st.booleans(),
)
PREFIXES = st.sampled_from([ip_network("198.51.100.0/24"), ip_network("2001:db8::/48")])
SERVICES = st.builds(
    ServiceReport,
    service=st.just(SERVICE),
    announce=st.sampled_from(Announce),
    announced=st.lists(PREFIXES, max_size=3).map(tuple),
    healthy=st.integers(0, 500),
    needed=st.integers(0, 500),
    good=st.booleans(),
    reason=st.text(max_size=20),
    stage=st.text(max_size=20),
    certain=st.booleans(),
)
SIZES = st.integers(0, 1 << 32)
PLANS = st.builds(
    SpiPlan,
    site=st.text(max_size=20),
    pop_bits=SIZES,
    backend_bits=SIZES,
    sa_bits=SIZES,
    esp_base=SIZES,
    generation=SIZES,
)
LABELLINGS = st.builds(Labelling, pop=SIZES, plans=st.lists(PLANS, max_size=3).map(tuple))
RECORDS = st.builds(
    Record,
    report=st.builds(
        PopReport,
        pop=st.text(max_size=20),
        region=st.text(max_size=20),
        services=SERVICES.map(lambda one: {one.service: one}),
        load=st.none() | LOADS,
        config_digest=st.text(max_size=20),
        incarnation=st.text(max_size=20),
        labelling=st.none() | LABELLINGS,
    ),
    stances=st.sampled_from(Stance).map(lambda stance: {SERVICE: stance}),
    asking=st.sampled_from([frozenset(), frozenset((SERVICE,))]),
)


LOAD: dict[str, object] = {
    "level": 0,
    "announcing": True,
    "used": {},
    "peak": {},
    "capacity": {},
    "age_s": 1.0,
    "settling": False,
}


@given(RECORDS)
def test_what_goes_in_comes_out(record: Record) -> None:
    assert decode_record(encode_record(record, 5.0), 5.0) == record


def test_an_instant_travels_as_an_age() -> None:
    record = member("a", service=bad(since=100.0)).record
    there = decode_record(encode_record(record, 130.0), 9000.0)
    assert there.report.services[SERVICE].bad_since == pytest.approx(9000.0 - 30.0)


def test_an_instant_in_the_future_is_now() -> None:
    record = member("a", service=bad(since=100.0)).record
    there = decode_record(encode_record(record, 50.0), 9000.0)
    assert there.report.services[SERVICE].bad_since == 9000.0


def test_a_newer_version_may_say_more() -> None:
    document = json.loads(encode_record(member("a").record, 0.0))
    document["colour"] = "blue"
    document["services"][SERVICE]["mood"] = "fine"
    plan = asdict(SpiPlan(site="x")) | {"colour": "blue"}
    document["labelling"] = {"pop": 1, "plans": [plan], "mood": "fine"}
    document["services"][SERVICE]["reason"] = "a reason of the future"
    document["load"] = LOAD | {"used": {"sessions": 3, "patience": 2}}
    there = decode_record(json.dumps(document).encode(), 0.0)
    assert there.report.services[SERVICE].reason == "a reason of the future"
    assert there.report.labelling == Labelling(pop=1, plans=(SpiPlan(site="x"),))
    assert there.report.load is not None
    assert there.report.load.used == {Resource.SESSIONS: 3.0}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("pop",), 7),
        (("services", SERVICE, "stance"), "maybe"),
        (("services", SERVICE, "good"), "yes"),
        (("services", SERVICE, "announce"), "loudly"),
        (("services", SERVICE, "announced"), ["198.51.100.1/24"]),
        (("services", SERVICE, "bad_for_s"), -1),
        (("services", SERVICE, "bad_for_s"), "NaN"),
        (("services", SERVICE, "healthy"), -1),
        (("services", SERVICE, "healthy"), True),
        (("load",), {"level": 0}),
        (("load",), LOAD | {"level": 0.5}),
        (("load",), LOAD | {"used": {"sessions": -1}}),
        (("load",), LOAD | {"used": {"sessions": True}}),
        (("load",), LOAD | {"age_s": "long"}),
    ],
)
def test_a_strange_record_is_refused(path: tuple[str, ...], value: object) -> None:
    document = json.loads(encode_record(member("a").record, 0.0))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(WireError):
        decode_record(json.dumps(document).encode(), 0.0)


@given(st.binary(max_size=200))
def test_garbage_raises_only_wire_errors(content: bytes) -> None:
    with pytest.raises(WireError):
        decode_record(content, 0.0)


@pytest.mark.parametrize("figure", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("place", ["used", "peak", "capacity", "at", "bad_since"])
def test_a_record_that_json_cannot_hold_is_not_written(place: str, figure: float) -> None:
    load = PopLoad(level=0, announcing=True, used={}, peak={}, capacity={}, at=0.0)
    record = member("a", service=bad(since=figure if place == "bad_since" else 0.0)).record
    if place != "bad_since":
        strange = figure if place == "at" else {Resource.SESSIONS: figure}
        record = replace(record, report=replace(record.report, load=replace(load, **{place: strange})))
    with suppress(WireError):
        # An instant of the future is now.
        assert decode_record(encode_record(record, 0.0), 0.0)


def test_whatever_stands_where_a_number_should_only_wire_errors_leave() -> None:
    load = PopLoad(
        level=1,
        announcing=True,
        used={Resource.SESSIONS: 2.0},
        peak={Resource.SESSIONS: 3.0},
        capacity={Resource.SESSIONS: 9.0},
        at=0.0,
    )
    record = member("a", service=bad(since=-5.0)).record
    content = encode_record(replace(record, report=replace(record.report, load=load)), 1.0)
    for what, text in documents(content.decode()):
        with suppress(WireError):
            found = decode_record(text.encode(), 1.0).report
            service, told = found.services[SERVICE], found.load
            since = 0.0 if service.bad_since is None else service.bad_since
            figures = [since, float(service.healthy), float(service.needed)]
            if told is not None:
                figures += [told.at, float(told.level), *told.used.values(), *told.peak.values()]
                figures += told.capacity.values()
            assert all(math.isfinite(sum([one] * 1000)) for one in figures), what


def test_a_record_has_a_bound_in_both_directions() -> None:
    record = member("a").record
    huge = replace(record, report=replace(record.report, region="x" * MAX_BYTES))
    with pytest.raises(WireError):
        encode_record(huge, 0.0)
    with pytest.raises(WireError):
        decode_record(b"{" + b" " * MAX_BYTES + b"}", 0.0)
