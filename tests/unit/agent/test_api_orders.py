"""Orders over a real unix socket: what is taken, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import asyncio
import getpass
import io
import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from popctl.model.observation import DrainEnd, Outcome
from popctl.model.pop import Announce, Service
from popctl.model.reason import Reason
from popctl.wire.agent_api import OrderReply, Problem, Status, decode
from popctl.wire.intents_file import decode_state
from tests import pops
from tests.eventually import eventually_async
from tests.unit.agent import api_rig


async def problem_of(answer: aiohttp.ClientResponse) -> Problem:
    assert answer.content_type == "application/problem+json"
    return decode(await answer.read(), Problem)


async def reply_of(answer: aiohttp.ClientResponse) -> OrderReply:
    assert answer.status == 200, await answer.text()
    return decode(await answer.read(), OrderReply)


async def test_withdraw_is_on_disk_decided_and_audited_when_it_is_answered(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.withdraw(reason="router swap")))
        assert (reply.changed, reply.decided, reply.audited) == (True, True, True)
        assert (reply.services[0].announce, reply.services[0].reason) == ("withdrawn", "operator-withdraw")
        (stored,) = decode_state((tmp_path / "state.json").read_bytes())
        assert (stored.target, stored.reason, stored.owner) == ("vpn", "router swap", getpass.getuser())
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    audit = json.loads(line)
    assert (audit["owner"], audit["reason"], audit["action"]) == (getpass.getuser(), "router swap", "place")
    assert audit["before"] == []
    assert audit["after"][0]["target"] == "vpn"
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600


async def test_orders_survive_a_restart_of_the_agent(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw())
        await client.post("/v1/intents", json=api_rig.drain())
    async with api_rig.running(pop) as agent, api_rig.client_of(agent) as client:
        agent.all_pass()
        await eventually_async(lambda: agent.announced() == {"vpn": Announce.WITHDRAWN})
        status = decode(await (await client.get("/v1/status")).read(), Status)
    assert status.services[0].reason == "operator-withdraw"
    assert [(intent.kind, intent.target) for intent in status.intents] == [("drain", "b1"), ("withdraw", "vpn")]


async def test_lifting_a_withdraw_announces_again_and_lifting_twice_changes_nothing(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw())
        reply = await reply_of(await client.delete("/v1/intents/withdraw/vpn?reason=done"))
        assert (reply.changed, reply.intents) == (True, ())
        await agent.until_announced(Announce.NORMAL)
        reply = await reply_of(await client.delete("/v1/intents/withdraw/vpn?reason=done"))
        assert not reply.changed
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["action"] for line in lines] == ["place", "lift", "lift"], "an order that changes nothing, too"
    assert lines[2]["before"] == lines[2]["after"] == []


async def test_withdraw_with_drain_announces_graceful_shutdown_first(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.withdraw(drain_s=60)))
        assert (reply.services[0].announce, reply.services[0].reason) == ("graceful-shutdown", "operator-drain")
        assert 55 < reply.intents[0].drain_left_s <= 60


async def test_second_withdraw_neither_lengthens_a_drain_nor_brings_a_service_back_for_one(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw(drain_s=60))
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.withdraw(drain_s=600)))
        assert reply.intents[0].drain_left_s <= 60
        await client.post("/v1/intents", json=api_rig.withdraw())
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.withdraw(drain_s=600)))
        assert reply.services[0].announce == "withdrawn"


async def test_star_withdraws_and_announces_every_service_in_one_order(tmp_path: Path) -> None:
    services = (
        Service(name="v4", prefixes=(pops.VIP4,), backends=(1,), minimum_healthy=1),
        Service(name="v6", prefixes=(pops.VIP6,), backends=(2,), minimum_healthy=1),
    )
    async with (
        api_rig.healthy(api_rig.small_pop(tmp_path, services=services)) as agent,
        api_rig.client_of(agent) as client,
    ):
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.withdraw(target="*")))
        assert [service.announce for service in reply.services] == ["withdrawn", "withdrawn"]
        reply = await reply_of(await client.delete("/v1/intents/withdraw/*?reason=done"))
        assert reply.intents == ()
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("body", "key", "found"),
    [
        (b"", "(body)", '""'),
        (b"{", "(body)", '"{"'),
        (b"[1]", "(body)", "[1]"),
        (b"\xff\xfe", "(body)", '"\\ufffd\\ufffd"'),
        (b"[" * 50_000, "(body)", '"' + "[" * 79 + "..."),
        (b'{"kind":"drain","kind":"withdraw","target":"vpn","reason":"x"}', '"kind"', "two of it"),
        (b'{"kind":"stop","target":"vpn","reason":"x"}', "kind", '"stop"'),
        (b'{"kind":"withdraw","target":7,"reason":"x"}', "target", "7"),
        (b'{"kind":"withdraw","target":"vpn"}', "reason", "null"),
        (b'{"kind":"withdraw","target":"vpn","reason":"  "}', "reason", '"  "'),
        (b'{"kind":"withdraw","target":"vpn","reason":"a\\nb"}', "reason", '"a\\nb"'),
        (b'{"kind":"withdraw","target":"vpn","reason":"\\ud800"}', "reason", '"\\ud800"'),
        (b'{"kind":"withdraw","target":"vpn","reason":"x","drain_s":-1}', "drain_s", "-1"),
        (b'{"kind":"withdraw","target":"vpn","reason":"x","drain_s":NaN}', "drain_s", "NaN"),
        (b'{"kind":"withdraw","target":"vpn","reason":"x","drain_s":1e400}', "drain_s", "Infinity"),
        (b'{"kind":"withdraw","target":"vpn","reason":"x","drain_s":true}', "drain_s", "true"),
        (b'{"kind":"withdraw","target":"vpn","reason":"x","force":1}', "force", "1"),
        (b'{"kind":"drain","target":"b1","reason":"x","then":"cut"}', "then", '"cut"'),
        (b'{"kind":"drain","target":"b1","reason":"x","drain_s":5,"then":"stop"}', "then", '"stop"'),
        (b'{"kind":"withdraw","target":"vpn","reason":"x","drain_s":5,"then":"cut"}', "then", '"cut"'),
        (b'{"kind":"withdraw","target":"vpn","reason":"x","owner":"root"}', '"owner"', "an unknown key"),
    ],
)
async def test_malformed_order_is_refused_with_key_found_value_and_remedy(
    tmp_path: Path, body: bytes, key: str, found: str
) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.post("/v1/intents", data=body)
        problem = await problem_of(answer)
        assert (answer.status, problem.code) == (400, "bad-request")
        assert (problem.problems[0].key, problem.problems[0].found) == (key, found)
        assert problem.problems[0].remedy
        assert agent.announced() == {"vpn": Announce.NORMAL}
    assert not (tmp_path / "state.json").exists()


async def test_all_problems_of_an_order_are_told_at_once(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.post("/v1/intents", json={"kind": "x", "target": "", "drain_s": "1", "extra": 1})
        problem = await problem_of(answer)
    assert [one.key for one in problem.problems] == ['"extra"', "kind", "target", "reason", "drain_s"]


@pytest.mark.parametrize("size", [65 * 1024, 2 * 1024 * 1024])
async def test_huge_order_is_refused_unread_and_the_next_request_is_served(tmp_path: Path, size: int) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.post("/v1/intents", data=io.BytesIO(b'{"kind": "' + b"x" * size))
        assert (answer.status, (await problem_of(answer)).code) == (413, "too-large")
        assert (await client.get("/v1/intents")).status == 200


async def test_compressed_body_is_not_unfolded(tmp_path: Path) -> None:
    """A few kilobytes can unfold to gigabytes."""
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.post("/v1/intents", data=json.dumps(api_rig.withdraw()).encode(), compress="deflate")
        assert (answer.status, (await problem_of(answer)).code) == (400, "bad-request")


async def test_huge_header_is_refused(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        reader, writer = await asyncio.open_unix_connection(agent.socket)
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()


async def test_body_that_never_ends_is_given_up_and_blocks_nobody(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        reader, writer = await asyncio.open_unix_connection(agent.socket)
        writer.write(b"POST /v1/intents HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        assert (await client.get("/v1/intents")).status == 200
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()


@pytest.mark.parametrize(
    ("order", "known"),
    [
        (api_rig.withdraw(target="vpm"), ("vpn",)),
        (api_rig.drain("b9"), ("b1", "b2")),
        (api_rig.drain("*"), ("b1", "b2")),
    ],
)
async def test_unknown_target_is_not_found_and_the_known_ones_are_named(
    tmp_path: Path, order: dict[str, object], known: tuple[str, ...]
) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.post("/v1/intents", json=order)
        problem = await problem_of(answer)
        assert (answer.status, problem.known) == (404, known)
        answer = await client.delete(f"/v1/intents/{order['kind']}/{order['target']}?reason=x")
        assert (answer.status, (await problem_of(answer)).known) == (404, known)


@pytest.mark.parametrize("query", ["", "?reason=", "?reason=a&reason=b", "?reason=%0a"])
async def test_lifting_an_order_needs_one_reason(tmp_path: Path, query: str) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw())
        answer = await client.delete(f"/v1/intents/withdraw/vpn{query}")
        assert (answer.status, (await problem_of(answer)).problems[0].key) == (400, "?reason")
        assert agent.announced() == {"vpn": Announce.WITHDRAWN}


async def test_parameter_that_nobody_knows_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """`?reson=x` must not become an order without a reason, nor `?pops=x` one for any PoP."""
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.delete("/v1/intents/withdraw/vpn?reson=x")
        (problem,) = (await problem_of(answer)).problems
        assert (answer.status, problem.key, problem.remedy) == (400, '?"reson"', "use pop, reason")


async def test_request_for_another_pop_is_refused(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.post("/v1/intents?pop=pop2", json=api_rig.withdraw())
        problem = await problem_of(answer)
        assert (answer.status, problem.code, problem.known) == (404, "unknown-pop", ("pop1",))
        assert agent.announced() == {"vpn": Announce.NORMAL}
        assert (await client.post("/v1/intents?pop=pop1", json=api_rig.withdraw())).status == 200


async def test_drain_that_leaves_too_few_backends_is_refused_with_the_numbers(tmp_path: Path) -> None:
    async with (
        api_rig.healthy(api_rig.small_pop(tmp_path, minimum_healthy=2)) as agent,
        api_rig.client_of(agent) as client,
    ):
        answer = await client.post("/v1/intents", json=api_rig.drain())
        problem = await problem_of(answer)
        assert (answer.status, problem.code) == (409, "interlock")
        assert "leaves service vpn with 1 healthy backends, it needs 2" in problem.detail
        assert agent.announced() == {"vpn": Announce.NORMAL}
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.drain(force=True)))
        assert reply.services[0].announce == "withdrawn"
    refused, forced = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert (refused["action"], refused["code"], refused["asked"]["target"]) == ("refused", "interlock", "b1")
    assert (forced["action"], forced["forced"]) == ("place", True)


async def test_two_drains_at_once_cannot_both_take_the_last_spare_backend(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        orders = (api_rig.drain("b1"), api_rig.drain("b2"))
        answers = await asyncio.gather(*(client.post("/v1/intents", json=order) for order in orders))
        assert sorted(answer.status for answer in answers) == [200, 409]
        assert agent.announced() == {"vpn": Announce.NORMAL}


async def test_backend_that_is_down_already_may_be_drained(tmp_path: Path) -> None:
    async with (
        api_rig.healthy(api_rig.small_pop(tmp_path, minimum_healthy=2)) as agent,
        api_rig.client_of(agent) as client,
    ):
        agent.observe(1, Outcome.FAIL, Reason.REFUSED)
        await agent.until_announced(Announce.WITHDRAWN)
        assert (await client.post("/v1/intents", json=api_rig.drain("b1"))).status == 200
        assert (await client.post("/v1/intents", json=api_rig.drain("b2"))).status == 409


async def test_backends_of_a_withdrawn_service_may_be_drained(tmp_path: Path) -> None:
    async with (
        api_rig.healthy(api_rig.small_pop(tmp_path, minimum_healthy=2)) as agent,
        api_rig.client_of(agent) as client,
    ):
        await client.post("/v1/intents", json=api_rig.withdraw())
        assert (await client.post("/v1/intents", json=api_rig.drain())).status == 200


async def test_concurrent_opposite_orders_leave_disk_world_and_audit_in_agreement(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:

        async def place() -> int:
            return (await client.post("/v1/intents", json=api_rig.withdraw())).status

        async def lift() -> int:
            return (await client.delete("/v1/intents/withdraw/vpn?reason=x")).status

        statuses = await asyncio.gather(*(order() for _ in range(10) for order in (place, lift)))
        assert set(statuses) == {200}
        stored = decode_state((tmp_path / "state.json").read_bytes())
        assert [intent.target for intent in stored] == [intent.target for intent in agent.world.view().intents]
        await agent.until_announced(Announce.WITHDRAWN if stored else Announce.NORMAL)
        last = json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[-1])
        assert len(last["after"]) == len(stored)


async def test_order_is_kept_and_called_undecided_while_the_loop_hangs(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.running(pop, turning=False) as agent, api_rig.client_of(agent) as client:
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.withdraw()))
        assert not reply.decided
    assert len(decode_state((tmp_path / "state.json").read_bytes())) == 1


async def test_one_user_cannot_ask_without_end(tmp_path: Path) -> None:
    now_s = [1000.0]
    standing = api_rig.running(api_rig.small_pop(tmp_path), api_clock=lambda: now_s[0])
    async with standing as agent, api_rig.client_of(agent) as client:
        statuses = [(await client.get("/v1/intents")).status for _ in range(150)]
        assert (statuses[0], statuses[-1]) == (200, 429)
        now_s[0] += 1.0
        assert (await client.get("/v1/intents")).status == 200


async def test_one_user_who_asks_without_end_can_still_order(tmp_path: Path) -> None:
    """The API's clock stands still, so that the bucket of questions empties on a slow machine too."""
    standing = api_rig.healthy(api_rig.small_pop(tmp_path), api_clock=lambda: 1000.0)
    async with standing as agent, api_rig.client_of(agent) as client:
        statuses = [(await client.get("/v1/intents")).status for _ in range(150)]
        assert statuses[-1] == 429
        await reply_of(await client.post("/v1/intents", json=api_rig.withdraw()))


