"""A running agent gives way to its next image only for a configuration that leaves no route alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from structlog.testing import capture_logs

from popctl.agent.configured import Configured
from popctl.agent.events import IntentsChanged
from popctl.agent.reload import may_follow
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Announce
from tests.unit.agent import api_rig
from tests.unit.config.samples import minimal

WITHOUT_VPN = (
    ("  vpn:\n    prefixes: [198.51.100.0/24]", "  web:\n    prefixes: [203.0.113.0/24]"),
    ("  prefixes: [198.51.100.0/24]\n  next", "  prefixes: [198.51.100.0/24, 203.0.113.0/24]\n  next"),
)
WITHDRAWN = Intent(kind=IntentKind.WITHDRAW, target="vpn", reason="test", owner="test", created_unix_s=0.0)


def written(directory: Path, *substitutions: tuple[str, str], state: str = "state.json") -> Configured:
    """Write a configuration and load it."""
    paths = {"relay_socket": "relay.sock", "api_socket": "api.sock", "state_file": state, "journal": "journal"}
    names = ", ".join(f"{key}: {directory / name}" for key, name in paths.items())
    path = directory / "popctl.yaml"
    path.write_text(minimal(*substitutions, tail=f"paths: {{{names}}}\ntiming: {{warm_up: 0, hold_down: 0}}\n"))
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
