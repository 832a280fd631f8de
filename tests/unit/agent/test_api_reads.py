"""What the API tells, over a real unix socket."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from aiohttp import web

from popctl.listen.errors import ListenError
from popctl.listen.serve import serving
from popctl.model.desired import Actual
from popctl.model.listen import UnixEndpoint
from popctl.model.observation import Outcome
from popctl.model.reason import Reason
from popctl.wire.agent_api import Check, Problem, RouteState, Status, Why, decode
from tests.eventually import eventually_async
from tests.unit.agent import api_rig


async def test_status_tells_announced_services_with_proven_routes(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.get("/v1/status")
        status = decode(await answer.read(), Status)
    assert answer.status == 200
    assert (status.connected, status.inherited, status.state_corrupt) == (True, True, False)
    (service,) = status.services
    assert (service.announce, service.reason, service.healthy, service.needed) == ("normal", "healthy", 2, 1)
    assert [(route.wanted, route.carried, route.state) for route in service.routes] == [(True, True, "proven")] * 2
    assert [backend.verdict for backend in status.backends] == ["up", "up"]
    assert status.backends[0].probes[0].last_rtt_s == 0.0015
    assert status.pop.name == "pop1"
    assert status.version == "1.2.3"


async def test_status_shows_a_withdraw_as_pending_until_the_speaker_proves_it(tmp_path: Path) -> None:
    """`Applied` is said of nothing that did not reach the peer."""
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        agent.speaker.proves = False
        await client.post("/v1/intents", json=api_rig.withdraw())
        status = decode(await (await client.get("/v1/status")).read(), Status)
        assert {route.state for route in status.services[0].routes} == {RouteState.PENDING}
        agent.speaker.prove()
        await agent.until_proven()
        status = decode(await (await client.get("/v1/status")).read(), Status)
        assert {(route.carried, route.state) for route in status.services[0].routes} == {(False, RouteState.PROVEN)}


async def test_why_leads_from_the_prefix_to_the_last_answer_of_the_deciding_probe(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        agent.observe(1, Outcome.FAIL, Reason.REFUSED, detail="port unreachable")
        await eventually_async(lambda: agent.loop.decision and agent.loop.decision.desired.services[0].healthy == 1)
        why = decode(await (await client.get("/v1/why/198.51.100.0/24")).read(), Why)
    assert (why.prefix, why.service.name, why.memory.phase) == ("198.51.100.0/24", "vpn", "in")
    assert [route.prefix for route in why.service.routes] == ["198.51.100.0/24"]
    down = why.backends[0]
    assert (down.verdict, down.reason, down.probe) == ("down", "refused", "ike")
    assert (down.probes[0].last_reason, down.probes[0].last_detail) == ("refused", "port unreachable")


@pytest.mark.parametrize("asked", ["198.51.100.7", "2001:db8:100::1", "2001:db8:100::%2F48"])
async def test_why_finds_the_service_of_an_address_and_of_an_ipv6_prefix(tmp_path: Path, asked: str) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.get(f"/v1/why/{asked}")
        assert decode(await answer.read(), Why).service.name == "vpn"


async def test_why_of_a_foreign_prefix_is_not_found_and_names_the_known_ones(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.get("/v1/why/203.0.113.0/24")
        problem = decode(await answer.read(), Problem)
    assert (answer.status, problem.code) == (404, "unknown-target")
    assert problem.known == ("198.51.100.0/24", "2001:db8:100::/48")


@pytest.mark.parametrize("asked", ["nonsense", "198.51.100.1/24", "300.1.1.1"])
async def test_why_of_something_that_is_no_prefix_says_what_to_write(tmp_path: Path, asked: str) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.get(f"/v1/why/{asked}")
        problem = decode(await answer.read(), Problem)
    assert answer.status == 400
    assert problem.problems[0].key == "{prefix}"
    assert "write a prefix" in problem.problems[0].remedy


async def test_healthz_is_good_while_the_loop_turns_and_exabgp_is_connected(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        await eventually_async(lambda: agent.world.view().actual.connected)
        answer = await client.get("/healthz")
        assert answer.status == 200
        assert decode(await answer.read(), Check).healthy


async def test_healthz_says_that_exabgp_is_not_connected(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        agent.speaker.report(Actual(problem="the relay refuses"))
        await eventually_async(lambda: not agent.world.view().actual.connected)
        answer = await client.get("/healthz")
        check = decode(await answer.read(), Check)
        status = decode(await (await client.get("/v1/status")).read(), Status)
        why = decode(await (await client.get("/v1/why/198.51.100.0/24")).read(), Why)
    assert (answer.status, check.turning, check.connected) == (503, True, False)
    assert [told.exabgp_problem for told in (check, status, why)] == ["the relay refuses"] * 3


async def test_healthz_says_that_the_loop_stands_still(tmp_path: Path) -> None:
    pop = api_rig.small_pop(tmp_path)
    async with api_rig.running(pop, turning=False) as agent, api_rig.client_of(agent) as client:
        agent.loop.turned_at -= 3.0
        answer = await client.get("/healthz")
        check = decode(await answer.read(), Check)
    assert (answer.status, check.turning) == (503, False)


async def test_metrics_are_served_in_the_text_format(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.get("/metrics")
        text = await answer.text()
    assert answer.content_type == "text/plain"
    assert 'popctl_service_announce{announce="normal",service="vpn"} 1.0' in text


async def test_wrong_method_names_the_right_ones_and_unknown_path_is_not_found(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.put("/v1/intents")
        assert (answer.status, answer.content_type) == (405, "application/problem+json")
        assert set(answer.headers["Allow"].split(",")) >= {"GET", "POST"}
        answer = await client.get("/v2/status")
        assert (answer.status, decode(await answer.read(), Problem).code) == (404, "not-found")


async def test_socket_is_for_owner_and_group_and_gone_afterwards(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent:
        assert stat.S_IMODE(agent.socket.stat().st_mode) == 0o660
    assert not agent.socket.exists()


async def test_socket_file_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    server = await asyncio.start_unix_server(lambda *_: None, path)
    server.close()
    await server.wait_closed()
    assert path.is_socket()
    async with serving(web.Application(), UnixEndpoint(path=path)):
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        await writer.wait_closed()


async def test_second_agent_is_refused_while_the_first_one_listens(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        with pytest.raises(ListenError, match="somebody listens"):
            async with serving(web.Application(), UnixEndpoint(path=agent.socket)):
                pass
        assert (await client.get("/v1/intents")).status == 200


@pytest.mark.parametrize("name", ["file", "missing/api.sock", "x" * 120])
async def test_socket_path_that_cannot_be_used_is_an_error_with_the_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a socket")
    with pytest.raises(ListenError) as caught:
        async with serving(web.Application(), UnixEndpoint(path=tmp_path / name)):
            pass
    assert caught.value.endpoint == UnixEndpoint(path=tmp_path / name)
    assert (tmp_path / "file").read_text() == "not a socket"