async def test_connections_that_say_nothing_are_bounded(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        streams = [await asyncio.open_unix_connection(agent.socket) for _ in range(80)]
        closed = [asyncio.ensure_future(reader.read()) for reader, _ in streams]
        await eventually_async(lambda: sum(one.done() for one in closed) == 80 - 64)
        for _, writer in streams:
            writer.close()
        await asyncio.gather(*closed)


async def test_corrupt_state_file_keeps_the_service_out_and_refuses_orders_until_reset(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b'{"format": 1')
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        agent.all_pass()
        await eventually_async(lambda: agent.world.view().state_corrupt and agent.announced())
        assert agent.loop.decision is not None
        assert agent.loop.decision.desired.services[0].reason is Reason.STATE_FILE_CORRUPT
        answer = await client.post("/v1/intents", json=api_rig.withdraw())
        problem = await problem_of(answer)
        assert (answer.status, problem.code) == (409, "state-corrupt")
        assert "popctl state reset" in problem.detail
        assert (await client.delete("/v1/intents/withdraw/vpn?reason=x")).status == 409
        assert (tmp_path / "state.json").read_bytes() == b'{"format": 1'
        before_s = time.time()
        reply = await reply_of(await client.post("/v1/state/reset?reason=looked+at+it"))
        assert reply.decided
        await agent.until_announced(Announce.NORMAL)
        assert (await client.post("/v1/intents", json=api_rig.withdraw())).status == 200
    kept = kept_copy(tmp_path)
    assert kept.read_bytes() == b'{"format": 1'
    assert int(kept.name.removeprefix("state.json.corrupt-")) >= int(before_s)


async def test_sound_state_file_is_not_reset(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await client.post("/v1/intents", json=api_rig.withdraw())
        answer = await client.post("/v1/state/reset?reason=x")
        assert (answer.status, (await problem_of(answer)).code) == (409, "state-sound")
    assert len(decode_state((tmp_path / "state.json").read_bytes())) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_order_is_refused_and_nothing_changes_while_the_disk_is_full(tmp_path: Path, small_disk: Path) -> None:
    pop = api_rig.small_pop(tmp_path)
    pop = api_rig.with_state_file(pop, small_disk / "state.json")
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        assert (await client.post("/v1/intents", json=api_rig.drain("b2"))).status == 200
        before = (small_disk / "state.json").read_bytes()
        fill(small_disk / "ballast")
        answer = await client.post("/v1/intents", json=api_rig.withdraw())
        problem = await problem_of(answer)
        assert (answer.status, problem.code) == (503, "not-written")
        assert "No space left" in problem.detail
        assert agent.announced() == {"vpn": Announce.NORMAL}
        assert (small_disk / "state.json").read_bytes() == before
        assert not (small_disk / "state.json.new").exists()
        (small_disk / "ballast").unlink()
        assert (await client.post("/v1/intents", json=api_rig.withdraw())).status == 200
        await agent.until_announced(Announce.WITHDRAWN)


async def test_order_is_refused_and_nothing_changes_on_a_read_only_disk(tmp_path: Path, small_disk: Path) -> None:
    pop = api_rig.with_state_file(api_rig.small_pop(tmp_path), small_disk / "state.json")
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        remount = await asyncio.create_subprocess_exec("mount", "-o", "remount,ro", str(small_disk))
        assert await remount.wait() == 0
        answer = await client.post("/v1/intents", json=api_rig.withdraw())
        assert (answer.status, (await problem_of(answer)).code) == (503, "not-written")
        assert agent.announced() == {"vpn": Announce.NORMAL}


async def test_order_stands_although_the_audit_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.withdraw()))
        assert (reply.decided, reply.audited) == (True, False)
        assert agent.announced() == {"vpn": Announce.WITHDRAWN}


