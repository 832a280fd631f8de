"""A running agent gives way to its next image only for a configuration that leaves no route alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from popctl.agent.configured import Configured
from popctl.agent.events import FleetChanged, IntentsChanged
from popctl.agent.label_alarm import LabelAlarm, new_clashes
from popctl.agent.metrics_fleet import fleet_families
from popctl.agent.reload import may_follow
from popctl.model.balancer import Labelling, SpiPlan
from popctl.model.fleet import FleetView
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Announce
from tests import fleet_agents
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.config.samples import minimal

WITHOUT_VPN = (
    ("  vpn:\n    prefixes: [198.51.100.0/24]", "  web:\n    prefixes: [203.0.113.0/24]"),
    ("  prefixes: [198.51.100.0/24]\n  next", "  prefixes: [198.51.100.0/24, 203.0.113.0/24]\n  next"),
)
WITHDRAWN = Intent(kind=IntentKind.WITHDRAW, target="vpn", reason="test", owner="test", created_unix_s=0.0)


def written(directory: Path, *substitutions: tuple[str, str], state: str = "state.json", tail: str = "") -> Configured:
    """Write a configuration and load it."""
    paths = {"relay_socket": "relay.sock", "api_socket": "api.sock", "state_file": state, "journal": "journal"}
    names = ", ".join(f"{key}: {directory / name}" for key, name in paths.items())
    path = directory / "popctl.yaml"
    tail = f"paths: {{{names}}}\ntiming: {{warm_up: 0, hold_down: 0}}\n{tail}"
    path.write_text(minimal(*substitutions, tail=tail))
    return Configured.load(path)


@asynccontextmanager
async def announcing(configured: Configured) -> AsyncIterator[api_rig.TestedAgent]:
    """Run an agent whose prefix is announced."""
    async with api_rig.running(configured.pop) as agent:
        for _ in range(3):
            agent.all_pass()
        await agent.until_announced()
        await agent.until_proven()
        yield agent


async def test_a_prefix_that_is_announced_is_not_taken_away_by_a_reload(tmp_path: Path) -> None:
    before = written(tmp_path)
    async with announcing(before) as agent:
        written(tmp_path, *WITHOUT_VPN)
        with capture_logs() as logs:
            assert not await may_follow(before, agent.loop)
        (refused,) = logs
        assert refused["event"] == "new configuration refused; the present one stays in force"
        (problem,) = refused["problems"]
        assert problem.startswith(
            f"{before.source}: services: found no service with 198.51.100.0/24: it is announced, and would be withdrawn"
        )
        assert agent.announced() == {"vpn": Announce.NORMAL}


async def test_once_it_is_withdrawn_it_may_go(tmp_path: Path) -> None:
    before = written(tmp_path)
    async with announcing(before) as agent:
        written(tmp_path, *WITHOUT_VPN)
        agent.speaker.proves = False
        agent.loop.put(IntentsChanged((WITHDRAWN,)))
        await agent.until_announced(Announce.WITHDRAWN)
        assert not await may_follow(before, agent.loop), "the routers still have it"
        agent.speaker.prove()
        await agent.until_proven()
        with capture_logs() as logs:
            assert await may_follow(before, agent.loop)
    assert {line["log_level"] for line in logs} == {"warning"}
    assert [line["cost"].partition(":")[0] for line in logs] == [
        "allowlist",
        "services, 198.51.100.0/24",
        "services.vpn",
    ]


async def test_what_is_wanted_counts_although_the_relay_is_away(tmp_path: Path) -> None:
    before = written(tmp_path)
    async with announcing(before) as agent:
        written(tmp_path, *WITHOUT_VPN)
        agent.speaker.report(replace(agent.speaker.actual, connected=False, inherited=False, routes={}))
        assert not await may_follow(before, agent.loop)


async def test_a_reload_that_changes_nothing_for_others_costs_nothing(tmp_path: Path) -> None:
    before = written(tmp_path)
    async with announcing(before) as agent:
        written(tmp_path, ("  id: 1", "  location: elsewhere\n  id: 1"))
        with capture_logs() as logs:
            assert await may_follow(before, agent.loop)
    assert logs == []


async def test_orders_that_stay_behind_are_told(tmp_path: Path) -> None:
    before = written(tmp_path)
    async with announcing(before) as agent:
        written(tmp_path, state="orders.json")
        with capture_logs() as logs:
            assert await may_follow(before, agent.loop)
    assert [line["cost"].partition(":")[0] for line in logs] == ["paths.state_file"]


async def test_a_check_that_fails_itself_ends_no_agent(tmp_path: Path) -> None:
    before = written(tmp_path)
    async with announcing(before) as agent:
        nameless = replace(before, source=Path("/\0"))
        with capture_logs() as logs:
            assert not await may_follow(nameless, agent.loop)
    assert [line["log_level"] for line in logs] == ["error"]


IN_FLEET = 'fleet: {name: site, region: eu, etcd: ["http://192.0.2.5:2379"]}\n'
BALANCER = (
    "    prefixes: [198.51.100.0/24]\n",
    "    prefixes: [198.51.100.0/24]\n    balancer: {vips: [198.51.100.1]}\n",
)
PLAN = SpiPlan(site="example.net")


def of_another(pop: int, *plans: SpiPlan) -> FleetView:
    """Return a view of the fleet with one other PoP."""
    heard = fleet_agents.member("ams")
    report = replace(heard.record.report, labelling=Labelling(pop=pop, plans=plans))
    return FleetView(members={"ams": replace(heard, record=replace(heard.record, report=report))}, connected=True)


@pytest.mark.parametrize(
    ("plan", "other", "told"),
    [
        ("{site: example.net}", of_another(1, PLAN), "pop.id: found ams in the fleet: 1 is the id of ams, too: "),
        ("{site: x}", of_another(2, PLAN), "spi_plan: found ams in the fleet: is {site: x, pop_bits: 10, "),
        ("{site: example.net}", of_another(2, PLAN), ""),
        ("{site: example.net, generation: 1, previous: {site: example.net}}", of_another(2, PLAN), ""),
        ("{site: example.net}", replace(of_another(1, PLAN), connected=False), ""),
    ],
)
async def test_labels_that_another_pop_has_are_not_taken_over(
    tmp_path: Path, plan: str, other: FleetView, told: str
) -> None:
    before = written(tmp_path, tail=IN_FLEET)
    async with api_rig.running(before.pop) as agent:
        agent.loop.put(FleetChanged(other))
        await eventually_async(lambda: agent.world.view().fleet == other)
        written(tmp_path, BALANCER, tail=f"{IN_FLEET}spi_plan: {plan}\n")
        with capture_logs() as logs:
            assert await may_follow(before, agent.loop) is not bool(told)
    found = [one for line in logs for one in line.get("problems", [])]
    assert [one.startswith(f"{before.source}: {told}") for one in found] == ([True] if told else [])


async def test_a_clash_that_is_there_already_holds_up_no_other_change(tmp_path: Path) -> None:
    wrong = written(tmp_path, BALANCER, tail=f"{IN_FLEET}spi_plan: {{site: example.net}}\n").pop
    assert new_clashes(wrong, replace(wrong, location="elsewhere"), of_another(1, PLAN)) == ()


async def test_a_clash_is_told_once_until_it_has_ended(tmp_path: Path) -> None:
    pop = written(tmp_path, BALANCER, tail=f"{IN_FLEET}spi_plan: {{site: example.net}}\n").pop
    alarm = LabelAlarm(pop)
    with capture_logs() as logs:
        for view in (of_another(1, PLAN), of_another(1, PLAN), of_another(2, PLAN)):
            alarm.turn(0.0, (FleetChanged(view),), None)
    assert [(line["event"], line["pop"]) for line in logs] == [
        ("labels of another PoP clash with ours", "ams"),
        ("labels of another PoP clash no more", "ams"),
    ]
    (first, *_) = fleet_families(pop, of_another(1, PLAN), {}, 0.0)
    assert (first.name, [sample.value for sample in first.samples]) == ("popctl_fleet_label_clashes", [1])
