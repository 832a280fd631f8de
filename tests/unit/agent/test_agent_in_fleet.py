"""Whole agents that share a store: permits through the loop, what the API and the metrics tell, force by an order."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from popctl.agent.stop import Ending, stop
from popctl.model.pop import Announce
from popctl.model.reason import Reason
from popctl.wire.agent_api import OrderReply, Problem, decode
from popctl.wire.fleet_api import FleetStatus
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.agent.api_rig import TestedAgent
from tests.unit.agent.fleet_rig import all_refuse, decided, two

PROOF_S = 0.1
Stopping: TypeAlias = tuple[asyncio.Queue[signal.Signals], asyncio.Task[Ending]]
"""The signals of an agent that is stopping, and how it ends."""


async def test_the_second_of_two_pops_to_lose_its_backends_is_held(tmp_path: Path) -> None:
    async with two(tmp_path) as (ams, fra):
        all_refuse(ams)
        await eventually_async(lambda: not ams.speaker.actual.routes)
        all_refuse(fra)
        await eventually_async(lambda: decided(fra)[2])
        assert decided(fra)[0] is Announce.DEPREFERRED
        assert fra.speaker.actual.routes
        assert b'popctl_service_held{service="vpn"} 1.0' in fra.metrics.text()


async def test_a_withdraw_that_would_be_held_is_refused_where_that_was_asked_for(tmp_path: Path) -> None:
    async with two(tmp_path) as (ams, fra), api_rig.client_of(fra) as client:
        all_refuse(ams)
        await eventually_async(lambda: not ams.speaker.actual.routes)
        order = api_rig.withdraw(refuse_if_held=True)
        preview = await (await client.get("/v1/preview/withdraw/vpn")).json()
        assert preview["services"][0]["held"]
        answer = await client.post("/v1/intents", json=order)
        problem = decode(await answer.read(), Problem)
        assert (answer.status, problem.code) == (409, "held")
        assert preview["services"][0]["verdict"] in problem.detail
        assert (fra.store.intents, fra.announced()) == ((), {"vpn": Announce.NORMAL})
        assert not fra.store.path.exists()
        (line,) = map(json.loads, fra.store.path.with_name("audit.jsonl").read_bytes().splitlines())
        assert (line["action"], line["code"], line["reason"], line["before"]) == ("refused", "held", "test", [])
        assert preview["services"][0]["verdict"] in line["refusal"]
        assert (await client.post("/v1/intents", json=order | {"force": True})).status == 200


async def test_planned_work_that_is_held_and_extended_stays_at_graceful_shutdown(tmp_path: Path) -> None:
    async with two(tmp_path) as (ams, fra), api_rig.client_of(fra) as client:
        all_refuse(ams)
        await eventually_async(lambda: not ams.speaker.actual.routes)
        await client.post("/v1/intents", json=api_rig.withdraw(drain_s=0.1))
        await eventually_async(lambda: decided(fra) == (Announce.GRACEFUL_SHUTDOWN, Reason.FLEET_FLOOR, True))
        drained = fra.speaker.wanted
        answer = await client.post("/v1/intents", json=api_rig.withdraw(expires_s=3600))
        assert decode(await answer.read(), OrderReply).services[0].announce == "graceful-shutdown"
        assert fra.speaker.wanted == drained


async def test_the_fleet_can_be_asked_for_over_the_api(tmp_path: Path) -> None:
    async with two(tmp_path) as (ams, _), api_rig.client_of(ams) as client:
        answer = await client.get("/v1/fleet")
        found = decode(await answer.read(), FleetStatus)
    assert (answer.status, found.fleet, found.pop, found.connected) == (200, "test", "ams", True)
    assert {one.name: one.services[0].announce for one in found.pops} == {"ams": "normal", "fra": "normal"}
    assert {one.config_digest for one in found.pops} == {"sha256:abc"}


async def test_a_pop_without_a_fleet_says_so(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.get("/v1/fleet")
        assert (answer.status, decode(await answer.read(), Problem).code) == (404, "no-fleet")


async def test_force_carries_out_an_order_that_the_floor_refuses_and_is_audited(tmp_path: Path) -> None:
    async with two(tmp_path) as (ams, fra), api_rig.client_of(fra) as client:
        all_refuse(ams)
        await eventually_async(lambda: not ams.speaker.actual.routes)
        await client.post("/v1/intents", json=api_rig.withdraw())
        await eventually_async(lambda: decided(fra) == (Announce.DEPREFERRED, Reason.FLEET_FLOOR, True))
        assert b'popctl_fleet_permit{service="vpn",state="refused"} 1.0' in fra.metrics.text()
        answer = await client.post("/v1/intents", json=api_rig.withdraw(force=True))
        assert decode(await answer.read(), OrderReply).audited
        await eventually_async(lambda: decided(fra) == (Announce.WITHDRAWN, Reason.OPERATOR_WITHDRAW, False))
        assert '"forced":true' in fra.store.path.with_name("audit.jsonl").read_text().splitlines()[-1]


@asynccontextmanager
async def held_stop(tmp_path: Path) -> AsyncIterator[tuple[TestedAgent, TestedAgent, Stopping]]:
    """Of two PoPs one is out; the other one was told to stop, twice before it could know whether it may."""
    async with two(tmp_path) as (ams, fra):
        all_refuse(ams)
        await eventually_async(lambda: not ams.speaker.actual.routes)
        signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        signals.put_nowait(signal.SIGTERM)
        ending = asyncio.create_task(stop(fra.loop, signals, proof_s=PROOF_S))
        await eventually_async(lambda: decided(fra) == (Announce.DEPREFERRED, Reason.FLEET_FLOOR, True))
        yield ams, fra, (signals, ending)


async def test_stop_that_is_held_waits_and_keeps_the_routes_until_it_is_ordered_again(tmp_path: Path) -> None:
    async with held_stop(tmp_path) as (_, fra, (signals, ending)):
        began = time.monotonic()
        signals.put_nowait(signal.SIGHUP)
        await eventually_async(lambda: fra.loop.turned_at > began + 10 * PROOF_S)
        assert not ending.done()
        assert decided(fra)[2]
        assert fra.speaker.actual.routes
        signals.put_nowait(signal.SIGTERM)
        assert await asyncio.wait_for(ending, 10) is Ending.UNPROVEN


async def test_stop_that_is_held_is_carried_out_when_another_pop_serves_again(tmp_path: Path) -> None:
    async with held_stop(tmp_path) as (ams, fra, (_, ending)):
        ams.all_pass()
        assert await asyncio.wait_for(ending, 10) is Ending.STOPPED
        assert not fra.speaker.actual.routes


async def test_stop_whose_withdraw_nobody_proves_ends_unproven(tmp_path: Path) -> None:
    async with two(tmp_path) as (_, fra):
        fra.speaker.proves = False
        ending = await asyncio.wait_for(stop(fra.loop, asyncio.Queue(), proof_s=PROOF_S), 10)
        assert (ending, decided(fra)[0]) == (Ending.UNPROVEN, Announce.WITHDRAWN)
