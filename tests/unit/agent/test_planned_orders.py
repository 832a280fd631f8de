"""Withdraws with an end, over a real unix socket and across restarts; what the preview says; the chained audit file."""

from __future__ import annotations

import asyncio
import getpass
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from popctl.agent.intents import IntentStore
from popctl.model.observation import Intent, IntentKind
from popctl.model.pop import Announce
from popctl.wire.agent_api import Intents, OrderReply, Problem, decode
from popctl.wire.audit import verify
from popctl.wire.intents_file import decode_state
from popctl.wire.preview_api import WithdrawPreview
from tests.eventually import eventually_async
from tests.unit.agent import api_rig

EXTEND = "/v1/intents/withdraw/vpn/extend"
ORDER = Intent(kind=IntentKind.WITHDRAW, target="vpn", reason="swap", owner="amy", created_unix_s=0.0)


async def test_an_order_that_expires_brings_the_service_back_and_leaves_the_books(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        desk = agent.api.desk
        answer = await client.post("/v1/intents", json=api_rig.withdraw(expires_s=0.5))
        assert decode(await answer.read(), OrderReply).services[0].announce == "withdrawn"
        (stored,) = decode_state((tmp_path / "state.json").read_bytes())
        assert stored.expires_unix_s is not None
        await agent.until_announced(Announce.NORMAL)
        await desk.forget_expired()
        assert decode_state((tmp_path / "state.json").read_bytes()) == ()
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["action"] for line in lines] == ["place", "expire"]
    assert verify(lines).problems == ()


async def test_the_end_of_an_order_is_known_after_a_restart(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw(expires_s=3600, drain_s=60))
    async with api_rig.running(pop) as agent, api_rig.client_of(agent) as client:
        await eventually_async(lambda: agent.world.view().intents)
        (order,) = decode(await (await client.get("/v1/intents")).read(), Intents).intents
        assert order.expires_in_s is not None
        assert 3590 < order.expires_in_s <= 3600


async def test_an_extension_moves_only_the_end(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw(drain_s=60, expires_s=3600))
        (before,) = agent.store.intents
        await client.post("/v1/intents", json=api_rig.withdraw(drain_s=60, expires_s=7200))
        (after,) = agent.store.intents
    assert after.expires > before.expires + 3500
    assert before.expires_unix_s is not None
    assert after.expires_unix_s is not None
    assert after.expires_unix_s > before.expires_unix_s + 3500
    assert after == replace(before, expires=after.expires, expires_unix_s=after.expires_unix_s)


async def test_another_end_is_all_that_an_extension_changes_whoever_asks_and_why(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path)
    IntentStore(pop.paths.state_file).save((replace(ORDER, created_unix_s=time.time(), drain_s=900.0, forced=True),))
    async with api_rig.running(pop) as agent, api_rig.client_of(agent) as client:
        (before,) = agent.store.intents
        answer = await client.post(f"{EXTEND}?reason=late%20parts&expires_s=7200")
        reply = decode(await answer.read(), OrderReply)
        (after,) = agent.store.intents
        assert after.expires_unix_s == pytest.approx(time.time() + 7200, abs=60)
        assert after == replace(before, expires=after.expires, expires_unix_s=after.expires_unix_s)
        assert (reply.intents[0].owner, reply.intents[0].reason, reply.intents[0].forced) == ("amy", "swap", True)
        early = await client.post(f"{EXTEND}?reason=hurry&expires_s=600")
        (problem,) = decode(await early.read(), Problem).problems
        assert (problem.key, problem.found) == ("?expires_s", "600.0")
        assert "before the drain is over" in problem.problem
        assert agent.store.intents == (after,)
        assert (await client.post(f"{EXTEND}?reason=no%20end")).status == 200
        assert agent.store.intents == (before,)
    line = json.loads((tmp_path / "audit.jsonl").read_bytes().splitlines()[0])
    assert (line["action"], line["targets"], line["reason"]) == ("extend", ["vpn"], "late parts")
    assert line["owner"] == getpass.getuser()
    assert line["after"][0]["expires_unix_s"] == after.expires_unix_s


async def test_an_order_that_was_cancelled_is_not_revived_by_an_extension(tmp_path: Path) -> None:
    later_s = 0.0

    def clock() -> float:
        return time.monotonic() + later_s

    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop, api_clock=clock) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw(expires_s=3600))
        # Both at once: whichever is first, nothing stands afterwards.
        cancel, _ = await asyncio.gather(
            client.delete("/v1/intents/withdraw/vpn?reason=done"), client.post(f"{EXTEND}?reason=late&expires_s=7200")
        )
        assert (cancel.status, agent.store.intents) == (200, ())
        late = await client.post(f"{EXTEND}?reason=late&expires_s=7200")
        assert (late.status, decode(await late.read(), Problem).code) == (404, "no-order")
        await client.post("/v1/intents", json=api_rig.withdraw(expires_s=60))
        later_s = 61.0
        expired = await client.post(f"{EXTEND}?reason=late&expires_s=7200")
        assert (expired.status, decode(await expired.read(), Problem).code) == (404, "no-order")


