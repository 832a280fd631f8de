"""Load: samples become EWMA and peak, sums and tightness; silence is never idleness."""

from __future__ import annotations

import math

import pytest

from popctl.core import load
from popctl.model.load import BackendLoad, LoadSample, LoadTiming, Resource, Share, Symptom, TrafficClasses
from popctl.model.reason import Reason
from tests.fleets import amounts

TIMING = LoadTiming(smoothing_s=15.0, peak_half_life_s=120.0, stale_after_s=10.0)


def _sampled(*values: tuple[float, float]) -> BackendLoad:
    found = load.UNHEARD
    for at, sessions in values:
        sample = LoadSample(backend=1, at=at, used=amounts(sessions=sessions), unknown={Resource.CPU: Reason.NO_SOURCE})
        found = load.fold(found, sample, TIMING)
    return found


def test_the_first_sample_is_believed_as_it_is() -> None:
    track = _sampled((0.0, 100.0)).tracks[Resource.SESSIONS]
    assert (track.smooth, track.peak) == (100.0, 100.0)


def test_after_one_time_constant_the_average_has_gone_63_percent_of_the_way() -> None:
    timing = LoadTiming(smoothing_s=15.0, stale_after_s=60.0)
    first = load.fold(load.UNHEARD, LoadSample(backend=1, at=0.0, used=amounts(sessions=0.0)), timing)
    later = load.fold(first, LoadSample(backend=1, at=15.0, used=amounts(sessions=100.0)), timing)
    assert later.tracks[Resource.SESSIONS].smooth == pytest.approx(100.0 * (1 - math.exp(-1)))


def test_a_peak_fades_by_half_in_its_half_life_and_never_below_the_average() -> None:
    samples = [(0.0, 100.0), *((5.0 * number, 10.0) for number in range(1, 25))]
    track = _sampled(*samples).tracks[Resource.SESSIONS]
    assert track.peak == pytest.approx(50.0, rel=0.01)
    assert track.peak >= track.smooth


def test_after_a_gap_the_past_is_forgotten() -> None:
    assert _sampled((0.0, 100.0), (60.0, 10.0)).tracks[Resource.SESSIONS].peak == 10.0


def test_a_silent_backend_makes_the_sum_a_lower_bound_and_names_the_reason() -> None:
    total = load.total([_sampled((0.0, 100.0)), load.UNHEARD], TIMING, 1.0)
    assert total.used[Resource.SESSIONS] == 100.0
    assert total.missing[Resource.SESSIONS] is Reason.NOT_YET_KNOWN
    assert total.exact() == ({}, {})


def test_a_backend_that_fell_silent_is_stale_not_empty() -> None:
    heard = _sampled((0.0, 100.0))
    assert load.total([heard], TIMING, 9.9).missing.get(Resource.SESSIONS) is None
    silent = load.total([heard], TIMING, 10.0)
    assert Resource.SESSIONS not in silent.used
    assert silent.missing[Resource.SESSIONS] is Reason.STALE
    assert load.next_stale(heard, TIMING, 1.0) == 10.0


def test_what_the_meter_could_not_read_keeps_its_own_reason() -> None:
    assert load.total([_sampled((0.0, 1.0))], TIMING, 1.0).missing[Resource.CPU] is Reason.NO_SOURCE


def test_the_tightest_resource_wins() -> None:
    found = load.tightness(
        amounts(sessions=50.0, bits=9.0, cpu=1.0),
        amounts(sessions=100.0, bits=10.0),
        {},
    )
    assert (found.at_least, found.resource, found.exact) == (0.9, Resource.BITS, True)


def test_an_unknown_limited_resource_leaves_only_a_lower_bound() -> None:
    found = load.tightness(amounts(sessions=90.0), amounts(sessions=100.0, cpu=4.0), {Resource.CPU: Reason.STALE})
    assert (found.at_least, found.missing) == (0.9, Reason.STALE)


def test_a_resource_without_a_limit_is_never_tight() -> None:
    found = load.tightness(amounts(sessions=90.0), {}, {Resource.CPU: Reason.STALE})
    assert (found.at_least, found.resource, found.exact) == (0.0, None, True)


def test_capacities_add_up_only_where_every_backend_is_limited() -> None:
    assert load.add([amounts(sessions=10, cpu=4), amounts(sessions=20)]) == amounts(sessions=30)
    assert load.add([]) == {}


def test_classes_and_symptoms_are_those_of_the_latest_sample_and_go_stale_with_it() -> None:
    classes = TrafficClasses(interactive=Share(sessions=990, bit_s=1e8), bulk=Share(sessions=10, bit_s=9e8))
    told = LoadSample(backend=1, at=5.0, used={}, classes=classes, symptoms=(Symptom.LINK_DROPS,))
    found = load.fold(load.UNHEARD, told, TIMING)
    assert (found.classes, found.symptoms) == (classes, (Symptom.LINK_DROPS,))
    assert load.heard(found, TIMING, 14.9)
    assert not load.heard(found, TIMING, 15.0)
    assert not load.heard(load.UNHEARD, TIMING, 0.0)
    later = load.fold(found, LoadSample(backend=1, at=7.0, used={}), TIMING)
    assert (later.classes, later.symptoms) == (None, ())
