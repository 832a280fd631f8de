"""What Prometheus sees of the balancer, read back with its own parser: every reason, packets and bytes, drops too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from popctl.agent.metrics_balancer import balancer_families
from popctl.core.decide import Decision
from popctl.lb.balancer import KernelError
from popctl.model.balancer import BalancerActual
from popctl.model.capacity import CALM
from popctl.model.desired import BackendDecision, Desired, Place
from popctl.model.reason import Reason
from popctl.model.route import route_table
from popctl.model.view import View
from popctl.wire.nft import DROPS, REASON_CODES
from popctl.wire.nft_counters import Count, Counters
from tests import pops
from tests.unit.agent.test_metrics import API_DOCUMENT, samples

POP = pops.balanced(pops.pop())
FORWARDED = {(1, reason): Count(10 + number, 1000 + number) for number, reason in enumerate(REASON_CODES)}
DROPPED = {("vpn", reason): Count(20 + number, 2000 + number) for number, reason in enumerate(DROPS)}
COUNTERS = Counters(
    # The last one is of a backend that was taken out of the configuration.
    forwarded={**FORWARDED, (9, Reason.NEW_SA): Count(1, 1)},
    dropped=DROPPED,
    copies_over_limit=7,
)


class Exposed(Collector):
    """The families of one moment."""

    def __init__(self, view: View, counters: Callable[[], Counters], places: tuple[BackendDecision, ...] = ()) -> None:
        desired = Desired(routes=route_table(), services=(), backends=places)
        decision = Decision(desired=desired, memory={}, load_state=CALM, wake_at=0.0)
        self._families = list(balancer_families(POP, view, decision, counters))

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)

    def read(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return samples by name and labels."""
        registry = CollectorRegistry()
        registry.register(self)
        found = samples(generate_latest(registry))
        return {key: value for key, value in found.items() if not key[0].endswith("_created")}


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Name a sample."""
    return name, frozenset(labels.items())


def test_packets_and_bytes_are_told_by_backend_and_reason_and_drops_by_service_and_reason() -> None:
    found = Exposed(View(), lambda: COUNTERS).read()
    counted = {key: value for key, value in found.items() if key[1]}
    wanted: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for (_, reason), count in FORWARDED.items():
        wanted[labelled("popctl_balancer_packets_total", backend="b1", reason=reason)] = count.packets
        wanted[labelled("popctl_balancer_bytes_total", backend="b1", reason=reason)] = count.bytes
    for (service, reason), count in DROPPED.items():
        wanted[labelled("popctl_balancer_dropped_packets_total", service=service, reason=reason)] = count.packets
        wanted[labelled("popctl_balancer_dropped_bytes_total", service=service, reason=reason)] = count.bytes
    assert counted == wanted
    assert found[labelled("popctl_balancer_icmp_over_limit_total")] == 7


def test_what_is_in_force_and_what_was_repaired_is_told() -> None:
    actual = BalancerActual(in_force=True, writes=5, elements_changed=4, drift_repairs=3)
    found = Exposed(View(balancer=actual), Counters).read()
    told = {name.removeprefix("popctl_balancer_"): value for (name, _), value in found.items()}
    assert told == {
        "in_force": 1,
        "writes_total": 5,
        "elements_changed_total": 4,
        "drift_repairs_total": 3,
        "icmp_over_limit_total": 0,
    }


@pytest.mark.parametrize(
    ("alive", "draining", "cut", "place"),
    [
        (True, False, False, Place.ALIVE),
        (True, True, False, Place.DRAINING),
        (False, False, False, Place.OUT),
        (False, True, True, Place.CUT),
    ],
)
def test_a_backend_is_at_one_place(alive: bool, draining: bool, cut: bool, place: Place) -> None:  # noqa: FBT001 - a table
    one = BackendDecision(backend=2, alive=alive, draining=draining, cut=cut, reason=Reason.ANSWERED)
    found = Exposed(View(), Counters, (one,)).read()
    assert {each: found[labelled("popctl_backend_place", backend="b2", place=each)] for each in Place} == {
        each: float(each is place) for each in Place
    }


def test_counters_that_cannot_be_read_are_absent_and_the_rest_is_there() -> None:
    def fails() -> Counters:
        raise KernelError("nft", "gone")

    names = {name for name, _ in Exposed(View(), fails).read()}
    assert "popctl_balancer_in_force" in names
    assert not {name for name in names if "packets" in name or "bytes" in name or "limit" in name}


def test_the_api_document_names_every_metric_of_the_balancer() -> None:
    one = BackendDecision(backend=1, alive=True, draining=False, cut=False, reason=Reason.ANSWERED)
    names = {name for name, _ in Exposed(View(), lambda: COUNTERS, (one,)).read()}
    assert {name for name in names if f"`{name}`" not in API_DOCUMENT} == set()