async def test_an_extension_of_all_moves_the_end_of_every_order_that_stands(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw(expires_s=60))
        answer = await client.post("/v1/intents/withdraw/*/extend?reason=late&expires_s=7200")
        (order,) = decode(await answer.read(), OrderReply).intents
        assert order.expires_in_s == pytest.approx(7200, abs=60)
        assert len(agent.store.intents) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_extension_after_the_drain_does_not_forget_that_there_was_one(
    tmp_path: Path, *, restarted: bool
) -> None:
    pop, later_s = api_rig.small_pop(tmp_path), 0.0
    if restarted:
        began = time.time() - 100.0
        IntentStore(pop.paths.state_file).save((replace(ORDER, created_unix_s=began, drain_s=60.0),))

    def clock() -> float:
        return time.monotonic() + later_s

    async with api_rig.running(pop, api_clock=clock) as agent, api_rig.client_of(agent) as client:
        if not restarted:
            await client.post("/v1/intents", json=api_rig.withdraw(drain_s=60))
        (before,) = agent.store.intents
        later_s = 100.0
        await client.post("/v1/intents", json=api_rig.withdraw(expires_s=7200))
        (after,) = agent.store.intents
    assert (after.drain_s, after.drain_until, after.created_unix_s) == (60.0, before.drain_until, before.created_unix_s)


async def test_a_second_order_in_a_hurry_cuts_the_drain_short_and_keeps_its_beginning(tmp_path: Path) -> None:
    later_s = 0.0

    def clock() -> float:
        return time.monotonic() + later_s

    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop, api_clock=clock) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw(drain_s=60))
        (before,) = agent.store.intents
        later_s = 20.0
        await client.post("/v1/intents", json=api_rig.withdraw())
        (after,) = agent.store.intents
    assert 20.0 <= after.drain_s < 25.0
    assert after.drain_until - after.drain_s == pytest.approx(before.drain_until - before.drain_s)
    assert after.created_unix_s == before.created_unix_s


async def test_an_order_after_one_that_has_expired_has_a_drain_of_its_own(tmp_path: Path) -> None:
    later_s = 0.0

    def clock() -> float:
        return time.monotonic() + later_s

    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop, api_clock=clock) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw(expires_s=30))
        later_s = 31.0
        await client.post("/v1/intents", json=api_rig.withdraw(drain_s=60))
        (after,) = agent.store.intents
    assert after.drain_s == 60.0
    assert after.drain_until > time.monotonic() + 31.0


def test_an_order_that_expired_while_the_agent_was_away_means_nothing_when_it_is_back(tmp_path: Path) -> None:
    store = IntentStore(tmp_path / "state.json")
    order = Intent(
        kind=IntentKind.WITHDRAW, target="vpn", reason="r", owner="amy", created_unix_s=1000.0, expires_unix_s=2000.0
    )
    store.save((order,))
    (found,) = IntentStore(store.path).load(unix_s=5000.0, now=7.0)
    assert found == replace(order, expires=7.0)


async def test_an_expiry_before_the_end_of_the_drain_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.post("/v1/intents", json=api_rig.withdraw(drain_s=60, expires_s=30))
        problem = decode(await answer.read(), Problem)
        assert (answer.status, problem.problems[0].key) == (400, "expires_s")
        assert not agent.store.intents


async def test_a_drain_of_a_backend_takes_no_expiry(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.post("/v1/intents", json=api_rig.drain(expires_s=30))
        assert answer.status == 400


async def test_the_preview_says_what_would_follow_and_changes_nothing(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        found = decode(await (await client.get("/v1/preview/withdraw/vpn")).read(), WithdrawPreview)
        assert agent.announced() == {"vpn": Announce.NORMAL}
        everything = decode(await (await client.get("/v1/preview/withdraw/*")).read(), WithdrawPreview)
        missing = await client.get("/v1/preview/withdraw/nothing")
    (one,) = found.services
    assert (one.announce, one.healthy, one.sessions, one.pops_left) == ("normal", 2, None, None)
    assert (one.verdict, one.held) == ("single-pop", False)
    assert everything == found
    assert missing.status == 404
