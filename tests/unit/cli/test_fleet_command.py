"""`popctl fleet` as operators run it, against an agent's API that tells a fleet made up here."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from popctl.model.fleet import FleetView, FloorPolicy, Permit, PermitState, Stance
from popctl.model.load import PopLoad, Resource
from popctl.model.reason import Reason
from popctl.wire.agent_api import Problem, decode, encode
from popctl.wire.fleet_api import FleetStatus, fleet_status
from tests.fleet_agents import SERVICE, bad, member
from tests.unit.cli.command_line import Ended, ended, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW = 1000.0
POLICY = FloorPolicy(minimum_announcing=2)
LOAD = PopLoad(
    level=0,
    announcing=True,
    used={Resource.SESSIONS: 620.0},
    peak={},
    capacity={Resource.SESSIONS: 1000.0, Resource.CPU: 4.0},
    at=NOW,
)


def view(*, connected: bool = True, age_s: float = 1.0) -> FleetView:
    loaded = member("fra")
    report = replace(loaded.record.report, load=LOAD)
    return FleetView(
        members={
            "fra": replace(loaded, record=replace(loaded.record, report=report), heard_at=NOW - 2),
            "ams": replace(member("ams", service=bad(NOW - 75), asking=True), heard_at=NOW - 3),
            "nyc": replace(member("nyc", stance=Stance.PERMIT, region="us"), heard_at=NOW - 4),
        },
        permits={SERVICE: Permit(service=SERVICE, state=PermitState.REFUSED, since=NOW - 5, reason=Reason.FLEET_FLOOR)},
        connected=connected,
        current_at=NOW - age_s,
        lost={"syd": NOW - 90},
        problem="" if connected else "http://etcd: no answer within 2 s",
    )


@asynccontextmanager
async def agent(socket: Path, answer: FleetStatus | Problem) -> AsyncIterator[Path]:
    async def fleet(_: web.Request) -> web.Response:
        status = answer.status if isinstance(answer, Problem) else 200
        return web.Response(body=encode(answer), status=status, content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/fleet", fleet)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield socket
    finally:
        await runner.cleanup()


async def run(tmp_path: Path, answer: FleetStatus | Problem, *words: str) -> Ended:
    async with agent(tmp_path / "api.sock", answer) as socket:
        return await ended(await start("fleet", *words, socket=socket))


def status(**changed: object) -> FleetStatus:
    return fleet_status("vpn-eu", "ams", POLICY, view(**changed), NOW)  # type: ignore[arg-type]  # the two of view()


async def test_status_shows_state_load_reason_and_age_of_every_pop(tmp_path: Path) -> None:
    result = await run(tmp_path, status(), "status")
    assert (result.code, result.err) == (0, "")
    rows = {line.split()[0]: line for line in result.out.splitlines() if line.strip()}
    assert "seen from ams: 4 PoPs, minimum 2, proven 1 s ago" in result.out
    assert "sessions_s" not in result.out
    for pop, parts in {
        "fra": ("eu", "normal", "duty", "2/1", "sessions 62% or more", "healthy", "2 s"),
        "ams": ("ams *", "0/1", "unknown", "ike fails, for 1 m 15 s, asks for a permit", "3 s"),
        "nyc": ("us", "permit"),
        "syd": ("lost", "1 m 30 s"),
    }.items():
        assert all(part in rows[pop] for part in parts), rows[pop]
    assert "permit for vpn: refused (fleet-floor) for 5 s" in result.out


async def test_status_says_when_the_view_cannot_be_relied_on(tmp_path: Path) -> None:
    away = await run(tmp_path, status(connected=False), "status")
    assert away.code == 75
    assert "no connection to the store: http://etcd: no answer within 2 s" in away.out
    old = await run(tmp_path, status(age_s=31.0), "status")
    assert old.code == 75
    assert "older than its bound" in old.out


async def test_json_is_the_answer_of_the_api(tmp_path: Path) -> None:
    result = await run(tmp_path, status(), "status", "--json")
    assert decode(result.out.encode(), FleetStatus) == status()


async def test_watch_asks_again_and_writes_a_line_each_time(tmp_path: Path) -> None:
    result = await run(tmp_path, status(), "watch", "--every", "0.01s", "--count", "3", "--json")
    assert result.code == 0
    assert [json.loads(line)["pop"] for line in result.out.splitlines()] == ["ams"] * 3
    table = await run(tmp_path, status(), "watch", "--every", "0.01s", "--count", "2")
    assert table.out.count("seen from ams") == 2


async def test_an_agent_without_a_fleet_says_so(tmp_path: Path) -> None:
    problem = Problem(status=404, code="no-fleet", title="No fleet", detail="this PoP has no fleet configured")
    result = await run(tmp_path, problem, "status")
    assert result.code == 70
    assert "this PoP has no fleet configured" in result.err
