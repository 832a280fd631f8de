"""What an agent that load steers tells over its API: where it stands, why, and where an order would take its users."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

from popctl.agent.events import FleetChanged, LoadRestored, PlaybookChanged
from popctl.cli.render import show_status
from popctl.cli.render_load import landing_lines, load_lines, meter_lines
from popctl.fleet.client import StoreFleet
from popctl.fleet.memory import MemoryHub, MemoryLine
from popctl.model.capacity import LoadMemory, LoadSettings, LoadState
from popctl.model.damping import Penalty
from popctl.model.fleet import FleetView, FloorPolicy, Member, Record, Stance
from popctl.model.floor import FleetSettings
from popctl.model.load import LoadSample, PopLoad, Resource, Share, Symptom, TrafficClasses
from popctl.model.meter import UnixMeter
from popctl.model.playbook import DEFAULT_LADDER, Flow, Playbook, PlaybookInForce, Step, StepKey
from popctl.model.reason import Reason
from popctl.model.route import RouteKey
from popctl.wire.agent_api import Status, Why, decode
from popctl.wire.load_api import LandingStatus
from popctl.wire.preview_api import WithdrawPreview
from tests.eventually import eventually_async
from tests.fleet_agents import GOOD, report
from tests.unit.agent import api_rig
from tests.unit.agent.api_rig import TestedAgent
from tests.unit.cli.command_line import popctl

SETTINGS = FleetSettings(name="test", region="eu", endpoints=("http://192.0.2.5:2379",))


def _playbook() -> Playbook:
    steps = {}
    for before, share in enumerate((0.4, 0.5, 1.0)):
        key = StepKey("ams", before, before + 1)
        steps[key] = (Step(key=key, flows=(Flow("ams", "fra", share),)),)
    return Playbook(
        fleet="test", created_unix_s=0.0, ladders=dict.fromkeys(("ams", "fra"), DEFAULT_LADDER), steps=steps
    )


def _member(now: float) -> Member:
    used = {Resource.SESSIONS: 20.0}
    load = PopLoad(level=0, announcing=True, used=used, peak=used, capacity={Resource.SESSIONS: 100.0}, at=now)
    record = Record(report=replace(report("fra", GOOD), load=load), stances={"vpn": Stance.DUTY})
    return Member(record=record, heard_at=now, created=1, modified=1)


@asynccontextmanager
async def steered(run_dir: Path, *, sessions: float = 80.0, level: int = 0) -> AsyncIterator[TestedAgent]:
    """Run a PoP with room for 100 sessions beside another one with 20 of 100."""
    bare = api_rig.small_pop(run_dir)
    backends = {
        number: replace(one, capacity={Resource.SESSIONS: 50.0}, meter=UnixMeter(path=run_dir / "meter.sock"))
        for number, one in bare.backends.items()
    }
    load = LoadSettings(services=frozenset({"vpn"}), playbook=run_dir / "playbook.json")
    pop = replace(bare, name="ams", backends=backends, fleet=SETTINGS, load=load)
    fleet = StoreFleet("ams", "ams-1", MemoryLine("ams", MemoryHub(time.monotonic)), FloorPolicy())
    async with api_rig.running(pop, fleet=fleet) as agent:
        now = time.monotonic()
        state = LoadState(level=level, since=now, reason=Reason.SHED_LOAD if level else None)
        key = RouteKey(pop.neighbors[0].address, pop.services[0].prefixes[0])
        agent.loop.put(LoadRestored(LoadMemory(state=state, ledger={key: Penalty(800.0, now)})))
        agent.loop.put(PlaybookChanged(PlaybookInForce(playbook=_playbook(), created=now - 60.0)))
        agent.all_pass()
        for number in backends:
            agent.loop.put(LoadSample(backend=number, at=now, used={Resource.SESSIONS: sessions / 2}))
        await eventually_async(lambda: agent.loop.decision is not None and agent.world.view().looked_at >= now)
        members = {"fra": _member(now)}
        agent.loop.put(FleetChanged(FleetView(members=members, connected=True, current_at=now)))
        yield agent


async def _status(agent: TestedAgent) -> Status:
    async with api_rig.client_of(agent) as client:
        answer = await client.get("/v1/status")
        return decode(await answer.read(), Status)


async def test_status_and_why_tell_where_the_pop_stands_and_what_neighbours_keep(tmp_path: Path) -> None:
    async with steered(tmp_path, level=1) as agent:
        await eventually_async(lambda: agent.announced().get("vpn") == "depreferred")
        found = (await _status(agent)).load
        async with api_rig.client_of(agent) as client:
            why = decode(await (await client.get("/v1/why/198.51.100.0/24")).read(), Why).load
        metrics = agent.metrics.text().decode()
    assert found is not None
    assert why is not None
    assert (found.level, found.name, found.levels) == (1, "depreferred", 4)
    assert (found.full, found.resource, found.missing) == (0.8, "sessions", "")
    assert [(one.asn, 790 < one.value <= 1301) for one in found.penalties] == [(65000, True)]
    assert found.playbook is not None
    assert (found.playbook.read, found.playbook.problem) == (True, "")
    text = "\n".join(load_lines(found))
    assert "load sessions 80%; level 1 of 3, depreferred" in text
    assert "flap damping: AS 65000 may keep a penalty of" in text
    assert "playbook of fleet test, made 1 m" in text
    assert why.level == 1
    assert "popctl_load_level 1.0" in metrics
    assert 'popctl_load_full{exact="true",resource="sessions"} 0.8' in metrics
    assert "popctl_playbook_good 1.0" in metrics


async def test_a_few_bulk_users_and_symptoms_of_overload_are_seen_while_sessions_are_few(tmp_path: Path) -> None:
    classes = TrafficClasses(interactive=Share(sessions=38, bit_s=1e8), bulk=Share(sessions=2, bit_s=9e8))
    async with steered(tmp_path) as agent:
        used = {Resource.SESSIONS: 40.0}
        shown = (Symptom.LINK_DROPS,)
        told = LoadSample(backend=1, at=time.monotonic(), used=used, classes=classes, symptoms=shown)
        agent.loop.put(told)
        await eventually_async(lambda: agent.world.view().loads[1].classes == classes)
        status = await _status(agent)
        metrics = agent.metrics.text().decode()
        agent.loop.put(replace(told, at=told.at - 60.0))
        agent.loop.put(replace(told, at=time.monotonic(), classes=None, symptoms=()))
        await eventually_async(lambda: agent.world.view().loads[1].classes is None)
        later = agent.metrics.text().decode()
    meter = status.backends[0].meter
    assert meter is not None
    text = "\n".join(meter_lines("b1", meter))
    assert "meter of b1: 40 sessions, 38 interactive with 100.0 Mbit/s, 2 bulk with 900.0 Mbit/s (90% of it)" in text
    assert "symptoms of overload at b1: link-drops" in text
    out = StringIO()
    show_status(status, Console(file=out, width=160))
    assert "2 bulk with 900.0 Mbit/s" in out.getvalue()
    assert 'popctl_backend_class_sessions{backend="b1",class="bulk"} 2.0' in metrics
    assert 'popctl_backend_class_bit_s{backend="b1",class="bulk"} 9e+08' in metrics
    assert 'popctl_backend_symptom{backend="b1",symptom="link-drops"} 1.0' in metrics
    assert 'backend="b1",class=' not in later
    assert 'popctl_backend_symptom{backend="b1",symptom="link-drops"} 0.0' in later


async def test_a_preview_of_a_withdraw_says_where_the_load_would_land_and_who_would_be_too_full(tmp_path: Path) -> None:
    async with steered(tmp_path) as agent, api_rig.client_of(agent) as client:

        async def landing() -> LandingStatus:
            answer = await client.get("/v1/preview/withdraw/vpn")
            told = decode(await answer.read(), WithdrawPreview).landing
            assert told is not None
            # Members, playbook and the own load become known one after another.
            assert told.problem == ""
            return told

        found = await eventually_async(landing)

    (fra,) = found.receivers
    assert (fra.pop, fra.sessions_before, fra.sessions_after, fra.over) == ("fra", 20.0, 100.0, True)
    assert list(landing_lines(found)) == ["  fra: 20 -> 100 sessions, 100% full, PAST ITS WATERMARK"]


async def test_before_a_withdraw_its_command_says_where_the_load_will_land(tmp_path: Path) -> None:
    async with steered(tmp_path) as agent, api_rig.client_of(agent) as client:

        async def known() -> bool:
            answer = await client.get("/v1/preview/withdraw/vpn")
            landing = decode(await answer.read(), WithdrawPreview).landing
            return landing is not None and not landing.problem

        await eventually_async(known)
        done = await popctl("withdraw", "vpn", "--reason", "r", "--no-wait", socket=agent.socket)
    assert "vpn: normal now, 80 sessions; 1 other PoPs go on serving" in done.err
    assert "  fra: 20 -> 100 sessions, 100% full, PAST ITS WATERMARK\n" in done.err


async def test_without_steering_nothing_is_told_of_it(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        preview = decode(await (await client.get("/v1/preview/withdraw/vpn")).read(), WithdrawPreview)
        assert ((await _status(agent)).load, preview.landing) == (None, None)
        assert "popctl_load_level" not in agent.metrics.text().decode()
