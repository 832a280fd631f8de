"""Make before break, for every history: no prefix is out there that the balancer serves with nobody."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from popctl.model.balancer import Tables
from popctl.model.observation import DrainEnd, IntentKind, Outcome
from popctl.model.reason import Reason
from popctl.model.route import RouteTable
from tests.pops import VIP, backend, balanced, ike, pop
from tests.timeline.story import Story

PASS, SILENT, REFUSED = (
    (Outcome.PASS, Reason.ANSWERED),
    (Outcome.FAIL, Reason.TIMED_OUT),
    (Outcome.FAIL, Reason.REFUSED),
)


@dataclass(frozen=True)
class Probe:
    """So many equal outcomes of one backend."""

    backend: int
    outcome: tuple[Outcome, Reason]
    times: int


@dataclass(frozen=True)
class Drain:
    """An order that nobody could refuse."""

    backend: int
    for_s: float
    then: DrainEnd


@dataclass(frozen=True)
class Undrain:
    """And its end."""

    backend: int


@dataclass(frozen=True)
class Withdraw:
    """The service is ordered out, or back; out after a drain, perhaps without new SAs meanwhile."""

    back: bool
    drain_s: float = 0.0
    refuse_new: bool = False


BACKENDS = st.sampled_from([1, 2, 3])
HAPPENS = st.one_of(
    st.builds(Probe, BACKENDS, st.sampled_from([PASS, PASS, PASS, SILENT, REFUSED]), st.integers(1, 6)),
    st.builds(Drain, BACKENDS, st.sampled_from([0.0, 1.0, 20.0]), st.sampled_from(DrainEnd)),
    st.builds(Undrain, BACKENDS),
    st.builds(Withdraw, st.booleans()),
    st.builds(Withdraw, st.booleans(), st.sampled_from([0.0, 5.0])),
)
CLOSES = st.builds(Withdraw, st.just(value=False), st.sampled_from([0.0, 5.0, 30.0]), st.just(value=True))
HISTORIES = st.lists(st.tuples(st.floats(0.01, 20.0), HAPPENS), min_size=1, max_size=50)
EVERYBODY_DRAINS: list[tuple[float, object]] = [
    *((1.0, Drain(number, 0.0, DrainEnd.WAIT)) for number in (1, 2, 3)),
    # Something that makes the loop look again before anything was proven.
    (1.0, Probe(1, REFUSED, 1)),
]
"""While the announce is still on its way: not proven, and not to be taken for withdrawn either."""
CLOSED_AND_CUT: list[tuple[float, object]] = [
    (1.0, Withdraw(back=False, drain_s=30.0, refuse_new=True)),
    *((1.0, Drain(number, 1.0, DrainEnd.CUT)) for number in (1, 2, 3)),
]
LAGS = st.sampled_from([0.001, 0.3, 3.0, 15.0])


def live(history: list[tuple[float, object]], routes_lag_s: float, tables_lag_s: float) -> Story:
    """Let all of it happen to three backends that begin well."""
    three = tuple(backend(number, ike()) for number in (1, 2, 3))
    story = Story(balanced(pop(backends=three)), lag_s=routes_lag_s, tables_lag_s=tables_lag_s)
    for number in (1, 2, 3):
        story.passes(number, begin=0.0, end=15.0)
    at, drained, withdrawn = 16.0, set(), False
    for gap, one in history:
        at += gap
        match one:
            case Probe(number, (outcome, reason), times):
                for again in range(times):
                    story.probe(at + again * 0.5, number, outcome, reason)
                at += times * 0.5
            case Drain(number, for_s, then):
                drained.add(number)
                story.orders_drain(at, f"b{number}", for_s=for_s, then=then)
            case Undrain(number) if number in drained:
                drained.remove(number)
                story.takes_back(at, IntentKind.DRAIN, f"b{number}")
            case Withdraw(back=False, drain_s=drain_s, refuse_new=refuse_new) if not withdrawn:
                withdrawn = True
                story.orders_withdraw(at, drain_s=drain_s, refuse_new=refuse_new)
            case Withdraw(back=True) if withdrawn:
                withdrawn = False
                story.takes_back(at, IntentKind.WITHDRAW, "vpn")
    return story.run_to(at + 60.0)


def moments(story: Story) -> list[tuple[RouteTable, Tables]]:
    """Return what routers and kernel held, each time that either changed."""
    changes: list[tuple[float, RouteTable | Tables]] = [(at + story.lag_s, routes) for at, routes in story.orders]
    changes += story.kernel
    routes, tables, found = {}, Tables(), []
    for _, change in sorted(changes, key=lambda change: change[0]):
        if isinstance(change, Tables):
            tables = change
        else:
            routes = dict(change)
        found.append((routes, tables))
    return found


@settings(max_examples=200, deadline=None)
@given(HISTORIES, LAGS, LAGS)
@example(EVERYBODY_DRAINS, 15.0, 0.001)
def test_whatever_is_announced_is_served_by_somebody(
    history: list[tuple[float, object]], routes_lag_s: float, tables_lag_s: float
) -> None:
    for routes, tables in moments(live(history, routes_lag_s, tables_lag_s)):
        if any(VIP in key.prefix for key in routes):
            (service,) = tables.services or (None,)
            assert service is not None, "announced before there was a balancer"
            assert service.rows.members & tables.alive - tables.draining, "announced, and given to nobody"


CLOSING = st.lists(st.tuples(st.floats(0.01, 20.0), st.one_of(HAPPENS, CLOSES)), min_size=1, max_size=50)


@settings(max_examples=200, deadline=None)
@given(CLOSING, LAGS, LAGS)
@example(CLOSED_AND_CUT, 3.0, 0.001)
def test_a_service_that_refuses_new_sas_has_somebody_for_the_old_ones_while_it_is_announced(
    history: list[tuple[float, object]], routes_lag_s: float, tables_lag_s: float
) -> None:
    for routes, tables in moments(live(history, routes_lag_s, tables_lag_s)):
        if any(VIP in key.prefix for key in routes):
            (service,) = tables.services or (None,)
            assert service is not None, "announced before there was a balancer"
            assert service.rows.members & tables.alive, "announced, and the old ones are given to nobody"


@settings(max_examples=200, deadline=None)
@given(HISTORIES)
def test_rows_and_labels_never_change_with_health_and_orders(history: list[tuple[float, object]]) -> None:
    story = live(history, 0.001, 0.001)
    services = [tables.services for _, tables in story.tables]
    assert all(one is services[0] for one in services)


@settings(max_examples=200, deadline=None)
@given(HISTORIES)
def test_no_tables_are_ordered_twice_in_a_row(history: list[tuple[float, object]]) -> None:
    story = live(history, 0.001, 0.001)
    assert all(before != after for (_, before), (_, after) in pairwise(story.tables))


@settings(max_examples=200, deadline=None)
@given(HISTORIES)
def test_only_what_the_balancer_no_longer_gives_anything_to_has_its_sas_ended(
    history: list[tuple[float, object]],
) -> None:
    story = live(history, 0.001, 0.001)
    for at, backends in story.ended:
        ordered = [tables for ordered_at, tables in story.tables if ordered_at <= at][-1]
        assert not backends & ordered.alive