def kept_copy(directory: Path) -> Path:
    (kept,) = directory.glob("state.json.corrupt-*")
    return kept


def fill(path: Path) -> None:
    """Write until there is no space left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(descriptor, b"x" * 4096):
            pass
    except OSError:
        pass
    finally:
        os.close(descriptor)


async def test_drain_keeps_its_deadline_and_its_end_on_disk_and_a_later_order_moves_it(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await reply_of(await client.post("/v1/intents", json=api_rig.drain(drain_s=60, then="cut")))
        (stored,) = decode_state((tmp_path / "state.json").read_bytes())
        assert (stored.drain_s, stored.then) == (60.0, DrainEnd.CUT)
        reply = await reply_of(await client.post("/v1/intents", json=api_rig.drain(drain_s=3600)))
        assert (reply.changed, reply.intents[0].then) == (False, "wait")
        assert 3500 < reply.intents[0].drain_left_s <= 3600
        status = decode(await (await client.get("/v1/status")).read(), Status)
    (drain,) = [backend.drain for backend in status.backends if backend.drain]
    assert (drain.then, drain.sas_left, drain.problem) == ("wait", None, "")
    assert drain.deadline_left_s is not None
    assert 3500 < drain.deadline_left_s <= 3600


async def test_drain_without_a_deadline_has_none(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await reply_of(await client.post("/v1/intents", json=api_rig.drain()))
        status = decode(await (await client.get("/v1/status")).read(), Status)
    assert [backend.drain and backend.drain.deadline_left_s for backend in status.backends] == [None, None]
    assert [backend.drain is not None for backend in status.backends] == [True, False]


async def test_drain_that_leaves_too_little_weight_is_refused_with_both_figures_and_force_overrides_it(
    tmp_path: Path,
) -> None:
    pop = api_rig.small_pop(tmp_path)
    pop = replace(pop, services=(replace(pop.services[0], drain_keeps=0.75),))
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        problem = await problem_of(await client.post("/v1/intents", json=api_rig.drain()))
        assert problem.code == "interlock"
        assert "with a weight of 100 of 200, it needs 150 (drain_keeps)" in problem.detail
        await reply_of(await client.post("/v1/intents", json=api_rig.drain(force=True)))
        assert agent.announced() == {"vpn": Announce.NORMAL}, "only health keeps a service in"


async def test_two_backends_drain_at_a_time_where_a_third_can_take_it(tmp_path: Path) -> None:
    probes = api_rig.small_pop(tmp_path).backends[1].probes
    pop = api_rig.small_pop(tmp_path, backends=tuple(pops.backend(number, *probes) for number in (1, 2, 3)))
    async with api_rig.healthy(pop) as agent, api_rig.client_of(agent) as client:
        for name in ("b1", "b2"):
            await reply_of(await client.post("/v1/intents", json=api_rig.drain(name)))
        refused = await client.post("/v1/intents", json=api_rig.drain("b3"))
        assert refused.status == 409
        assert agent.announced() == {"vpn": Announce.NORMAL}


V4 = Service(name="v4", prefixes=(pops.VIP4,), backends=(1, 2), minimum_healthy=1)
V6 = Service(name="v6", prefixes=(pops.VIP6,), backends=(2,), minimum_healthy=1)


async def test_order_for_what_the_configuration_has_no_more_is_listed_and_can_be_lifted(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path, services=(V4, V6))
    async with api_rig.running(pop) as agent, api_rig.client_of(agent) as client:
        for order in (api_rig.drain("b1"), api_rig.drain("b2"), api_rig.withdraw(target="v6")):
            await reply_of(await client.post("/v1/intents", json=order | {"force": True}))
    smaller = replace(pop, backends={1: pop.backends[1]}, services=(replace(V4, backends=(1,)),))
    async with api_rig.running(smaller) as agent, api_rig.client_of(agent) as client:
        for path, left in (("drain/b2", {"b1", "v6"}), ("withdraw/v6", {"b1"})):
            reply = await reply_of(await client.delete(f"/v1/intents/{path}?reason=gone"))
            assert (reply.changed, {one.target for one in reply.intents}) == (True, left)
            again = await client.delete(f"/v1/intents/{path}?reason=gone")
            assert (again.status, (await problem_of(again)).code) == (404, "unknown-target")
        every_backend = await client.delete("/v1/intents/drain/*?reason=gone")
        assert (every_backend.status, len(agent.store.intents)) == (404, 1), "only services have a name for all"


async def test_lifting_all_withdraws_lifts_those_of_services_that_are_gone(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path, services=(V4, V6))
    async with api_rig.running(pop) as agent, api_rig.client_of(agent) as client:
        for order in (api_rig.withdraw(target="*"), api_rig.drain("b1")):
            await reply_of(await client.post("/v1/intents", json=order | {"force": True}))
    async with api_rig.running(replace(pop, services=(V4,))) as agent, api_rig.client_of(agent) as client:
        reply = await reply_of(await client.delete("/v1/intents/withdraw/*?reason=done"))
        assert [one.target for one in reply.intents] == ["b1"]
