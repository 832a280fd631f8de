"""Every way to be refused an order: the answer says which, file, memory and routes are as before, and it is audited."""

from __future__ import annotations

import asyncio
import getpass
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from popctl.model.pop import Announce
from popctl.wire.agent_api import Problem, decode
from popctl.wire.audit import verify
from tests.unit.agent import api_rig

WITHDRAW, DRAIN = api_rig.withdraw(), api_rig.drain("b2")


@dataclass(frozen=True, slots=True)
class Tried:
    """A request and the refusal that it meets."""

    code: str
    method: str = "POST"
    path: str = "/v1/intents"
    json: object = None
    data: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    why: str | None = None
    """The reason that can be read all the same."""

    def __str__(self) -> str:
        return f"{self.code}: {self.method} {self.path}"


TRIED = (
    Tried("bad-request", data=b"{"),
    Tried("bad-request", data=b""),
    Tried("bad-request", json=WITHDRAW | {"reason": ""}),
    Tried("bad-request", json=WITHDRAW | {"reason": "  "}),
    Tried("bad-request", json=WITHDRAW | {"drain_s": -1}),
    Tried("bad-request", json=WITHDRAW | {"drain_s": float("nan")}),
    Tried("bad-request", json=WITHDRAW | {"expires_s": 4e7}),
    Tried("bad-request", json=WITHDRAW | {"expires_s": -3600}),
    Tried("bad-request", json=WITHDRAW | {"expires_s": 0}),
    Tried("bad-request", json=WITHDRAW | {"expires_s": 30, "drain_s": 60}),
    Tried("bad-request", json=WITHDRAW | {"refuse_if_held": "yes"}),
    Tried("bad-request", json=DRAIN | {"refuse_if_held": True}),
    Tried("bad-request", json=WITHDRAW | {"refuse_new": 1}),
    Tried("bad-request", json=DRAIN | {"refuse_new": True}),
    Tried("bad-request", json=WITHDRAW | {"refuse_new": True}, why="test"),  # of a PoP without a balancer
    Tried("bad-request", json=WITHDRAW | {"owner": "somebody else"}),
    Tried("bad-request", path="/v1/intents?force=true", json=WITHDRAW),
    Tried("bad-request", "DELETE", "/v1/intents/drain/b1"),
    Tried("bad-request", path="/v1/state/reset?reason=%00"),
    Tried("too-large", data=b"x" * 70_000),
    Tried("unknown-target", json=WITHDRAW | {"target": "vpm"}, why="test"),
    Tried("unknown-target", json=DRAIN | {"target": "*"}, why="test"),
    Tried("unknown-target", "DELETE", "/v1/intents/hold/vpn?reason=x", why="x"),
    Tried("unknown-target", "DELETE", "/v1/intents/drain/b%2F9?reason=x", why="x"),
    Tried("unknown-pop", path="/v1/intents?pop=pop2", json=WITHDRAW, why="test"),
    Tried("unknown-pop", "DELETE", "/v1/intents/drain/b1?pop=pop1&pop=pop2&reason=x", why="x"),
    Tried("interlock", json=DRAIN, why="test"),
    Tried("no-order", path="/v1/intents/withdraw/vpn/extend?reason=x", why="x"),
    Tried("unknown-target", path="/v1/intents/withdraw/vpm/extend?reason=x", why="x"),
    Tried("bad-request", path="/v1/intents/withdraw/vpn/extend?expires_s=60"),
    Tried("bad-request", path="/v1/intents/withdraw/vpn/extend?reason=x&expires_s=0", why="x"),
    Tried("bad-request", path="/v1/intents/withdraw/vpn/extend?reason=x&expires_s=soon", why="x"),
    Tried("bad-request", path="/v1/intents/withdraw/vpn/extend?reason=x&expires_s=60&expires_s=70", why="x"),
    Tried("method-not-allowed", path="/v1/intents/drain/b1?reason=x", why="x"),
    Tried("state-sound", path="/v1/state/reset?reason=x", why="x"),
    Tried("cross-site", json=WITHDRAW, headers={"Origin": "https://example.net"}),
    Tried("not-found", path="/v1/intent", json=WITHDRAW),
    Tried("method-not-allowed", "PUT", json=WITHDRAW),
    Tried("method-not-allowed", "DELETE", "/v1/intents?reason=x", why="x"),
    Tried("expectation-failed", json=WITHDRAW, headers={"Expect": "tea"}),
)


@pytest.mark.parametrize("tried", TRIED, ids=str)
async def test_refused_order_changes_nothing_and_is_audited(tmp_path: Path, tried: Tried) -> None:
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        assert (await client.post("/v1/intents", json=api_rig.drain("b1"))).status == 200
        before = remembered(agent, tmp_path)
        body: dict[str, Any] = {"json": tried.json} if tried.json is not None else {"data": tried.data}
        answer = await client.request(tried.method, tried.path, headers=tried.headers, **body)
        problem = decode(await answer.read(), Problem)
        assert (answer.status, problem.code) == (problem.status, tried.code)
        assert remembered(agent, tmp_path) == before
        assert agent.announced() == {"vpn": Announce.NORMAL}
    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)
    assert verify(lines).problems == ()
    if tried.code == "expectation-failed":
        return  # the library answers before the request is one: it is no order yet
    (_, line) = map(json.loads, lines)
    assert (line["action"], line["owner"], line["code"]) == ("refused", getpass.getuser(), tried.code)
    assert line["request"] == f"{tried.method} {json.dumps(path_of(tried.path))}"
    assert (line["reason"], line["before"], line["orders"]) == (tried.why, ["drain b1"], 1)
    assert line["refusal"]


def path_of(target: str) -> str:
    return target.partition("?")[0].replace("%2F", "/")


def remembered(agent: api_rig.TestedAgent, directory: Path) -> tuple[object, ...]:
    return agent.store.intents, agent.world.view().intents, (directory / "state.json").read_bytes()


async def test_more_requests_than_can_be_answered_at_once_are_refused_and_the_order_is_audited(tmp_path: Path) -> None:
    """Bodies that never end keep a place for two seconds each; whoever comes meanwhile is told."""
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        held = [await asyncio.open_unix_connection(agent.socket) for _ in range(32)]
        for _, writer in held:
            writer.write(b"POST /v1/intents HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        refused = await client.post("/v1/intents", json=WITHDRAW)
        problem = decode(await refused.read(), Problem)
        assert (refused.status, problem.code) == (503, "busy")
        for reader, writer in held:
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            writer.close()
        assert (await client.get("/v1/status")).status == 200
        assert agent.store.intents == ()
    codes = [json.loads(line)["code"] for line in (tmp_path / "audit.jsonl").read_bytes().splitlines()]
    assert sorted(codes) == ["bad-request"] * 32 + ["busy"]


async def test_caller_that_orders_too_often_is_refused_and_audited(tmp_path: Path) -> None:
    standing = api_rig.healthy(api_rig.small_pop(tmp_path), api_clock=lambda: 1000.0)
    async with standing as agent, api_rig.client_of(agent) as client:
        for _ in range(100):
            await client.delete("/v1/intents/withdraw/vpn?reason=again")
        answer = await client.post("/v1/intents", json=WITHDRAW)
        assert (answer.status, agent.store.intents) == (429, ())
    last = json.loads((tmp_path / "audit.jsonl").read_bytes().splitlines()[-1])
    assert (last["action"], last["code"]) == ("refused", "too-many")
