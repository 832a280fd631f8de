"""What Prometheus sees, read back with its own parser."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from popctl.agent.metrics import Histogram, Metrics
from popctl.agent.world import World
from popctl.model.meter import Heard, L2tpCount, UnixMeter
from popctl.model.observation import Observation, Outcome
from popctl.model.pop import Announce
from popctl.model.probe import ProbeKey
from popctl.model.reason import Reason
from tests import pops
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.senses.test_meter import CPU, EMPTY, IKE, LINK, TRACKED

API_DOCUMENT = Path("docs/api.md").read_text()


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def read(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics.text())[name, frozenset(labels.items())]


def new() -> Metrics:
    pop = pops.pop()
    return Metrics(pop=pop, world=World(pop), clock=lambda: 10.5, version="1.2.3")


def observation(outcome: Outcome, reason: Reason, rtt_s: float | None = None, backend: int = 1) -> Observation:
    return Observation(key=ProbeKey(backend, "ike"), outcome=outcome, reason=reason, at=10.0, rtt_s=rtt_s)


def test_probe_outcomes_are_counted_by_backend_probe_outcome_and_reason() -> None:
    metrics = new()
    good, bad = observation(Outcome.PASS, Reason.ANSWERED, 0.0015), observation(Outcome.FAIL, Reason.REFUSED)
    metrics.turn(10.0, (good, good, bad), None)
    labels = {"backend": "b1", "probe": "ike"}
    assert read(metrics, "popctl_probe_outcomes_total", **labels, outcome="pass", reason="answered") == 2
    assert read(metrics, "popctl_probe_outcomes_total", **labels, outcome="fail", reason="refused") == 1
    assert read(metrics, "popctl_probe_last_rtt_seconds", **labels) == 0.0015
    assert read(metrics, "popctl_probe_rtt_seconds_bucket", probe="ike", le="0.001") == 0
    assert read(metrics, "popctl_probe_rtt_seconds_bucket", probe="ike", le="0.002") == 2
    assert read(metrics, "popctl_probe_rtt_seconds_sum", probe="ike") == 0.003


def test_late_result_of_a_probe_that_is_not_configured_makes_no_series() -> None:
    metrics = new()
    metrics.turn(10.0, (observation(Outcome.PASS, Reason.ANSWERED, backend=77),), None)
    assert not [key for key in samples(metrics.text()) if key[0] == "popctl_probe_outcomes_total"]


def test_turn_duration_runs_from_the_turn_to_the_sink() -> None:
    metrics = new()
    metrics.turn(10.0, (), None)
    assert read(metrics, "popctl_turn_duration_seconds_sum") == 0.5
    assert read(metrics, "popctl_turn_duration_seconds_bucket", le="0.25") == 0
    assert read(metrics, "popctl_turn_duration_seconds_count") == 1


def test_histogram_counts_a_bound_into_its_own_bucket_and_the_rest_above() -> None:
    histogram, family = Histogram((0.1, 1.0)), HistogramMetricFamily("x", "x", labels=())
    for value in (0.1, 0.5, 7.0):
        histogram.observe(value)
    histogram.add_to(family)
    counts = [sample.value for sample in family.samples if sample.name == "x_bucket"]
    assert counts == [1, 2, 3]


async def test_service_stands_on_one_rung_for_one_reason_and_moves_are_counted(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        for backend in (1, 2):
            agent.observe(backend, Outcome.FAIL, Reason.REFUSED)
        await agent.until_announced(Announce.WITHDRAWN)
        await agent.until_proven()
    found = samples(agent.metrics.text())
    on = {key for key, value in found.items() if key[0] == "popctl_service_announce" and value}
    assert on == {("popctl_service_announce", frozenset({("service", "vpn"), ("announce", "withdrawn")}))}
    why = {key for key, value in found.items() if key[0] == "popctl_service_reason" and value}
    assert why == {("popctl_service_reason", frozenset({("service", "vpn"), ("reason", "too-few-backends")}))}
    moved = {"service": "vpn", "from": "normal", "to": "withdrawn", "reason": "too-few-backends"}
    assert read(agent.metrics, "popctl_service_transitions_total", **moved) == 1
    assert read(agent.metrics, "popctl_decisions_total", service="vpn", reason="too-few-backends") >= 1
    assert read(agent.metrics, "popctl_backend_verdict", backend="b1", verdict="down") == 1
    assert read(agent.metrics, "popctl_service_backends", service="vpn", state="healthy") == 0
    assert read(agent.metrics, "popctl_lease_renewals_total") == 7


async def test_routes_are_counted_by_how_far_they_have_come(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        neighbor = str(pops.ROUTER)
        assert read(agent.metrics, "popctl_routes", neighbor=neighbor, state="wanted") == 2
        assert read(agent.metrics, "popctl_routes", neighbor=neighbor, state="proven") == 2
        assert read(agent.metrics, "popctl_session_established", neighbor=neighbor) == 1
        failed = frozenset(agent.speaker.actual.routes)
        agent.speaker.report(replace(agent.speaker.actual, failed=failed))
        await eventually_async(lambda: agent.world.view().actual.failed == failed)
        assert read(agent.metrics, "popctl_routes", neighbor=neighbor, state="failed") == 2
        assert read(agent.metrics, "popctl_routes", neighbor=neighbor, state="proven") == 0


async def test_lag_of_the_event_loop_is_measured_until_cancelled() -> None:
    metrics = new()
    task = asyncio.create_task(metrics.watch_lag())
    await eventually_async(lambda: read(metrics, "popctl_loop_lag_seconds_count") >= 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_scrapes_in_another_thread_survive_a_loop_that_goes_on(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        scrapes = [asyncio.ensure_future(asyncio.to_thread(agent.metrics.text)) for _ in range(20)]

        def feed_until_scraped() -> bool:
            for reason in Reason:
                agent.observe(1, Outcome.UNKNOWN, reason)
            return all(scrape.done() for scrape in scrapes)

        # A loop that never rests starves every other thread: each select() lends them the lock for too short a time.
        await eventually_async(feed_until_scraped, every_s=0.001)
        for text in await asyncio.gather(*scrapes):
            assert b"popctl_probe_outcomes_total" in text


async def test_api_document_names_every_metric_of_a_working_agent(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        found = {name for name, _ in samples(agent.metrics.text()) if name.startswith("popctl_")}
    plain = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in found}
    assert {name for name in plain if f"`{name}`" not in API_DOCUMENT} == set()


def test_all_that_a_meter_read_can_be_scraped_while_it_is_fresh() -> None:
    snapshot = replace(EMPTY, ike=IKE, l2tp=L2tpCount(tunnels=3, sessions=7), cpu=CPU, links=(LINK,), conntrack=TRACKED)
    bare = pops.pop()
    metered = {number: replace(one, meter=UnixMeter(path=Path("meter"))) for number, one in bare.backends.items()}
    pop = replace(bare, backends=metered)
    now = [10.0]
    metrics = Metrics(
        pop=pop,
        world=World(pop),
        clock=lambda: now[0],
        version="1",
        heard=lambda: {1: Heard(snapshot=snapshot, at=10.0), 2: Heard(snapshot=EMPTY, at=10.0)},
    )
    for source, figure, value in (
        ("ike", "children", 100.0),
        ("ike", "half_open", 2.0),
        ("ike", "rekeys_min", 5.0),
        ("l2tp", "tunnels", 3.0),
        ("cpu", "softirq", 0.125),
        ("conntrack", "insert_failed_s", 0.0),
    ):
        assert read(metrics, "popctl_backend_meter", backend="b1", source=source, figure=figure) == value
    assert read(metrics, "popctl_backend_link", backend="b1", interface="eth0", figure="drop_s") == 0.0
    assert not [labels for name, labels in samples(metrics.text()) if "meter" in name and ("backend", "b2") in labels]
    now[0] += pop.load_timing.stale_after_s
    assert not [name for name, _ in samples(metrics.text()) if name in ("popctl_backend_meter", "popctl_backend_link")]
