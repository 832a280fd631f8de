"""withdraw, announce, drain, undrain, state reset: as processes, against a real API."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from popctl.model.observation import Outcome
from popctl.model.pop import Announce, Service
from popctl.model.reason import Reason
from tests import pops
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.cli.command_line import ended, popctl, start


async def test_withdraw_says_done_only_after_the_speaker_has_proven_it(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.proves = False
        process = await start("withdraw", "vpn", "--reason", "test", socket=agent.socket)
        await agent.until_announced(Announce.WITHDRAWN)
        assert process.stderr is not None
        assert b"waiting" in await _until(process.stderr, b"waiting")
        assert b"198.51.100.0/24 at 192.0.2.1: pending" in await process.stderr.readline()
        assert process.returncode is None
        agent.speaker.prove()
        result = await ended(process)
    assert (result.code, result.out) == (0, "proven withdrawn at every established session: vpn\n")


async def test_withdraw_that_is_not_proven_in_time_exits_75_and_names_what_is_missing(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.proves = False
        result = await popctl("withdraw", "--reason", "x", "--timeout", "0.3s", socket=agent.socket)
    assert (result.code, result.out) == (75, "")
    assert "ordered, but not proven withdrawn:" in result.err
    assert "vpn: 2001:db8:100::/48 at 192.0.2.1: pending" in result.err


async def test_withdraw_json_tells_whether_it_is_proven_and_what_is_missing(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.proves = False
        late = await popctl("withdraw", "--reason", "x", "--timeout", "0", "--json", socket=agent.socket)
        agent.speaker.prove()
        await agent.until_proven()
        done = await popctl("withdraw", "--reason", "x", "--json", socket=agent.socket)
    assert (late.code, late.json["ordered"], late.json["proven"]) == (75, True, False)
    assert late.json["missing"]
    assert (done.code, done.json["proven"], done.json["missing"], done.json["services"]) == (0, True, [], ["vpn"])


async def test_withdraw_without_waiting_says_ordered_and_not_done(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.proves = False
        result = await popctl("withdraw", "--reason", "x", "--no-wait", socket=agent.socket)
    assert result.code == 0
    assert result.out.startswith("ordered, not waited for")


async def test_withdraw_with_drain_waits_through_graceful_shutdown(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        result = await popctl("withdraw", "--reason", "x", "--drain", "1s", socket=agent.socket)
        assert agent.announced() == {"vpn": Announce.WITHDRAWN}
    assert result.code == 0
    assert "graceful-shutdown (operator-drain" in result.err


async def test_withdraw_is_not_proven_while_a_session_that_is_down_would_replay_the_route(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.proves = False
        agent.speaker.connect(up=False)
        result = await popctl("withdraw", "--reason", "x", "--timeout", "0", socket=agent.socket)
        assert result.code == 75
        agent.speaker.prove()
        result = await popctl("withdraw", "--reason", "x", socket=agent.socket)
        assert result.code == 0


async def test_withdraw_is_not_proven_while_exabgp_is_not_connected(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.proves = False
        agent.speaker.report(replace(agent.speaker.actual, connected=False, problem="fenced"))
        result = await popctl("withdraw", "--reason", "x", "--timeout", "0", socket=agent.socket)
    assert result.code == 75
    assert "ExaBGP is not connected (fenced)" in result.err


async def test_waiting_withdraw_that_somebody_overrules_ends_at_once_with_75(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.proves = False
        process = await start("withdraw", "--reason", "x", socket=agent.socket)
        await agent.until_announced(Announce.WITHDRAWN)
        assert process.stderr is not None
        await _until(process.stderr, b"waiting")
        await popctl("announce", "--reason", "y", "--no-wait", socket=agent.socket)
        result = await ended(process)
    assert result.code == 75
    assert "overruled meanwhile for: vpn" in result.err


async def test_interrupted_wait_leaves_the_order_in_force(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        agent.speaker.proves = False
        process = await start("withdraw", "--reason", "x", socket=agent.socket)
        assert process.stderr is not None
        await _until(process.stderr, b"waiting")
        process.send_signal(signal.SIGINT)
        result = await ended(process)
        assert agent.announced() == {"vpn": Announce.WITHDRAWN}
    assert result.code == 130
    assert "an order that was accepted stands" in result.err


async def test_announce_waits_until_the_routes_are_proven(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        await popctl("withdraw", "--reason", "x", socket=agent.socket)
        result = await popctl("announce", "vpn", "--reason", "done", socket=agent.socket)
        assert agent.announced() == {"vpn": Announce.NORMAL}
    assert (result.code, result.out) == (0, "proven announced at every established session: vpn\n")


async def test_announce_of_a_service_without_healthy_backends_exits_75_with_the_reason(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        for backend in (1, 2):
            agent.observe(backend, Outcome.FAIL, Reason.REFUSED)
        await agent.until_announced(Announce.WITHDRAWN)
        result = await popctl("announce", "--reason", "x", "--timeout", "0", socket=agent.socket)
    assert result.code == 75
    assert "vpn: withdrawn (too-few-backends)" in result.err


async def test_drain_against_the_interlock_exits_4_and_force_overrides_it(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path, minimum_healthy=2)) as agent:
        refused = await popctl("drain", "b1", "--reason", "x", socket=agent.socket)
        forced = await popctl("drain", "b1", "--reason", "x", "--force", socket=agent.socket)
        undrained = await popctl("undrain", "b1", "--reason", "x", socket=agent.socket)
    assert (refused.code, refused.out) == (4, "")
    assert "leaves service vpn with 1 healthy backends, it needs 2" in refused.err
    assert (forced.code, "vpn: withdrawn (too-few-backends), 1 healthy of 2" in forced.out) == (0, True)
    assert (undrained.code, "2 healthy of 2" in undrained.out) == (0, True)


async def test_drain_takes_a_deadline_and_an_end_and_status_shows_them(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        words = ("drain", "b1", "--for", "4h", "--then", "cut", "--reason", "new kernel")
        placed = await popctl(*words, socket=agent.socket)
        shown = await popctl("status", socket=agent.socket)
        wrong = await popctl("drain", "b1", "--then", "cut", "--reason", "x", socket=agent.socket)
    assert (placed.code, placed.out.splitlines()[0]) == (0, "backend b1 drains")
    assert re.search(r"^b1 +not asked +3 h 59 m +cut *$", shown.out, flags=re.MULTILINE), shown.out
    assert (wrong.code, "a cut needs a deadline" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [("withdraw", "nope"), ("announce", "nope"), ("drain", "nope"), ("undrain", "nope")],
    ids=lambda one: one[0],
)
async def test_unknown_target_exits_5_and_names_the_known_ones(tmp_path: Path, words: tuple[str, ...]) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        result = await popctl(*words, "--reason", "x", socket=agent.socket)
    assert result.code == 5
    assert "there is: vpn" in result.err or "there is: b1, b2" in result.err


async def test_refusal_in_json_carries_problem_and_exit_code(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        result = await popctl("drain", "b9", "--reason", "x", "--json", socket=agent.socket)
    assert (result.code, result.json["exit"], result.json["problem"]["code"]) == (5, 5, "unknown-target")
    assert result.json["problem"]["known"] == ["b1", "b2"]


async def test_corrupt_state_file_exits_74_until_it_is_reset(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        agent.all_pass()
        refused = await popctl("withdraw", "--reason", "x", socket=agent.socket)
        reset = await popctl("state", "reset", "--reason", "seen", socket=agent.socket)
        again = await popctl("state", "reset", "--reason", "seen", socket=agent.socket)
        await agent.until_announced()
    assert (refused.code, "popctl state reset --reason" in refused.err) == (74, True)
    assert reset.code == 0
    assert (again.code, "state-sound" in again.err) == (70, True)


@pytest.mark.parametrize(
    "words",
    [
        ("withdraw", "vpn"),
        ("withdraw", "vpn", "--reason", "x", "--drain", "soon"),
        ("withdraw", "a", "b", "--reason", "x"),
        ("drain", "--reason", "x"),
        ("frobnicate",),
        ("status", "--frobnicate"),
    ],
)
async def test_wrong_usage_exits_2_and_asks_no_agent(words: tuple[str, ...]) -> None:
    assert (await popctl(*words)).code == 2


async def test_empty_reason_is_refused_by_the_agent_as_wrong_usage(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        result = await popctl("withdraw", "--reason", " ", socket=agent.socket)
        assert agent.store.intents == ()
    assert (result.code, "an order needs a reason" in result.err) == (2, True)


async def test_withdraw_waits_through_a_restart_of_the_agent(tmp_path: Path) -> None:
    """The order is on disk; an agent that comes back carries it out, and the waiting command sees that."""
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop) as agent:
        agent.speaker.proves = False
        process = await start("withdraw", "--reason", "x", socket=agent.socket)
        assert process.stderr is not None
        await _until(process.stderr, b"waiting")
    assert b"no agent answers" in await _until(process.stderr, b"no agent answers")
    async with api_rig.running(pop) as agent:
        await eventually_async(lambda: agent.announced() == {"vpn": Announce.WITHDRAWN})
        result = await ended(process)
    assert result.code == 0
    assert json.loads((tmp_path / "audit.jsonl").read_text())["action"] == "place"


async def _until(stream: asyncio.StreamReader, found: bytes) -> bytes:
    async with asyncio.timeout(10):
        while found not in (line := await stream.readline()):
            assert line
        return line


async def test_order_for_what_is_gone_is_lifted_and_nothing_is_said_to_be_announced(tmp_path: Path) -> None:
    v4 = Service(name="v4", prefixes=(pops.VIP4,), backends=(1,), minimum_healthy=1)
    v6 = Service(name="v6", prefixes=(pops.VIP6,), backends=(2,), minimum_healthy=1)
    pop = api_rig.small_pop(tmp_path, services=(v4, v6))
    async with api_rig.healthy(pop) as agent:
        await popctl("withdraw", "v6", "--reason", "x", socket=agent.socket)
        await popctl("drain", "b2", "--reason", "x", "--force", socket=agent.socket)
    async with api_rig.healthy(replace(pop, backends={1: pop.backends[1]}, services=(v4,))) as agent:
        announced = await popctl("announce", "v6", "--reason", "gone", socket=agent.socket)
        undrained = await popctl("undrain", "b2", "--reason", "gone", socket=agent.socket)
        assert agent.store.intents == ()
    first = [result.out.splitlines()[0] for result in (announced, undrained)]
    assert (announced.code, undrained.code) == (0, 0)
    assert first == ["the order is lifted; there is no service v6 any more", "backend b2 is not drained any more"]
