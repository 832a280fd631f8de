"""The API beyond this host: real TLS with certificates made here, roles, and what does not get in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from popctl.wire.agent_api import OrderReply, Problem, WhoAmI, decode
from popctl.wire.audit import verify
from tests.certificates import CLIENT, SERVER, Authority, Issued
from tests.eventually import eventually_async
from tests.unit.agent import api_rig
from tests.unit.agent.remote_rig import NOC, Site, site, with_port


async def problem_of(answer: aiohttp.ClientResponse) -> Problem:
    assert answer.content_type == "application/problem+json"
    return decode(await answer.read(), Problem)


@pytest.mark.parametrize(("name", "uris", "owner"), [("alice", (), "cn:alice"), ("who", (NOC,), f"uri:{NOC}")])
async def test_certificate_with_the_role_operate_orders_under_its_own_name(
    tmp_path: Path, name: str, uris: tuple[str, ...], owner: str
) -> None:
    async with site(tmp_path) as here, here.client(here.person(name, *uris)) as client:
        who = decode(await (await client.get("/v1/whoami")).read(), WhoAmI)
        assert (who.name, who.role, who.pop) == (owner, "operate", "pop1")
        answer = await client.post("/v1/intents", json=api_rig.withdraw(reason="router swap"))
        reply = decode(await answer.read(), OrderReply)
        assert (reply.intents[0].owner, reply.services[0].announce) == (owner, "withdrawn")
        (line,) = here.audited()
        assert (line["owner"], line["reason"], line["action"]) == (owner, "router swap", "place")


async def test_certificate_with_the_role_read_asks_and_is_refused_an_order_with_the_reason(tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.client(here.person("monitoring")) as client:
        for question in ("/v1/status", "/v1/intents", "/metrics", "/healthz", "/openapi.json"):
            assert (await client.get(question)).status == 200
        refused = [
            await client.post("/v1/intents", json=api_rig.withdraw(reason="I would like to")),
            await client.delete("/v1/intents/withdraw/vpn?reason=x"),
            await client.post("/v1/state/reset?reason=x"),
        ]
        for answer in refused:
            problem = await problem_of(answer)
            assert (answer.status, problem.code) == (403, "wrong-role")
            assert problem.detail == "cn:monitoring has the role read, this needs operate"
        assert here.unchanged()
        lines = here.audited()
        assert {(line["owner"], line["action"], line["code"]) for line in lines} == {
            ("cn:monitoring", "refused", "wrong-role")
        }
        assert lines[0]["reason"] == "I would like to", "what was tried, and why, although it was never taken"
        assert lines[0]["asked"]["target"] == "vpn"  # type: ignore[index]  # JSON
        assert [line["reason"] for line in lines[1:]] == ["x", "x"]


async def test_certificate_without_a_role_may_not_even_ask_and_is_told_what_it_is_called(tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.client(here.person("mallory", "spiffe://x/y")) as client:
        answer = await client.get("/v1/status")
        problem = await problem_of(answer)
        assert (answer.status, problem.code) == (403, "no-role")
        assert '"uri:spiffe://x/y", "cn:mallory"' in problem.detail
        await client.post("/v1/intents", json=api_rig.withdraw())
        assert here.unchanged()
        assert [line["code"] for line in here.audited()] == ["no-role", "no-role"]


@pytest.mark.parametrize("common_names", [("root",), (), ("alice\n",), ("ALICE",), ("alice ",)])
async def test_name_that_only_resembles_one_with_a_role_has_none(tmp_path: Path, common_names: tuple[str, ...]) -> None:
    async with site(tmp_path) as here:
        issued = here.authority.issue("odd", CLIENT, common_names=common_names, uris=("cn:alice",))
        async with here.client(issued) as client:
            assert (await client.get("/v1/status")).status == 403
        assert here.unchanged()


def _nobody(_: Site, __: Path) -> Issued | None:
    return None


def _foreign(_: Site, path: Path) -> Issued | None:
    return Authority(path / "elsewhere", "another authority").issue("alice", CLIENT)


def _expired(here: Site, _: Path) -> Issued | None:
    return here.authority.issue("alice", CLIENT, age=timedelta(days=3))


def _of_a_server(here: Site, _: Path) -> Issued | None:
    return here.authority.issue("alice", SERVER)


@pytest.mark.parametrize("made_by", [_nobody, _foreign, _expired, _of_a_server])
async def test_without_a_good_certificate_the_handshake_is_refused(
    tmp_path: Path, made_by: Callable[[Site, Path], Issued | None]
) -> None:
    async with site(tmp_path) as here:
        async with here.client(made_by(here, tmp_path)) as client:
            with pytest.raises(aiohttp.ClientError):
                await client.post("/v1/intents", json=api_rig.withdraw())
        remote = here.agent.api.remote
        assert remote is not None
        await eventually_async(lambda: remote.refused_handshakes >= 1)
        assert here.unchanged()
        line, *_ = await eventually_async(here.audited)
    assert (line["action"], line["owner"], line["reason"]) == ("refused", "address:127.0.0.1", None)
    assert (line["code"], line["request"], line["orders"]) == ("no-certificate", "TLS handshake", 0)
    assert "certificate" in str(line["refusal"])


async def test_all_who_have_no_good_certificate_fill_no_more_of_the_disk_than_one_caller(tmp_path: Path) -> None:
    async with site(tmp_path, lambda: 1000.0) as here:
        remote = here.agent.api.remote
        assert remote is not None
        for _ in range(61):
            async with here.client(None) as client:
                with pytest.raises(aiohttp.ClientError):
                    await client.get("/v1/status")
        await eventually_async(lambda: remote.refused_handshakes >= 61)
        await eventually_async(lambda: len(here.audit_file.read_bytes().splitlines()) >= 60)
    assert len(here.audit_file.read_bytes().splitlines()) == 60


async def test_who_does_not_speak_tls_is_counted_and_not_audited(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        remote = here.agent.api.remote
        assert remote is not None
        assert remote.port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", remote.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()
        await eventually_async(lambda: remote.refused_handshakes == 1)
        assert not here.written()


async def test_neither_plain_http_nor_old_tls_gets_in(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP" not in await reader.read()
        writer.close()
        context = here.tls(here.person("alice"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", here.port, ssl=context)
        async with here.client(here.person("alice")) as client:
            assert (await client.get("/v1/status")).status == 200


async def test_clients_that_never_finish_a_handshake_or_a_header_keep_nobody_out(tmp_path: Path) -> None:
    async with site(tmp_path) as here, AsyncExitStack() as stack:
        alice = here.person("alice")
        for _ in range(40):
            # One host may hold but a few unfinished handshakes; the others are closed at once.
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            stack.callback(writer.close)
        local = await stack.enter_async_context(api_rig.client_of(here.agent))
        assert (await local.get("/v1/status")).status == 200
        await eventually_async(lambda: _can_ask(here, alice), within_s=20)
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", here.port, ssl=here.tls(alice))
            stack.callback(writer.close)
            writer.write(b"GET /v1/status HTTP/1.1\r\nX-Slow: ")
        assert await _can_ask(here, alice)
        assert here.unchanged()


async def _can_ask(here: Site, issued: Issued) -> bool:
    async with here.client(issued) as client:
        try:
            return (await client.get("/v1/status")).status == 200
        except aiohttp.ClientError:
            return False


async def test_remote_callers_are_limited_by_certificate_and_take_nothing_from_the_others(tmp_path: Path) -> None:
    async with site(tmp_path, lambda: 1000.0) as here, AsyncExitStack() as stack:
        monitoring, alice = [
            await stack.enter_async_context(here.client(here.person(name))) for name in ("monitoring", "alice")
        ]
        local = await stack.enter_async_context(api_rig.client_of(here.agent))
        statuses = [(await monitoring.get("/v1/whoami")).status for _ in range(101)]
        assert (statuses[0], statuses[-1]) == (200, 429)
        assert (await alice.get("/v1/status")).status == 200
        assert (await local.get("/v1/status")).status == 200


async def test_remote_body_is_bounded_in_size_and_its_order_is_audited_without_its_text(tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.client(here.person("alice")) as client:
        answer = await client.post("/v1/intents", data=b'{"password": "hunter2' + b"x" * 100_000)
        assert (answer.status, (await problem_of(answer)).code) == (413, "too-large")
        answer = await client.post("/v1/intents", data=b'{"password": "hunter2"')
        assert answer.status == 400
        answer = await client.post("/v1/intents", json=api_rig.withdraw(password="hunter2"))  # noqa: S106 - a decoy
        assert answer.status == 400
        assert here.unchanged()
        assert "hunter2" not in here.audit_file.read_text()
        lines = here.audited()
        assert [line["code"] for line in lines] == ["too-large", "bad-request", "bad-request"]
        assert lines[1]["asked"] == {"bytes": 22}
        assert verify(here.audit_file.read_bytes().splitlines(keepends=True)).problems == ()


async def test_order_from_a_web_page_is_refused(tmp_path: Path) -> None:
    """A browser that holds a client's certificate shows it to whatever page asks."""
    async with site(tmp_path) as here, here.client(here.person("alice")) as client:
        answer = await client.post(
            "/v1/state/reset?reason=x", headers={"Origin": "https://evil.example", "Content-Type": "text/plain"}
        )
        assert (answer.status, (await problem_of(answer)).code) == (403, "cross-site")
        assert here.unchanged()


async def test_port_that_is_taken_keeps_neither_the_socket_nor_the_pop_from_serving(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with taken:
        pop = with_port(api_rig.small_pop(tmp_path), Authority(tmp_path / "pki"))
        assert pop.remote_api is not None
        port = taken.sockets[0].getsockname()[1]
        remote = replace(pop.remote_api, endpoint=replace(pop.remote_api.endpoint, port=port))
        async with api_rig.healthy(replace(pop, remote_api=remote)) as agent, api_rig.client_of(agent) as client:
            await eventually_async(lambda: agent.api.not_opened == 1)
            assert (await client.get("/v1/status")).status == 200
