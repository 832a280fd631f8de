"""Flap damping as our neighbours keep it: charges, decay, and when the next change is allowed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from popctl.core import damping
from popctl.core.damping import Figures, Penalty
from popctl.model.pop import Announce
from popctl.model.route import Route, RouteKey, route_table

FIGURES = Figures()
PREFIX = ip_network("198.51.100.0/24")
KEY = RouteKey(ip_address("192.0.2.1"), PREFIX)
OTHER = RouteKey(ip_address("192.0.2.2"), PREFIX)


def _route(med: int) -> Route:
    return Route(prefix=PREFIX, next_hop=ip_address("192.0.2.10"), med=med)


def test_a_penalty_halves_in_fifteen_minutes() -> None:
    assert damping.value(Penalty(1000.0, 0.0), 900.0, FIGURES) == 500.0


def test_a_clock_that_seems_to_go_back_decays_nothing() -> None:
    assert damping.value(Penalty(1000.0, 100.0), 0.0, FIGURES) == 1000.0


@pytest.mark.parametrize(
    ("before", "after", "cost"),
    [
        (Announce.NORMAL, Announce.NORMAL, 0.0),
        (Announce.NORMAL, Announce.DEPREFERRED, 500.0),
        (Announce.GRACEFUL_SHUTDOWN, Announce.WITHDRAWN, 1000.0),
        (Announce.WITHDRAWN, Announce.NORMAL, 0.0),
    ],
)
def test_a_change_of_rung_costs_what_the_neighbour_charges(before: Announce, after: Announce, cost: float) -> None:
    assert damping.cost(before, after, FIGURES) == cost


def test_two_attribute_changes_are_allowed_at_once_and_a_third_waits() -> None:
    penalty = damping.NONE
    for _ in range(2):
        assert damping.allowed_from(penalty, 500.0, 0.0, FIGURES) == 0.0
        penalty = damping.charge(penalty, 500.0, 0.0, FIGURES)
    allowed_at = damping.allowed_from(penalty, 500.0, 0.0, FIGURES)
    assert 0.0 < allowed_at < 1.0, "1000 must decay to just below 1000"
    penalty = damping.charge(penalty, 500.0, allowed_at, FIGURES)
    assert damping.allowed_from(penalty, 500.0, allowed_at, FIGURES) == pytest.approx(526.5, abs=1.0)


def test_a_change_that_costs_more_than_the_limit_is_never_allowed() -> None:
    assert damping.allowed_from(damping.NONE, 1500.0, 0.0, FIGURES) == float("inf")


def test_a_ledger_is_charged_for_every_difference_of_two_tables() -> None:
    before = route_table([(KEY, _route(10)), (OTHER, _route(10))])
    after = route_table([(KEY, _route(100))])
    ledger = damping.charge_routes({}, before, after, 0.0, FIGURES)
    assert (ledger[KEY].value, ledger[OTHER].value) == (500.0, 1000.0)
    assert damping.charge_routes(ledger, after, after, 0.0, FIGURES) == ledger


def test_a_decayed_entry_is_forgotten() -> None:
    assert damping.charge_routes({KEY: Penalty(1000.0, 0.0)}, {}, {}, 9e3, FIGURES) == {}


def test_the_worst_route_of_an_upstream_counts_for_it() -> None:
    ledger = {KEY: Penalty(500.0, 0.0), OTHER: Penalty(1000.0, 0.0)}
    found = damping.worst(
        ledger, {KEY: 65000, OTHER: 65000, RouteKey(KEY.neighbor, ip_network("10.0.0.0/8")): 65001}, 0, FIGURES
    )
    assert {asn: penalty.value for asn, penalty in found.items()} == {65000: 1000.0, 65001: 0.0}


def test_a_neighbours_ledger_has_a_ceiling() -> None:
    assert damping.charge(Penalty(11_900.0, 0.0), 1000.0, 0.0, FIGURES).value == 12_000.0
