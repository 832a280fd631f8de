"""Meters without daemons: rates of two readings, hosts that lack a source, what is used, symptoms of overload."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from popctl.meter.hub import Hub
from popctl.meter.service import look
from popctl.model.load import LoadSample, Resource
from popctl.model.meter import (
    Conntrack,
    Cpu,
    Daemon,
    DaemonDied,
    DaemonStarted,
    DaemonState,
    Heard,
    Ike,
    IkeCounters,
    L2tpCount,
    Link,
    Overloaded,
    SaBytes,
    Snapshot,
    Symptom,
    Unread,
)
from popctl.model.pop import ViciEndpoint
from popctl.model.reason import Reason
from popctl.senses import meter, meter_rates
from popctl.senses.meter import NOT_METERED, Meter, Sources, sample
from popctl.senses.meter_events import MeterEvent, MeterEvents
from popctl.senses.meter_failure import unread
from popctl.senses.meter_host import HostMeter
from popctl.senses.meter_l2tp import L2tpMeter
from popctl.senses.meter_vici import ViciMeter, classes
from popctl.wire.errors import WireError
from tests.eventually import eventually_async
from tests.unit.wire.test_proc_text import CONNTRACK, NET_DEV, PPPOL2TP, STAT

if TYPE_CHECKING:
    from pathlib import Path

CPU = Cpu(cores=4, user=0.25, system=0.125, softirq=0.125, steal=0.0, busiest_softirq=0.4)
LINK = Link(name="eth0", rx_bit_s=8e6, tx_bit_s=9e6, rx_packet_s=1000.0, tx_packet_s=1100.0, drop_s=0.0)
TRACKED = Conntrack(entries=10, limit=1000, insert_failed_s=0.0, drop_s=0.0)
IKE = Ike(
    uptime_s=60.0,
    sas=100,
    half_open=2,
    children=100,
    handshakes_s=3.0,
    rekeys_min=5.0,
    invalid_spi_s=0.0,
    workers_idle=5,
    jobs_queued=0,
    leases=90,
    addresses=254,
)
WELL = Sources(cpu=CPU, links=(LINK,), conntrack=TRACKED, ike=IKE, l2tp=L2tpCount(tunnels=120, sessions=120))
LOST = Unread(reason=Reason.TIMED_OUT)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return a /proc of a small host."""
    for name, text in {
        "stat": STAT,
        "net/dev": NET_DEV,
        "net/stat/nf_conntrack": CONNTRACK,
        "sys/net/netfilter/nf_conntrack_count": "10\n",
        "sys/net/netfilter/nf_conntrack_max": "65536\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_first_reading_gives_no_rate_and_no_zero(proc: Path) -> None:
    host = HostMeter(proc=proc, sys=proc)
    for found in (host.cpu(0.0), host.links(0.0), host.conntrack(0.0)):
        assert found == meter_rates.FIRST


def test_two_readings_give_shares_and_rates(proc: Path) -> None:
    host = HostMeter(proc=proc, sys=proc)
    host.cpu(0.0), host.links(0.0), host.conntrack(0.0)
    later = (
        STAT.replace("217877", "217977").replace("95209", "95309").replace(" 542 ", " 642 ").replace(" 256 ", " 356 ")
    )
    (proc / "stat").write_text(later)
    (proc / "net/dev").write_text(NET_DEV.replace("1100683", "1101683").replace("0    3    0", "0    5    0"))
    (proc / "net/stat/nf_conntrack").write_text(CONNTRACK.replace("00000002", "00000006"))
    cpu, links, tracked = host.cpu(2.0), host.links(2.0), host.conntrack(2.0)
    assert isinstance(cpu, Cpu)
    assert (cpu.cores, cpu.user, cpu.softirq, cpu.busiest_softirq, cpu.busy_cores) == (2, 0.5, 0.5, 0.5, 2.0)
    assert not isinstance(links, Unread)
    assert [(link.name, link.tx_bit_s, link.drop_s) for link in links] == [("eth0", 4000.0, 1.0)]
    assert isinstance(tracked, Conntrack)
    assert (tracked.entries, tracked.insert_failed_s) == (10, 2.0)


async def test_refused_esp_is_told_and_a_host_without_ipsec_tells_nothing(proc: Path) -> None:
    host = HostMeter(proc=proc, sys=proc)
    meter = Meter(host, clock=asyncio.get_running_loop().time)
    assert (await meter.read()).refused_esp is None
    (proc / "net" / "xfrm_stat").write_text("XfrmInNoStates          \t17\n")
    snapshot = await meter.read()
    assert (snapshot.refused_esp, snapshot.refused_ike) == (17, None)
    assert sample(1, snapshot, 0.0).refused_esp == 17


def test_a_counter_that_went_backwards_is_a_reset_not_a_rate(proc: Path) -> None:
    host = HostMeter(proc=proc, sys=proc, interfaces=("eth0",))
    host.links(0.0)
    (proc / "net/dev").write_text(NET_DEV.replace("543006099", "1"))
    found = host.links(1.0)
    assert isinstance(found, Unread)
    assert found.reason is Reason.COUNTER_RESET


def test_a_host_without_a_source_says_so_for_that_source_only(proc: Path) -> None:
    (proc / "net/stat/nf_conntrack").unlink()
    (proc / "stat").write_text("nonsense")
    host = HostMeter(proc=proc, sys=proc, interfaces=("eth9",))
    tracked, cpu, links = host.conntrack(0.0), host.cpu(0.0), host.links(0.0)
    assert isinstance(tracked, Unread)
    assert tracked.reason is Reason.NO_SOURCE
    assert isinstance(cpu, Unread)
    assert cpu.reason is Reason.GARBAGE
    assert isinstance(links, Unread)
    assert (links.reason, links.detail) == (Reason.NO_SOURCE, "no interface eth9")


def test_after_an_unreadable_moment_rates_begin_anew(proc: Path) -> None:
    host = HostMeter(proc=proc, sys=proc)
    host.cpu(0.0)
    (proc / "stat").rename(proc / "gone")
    assert isinstance(host.cpu(1.0), Unread)
    (proc / "gone").rename(proc / "stat")
    assert host.cpu(2.0) == meter_rates.FIRST


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "no"), Reason.NO_PERMISSION),
        (FileNotFoundError(2, "no"), Reason.NO_SOURCE),
        (ConnectionRefusedError(111, "no"), Reason.REFUSED),
        (TimeoutError(), Reason.TIMED_OUT),
        (EOFError(), Reason.REFUSED),
        (WireError("x"), Reason.GARBAGE),
        (KeyError("x"), Reason.PROBE_ERROR),
    ],
)
def test_every_failure_of_a_source_has_a_reason(error: Exception, reason: Reason) -> None:
    assert unread(error).reason is reason


def test_this_very_host_can_be_metered() -> None:
    host = HostMeter()
    for now in (0.0, 1.0):
        links, tracked = host.links(now), host.conntrack(now)
    host.cpu(0.0)
    assert not isinstance(links, Unread)
    assert links
    if not os.access("/proc/net/stat/nf_conntrack", os.R_OK):
        assert isinstance(tracked, Unread)
    else:
        assert isinstance(tracked, Conntrack)
        assert tracked.limit > 0


def test_what_is_used_is_put_together_from_all_sources() -> None:
    used, unknown = meter.amounts(WELL)
    assert used == {
        Resource.SESSIONS: 120.0,
        Resource.HANDSHAKES: 3.0,
        Resource.ADDRESSES: 90.0,
        Resource.BITS: 9e6,
        Resource.PACKETS: 2100.0,
        Resource.CPU: 2.0,
    }
    assert not unknown


@pytest.mark.parametrize("source", ["ike", "l2tp"])
def test_sessions_are_unknown_when_a_configured_source_of_them_is_silent(source: str) -> None:
    used, unknown = meter.amounts(replace(WELL, **{source: LOST}))
    assert Resource.SESSIONS not in used
    assert unknown[Resource.SESSIONS] is Reason.TIMED_OUT


def test_sessions_are_counted_by_the_only_source_that_is_configured() -> None:
    assert meter.amounts(replace(WELL, l2tp=NOT_METERED))[0][Resource.SESSIONS] == 100.0
    none = meter.amounts(replace(WELL, ike=NOT_METERED, l2tp=NOT_METERED))
    assert none[1][Resource.SESSIONS] is Reason.NO_SOURCE


@pytest.mark.parametrize(
    ("change", "symptom"),
    [
        ({"ike": replace(IKE, workers_idle=0)}, Symptom.NO_IDLE_WORKER),
        ({"ike": replace(IKE, jobs_queued=3)}, Symptom.JOBS_QUEUED),
        ({"conntrack": replace(TRACKED, entries=960)}, Symptom.CONNTRACK_FULL),
        ({"conntrack": replace(TRACKED, insert_failed_s=1.0)}, Symptom.CONNTRACK_FULL),
        ({"links": (replace(LINK, drop_s=1.0),)}, Symptom.LINK_DROPS),
        ({"cpu": replace(CPU, busiest_softirq=0.99)}, Symptom.SOFTIRQ_SATURATED),
    ],
)
def test_each_symptom_of_overload_is_seen(change: dict[str, object], symptom: Symptom) -> None:
    assert not meter.symptoms(WELL)
    assert meter.symptoms(replace(WELL, **change)) == (symptom,)


def test_an_unread_host_has_no_symptoms() -> None:
    assert not meter.symptoms(Sources(cpu=LOST, links=LOST, conntrack=LOST, ike=LOST, l2tp=LOST))


def test_rates_of_a_restarted_ike_daemon_are_a_reset() -> None:
    before = IkeCounters(
        uptime_s=60,
        sas=5,
        half_open=1,
        workers_idle=1,
        jobs_queued=0,
        handshakes=10,
        rekeys=3,
        invalid_spi=0,
        invalid=0,
        leases=None,
        addresses=None,
    )
    found = meter_rates.ike(replace(before, handshakes=20), before, 2.0, None)
    assert isinstance(found, Ike)
    assert (found.handshakes_s, found.sas) == (5.0, 4)
    assert isinstance(meter_rates.ike(replace(before, handshakes=0), before, 2.0, None), Unread)


def test_sessions_are_sorted_by_what_they_move() -> None:
    before = {"1": SaBytes(children=1, bytes=1_000_000), "2": SaBytes(children=1, bytes=9_000_000)}
    after = {
        "1": SaBytes(children=1, bytes=1_010_000),
        "2": SaBytes(children=1, bytes=2_000_000),
        "3": SaBytes(children=1, bytes=100_000_000),
    }
    found = classes(after, before, 10.0, 5e6)
    assert (found.interactive.sessions, found.interactive.bit_s) == (2, 8e3 + 1.6e6)
    assert (found.bulk.sessions, found.bulk.bit_s) == (1, 8e7)


async def test_without_an_ike_daemon_the_meter_says_so_within_its_time_limit(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    vici = ViciMeter(ViciEndpoint(path=tmp_path / "charon.vici"), clock=loop.time, timeout_s=1.0)
    found = await vici.read()
    assert isinstance(found, Unread)
    assert found.reason is Reason.NO_SOURCE
    assert await vici.walk() > 0.0
    assert vici.children is None


async def test_an_ike_daemon_is_asked_over_tcp_where_its_control_socket_is_there() -> None:
    loop = asyncio.get_running_loop()
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        vici = ViciMeter(ViciEndpoint(host="127.0.0.1", port=port), clock=loop.time)
        assert isinstance(await vici.read(), Unread)
        vici.close()
    assert b"stats" in asked[0]


async def test_an_ike_daemon_that_accepts_and_says_nothing_is_given_up(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    accepted: list[asyncio.StreamWriter] = []
    path = tmp_path / "charon.vici"
    async with await asyncio.start_unix_server(lambda _, writer: accepted.append(writer), path) as server:
        vici = ViciMeter(ViciEndpoint(path=path), clock=loop.time, timeout_s=0.05, walk_timeout_s=0.05)
        found = await vici.read()
        await vici.walk()
        server.close()
        for writer in accepted:
            writer.close()
            await writer.wait_closed()
    assert isinstance(found, Unread)
    assert found.reason is Reason.TIMED_OUT
    assert vici.walk_problem is not None


async def test_kernel_l2tp_is_read_where_there_is_one(proc: Path) -> None:
    loop = asyncio.get_running_loop()
    absent = await L2tpMeter(clock=loop.time, proc=proc).read()
    assert isinstance(absent, Unread)
    (proc / "net/pppol2tp").write_text(PPPOL2TP)
    assert await L2tpMeter(clock=loop.time, proc=proc).read() == L2tpCount(tunnels=1, sessions=2)


async def test_a_fifo_that_nobody_reads_is_no_source_and_no_hang(proc: Path) -> None:
    os.mkfifo(proc / "l2tp-control")
    loop = asyncio.get_running_loop()
    found = await L2tpMeter(clock=loop.time, proc=proc, control=proc / "l2tp-control").read()
    assert isinstance(found, Unread)
    assert found.reason is Reason.NO_SOURCE


async def test_a_control_that_does_not_answer_is_left_alone_for_a_while(proc: Path) -> None:
    control = proc / "l2tp-control"
    os.mkfifo(control)
    held = os.open(control, os.O_RDONLY | os.O_NONBLOCK)
    try:
        l2tp = L2tpMeter(clock=asyncio.get_running_loop().time, proc=proc, control=control, timeout_s=0.05)
        for _ in range(3):
            found = await l2tp.read()
            assert isinstance(found, Unread)
            assert found.reason is Reason.TIMED_OUT
        assert os.read(held, 65536).count(b"@") == 1
    finally:
        os.close(held)


async def test_a_file_in_place_of_the_control_is_not_written_to(proc: Path) -> None:
    (proc / "l2tp-control").write_text("precious")
    found = await L2tpMeter(clock=asyncio.get_running_loop().time, proc=proc, control=proc / "l2tp-control").read()
    assert isinstance(found, Unread)
    assert (proc / "l2tp-control").read_text() == "precious"


async def test_a_snapshot_has_every_part_and_a_reason_for_what_is_missing(proc: Path) -> None:
    loop = asyncio.get_running_loop()
    whole = Meter(
        HostMeter(proc=proc, sys=proc),
        clock=loop.time,
        vici=ViciMeter(ViciEndpoint(path=proc / "vici"), clock=loop.time),
    )
    snapshot = await whole.read()
    assert snapshot.used == {}
    assert set(snapshot.unknown) == {resource.value for resource in Resource}
    assert snapshot.unknown["sessions"] is Reason.NO_SOURCE
    whole.close()


async def test_a_symptom_between_two_looks_is_told_at_once_and_by_one_look(proc: Path) -> None:
    loop = asyncio.get_running_loop()
    hub = Hub(clock=loop.time, interval_s=3600.0)
    host, between = (HostMeter(proc=proc, sys=proc, interfaces=("eth0",)) for _ in range(2))
    whole = Meter(host, between=between, clock=loop.time)
    task = asyncio.create_task(look(whole, hub, 3600.0))
    first = await eventually_async(hub.latest)
    assert not first.snapshot.symptoms
    assert not whole.glance(), "rates need two readings"
    (proc / "net/dev").write_text(NET_DEV.replace("0    3    0", "0    9    0"))

    def shown() -> tuple[Symptom, ...]:
        latest = hub.latest()
        return () if latest is None else latest.snapshot.symptoms

    assert await eventually_async(shown) == (Symptom.LINK_DROPS,)
    assert not whole.glance(), "it has been told"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


EMPTY = Snapshot(used={}, unknown={}, cpu=LOST, links=LOST, conntrack=LOST, ike=LOST, l2tp=LOST)


def _daemon(state: DaemonState, life: str = "1-1") -> Daemon:
    return Daemon(name="charon", state=state, life=life)


def _told(*daemons: Daemon) -> list[MeterEvent]:
    found: list[MeterEvent] = []
    events = MeterEvents(7, found.append)
    for at, daemon in enumerate(daemons):
        events.daemon(daemon, float(at))
    return found


RUNNING, DIED, ABSENT = DaemonState.RUNNING, DaemonState.DIED, DaemonState.ABSENT


def test_a_daemon_that_ran_and_ended_has_died() -> None:
    assert _told(_daemon(RUNNING), _daemon(DIED)) == [DaemonDied(backend=7, daemon="charon", at=1.0)]


def test_a_daemon_that_was_never_seen_running_has_not_died() -> None:
    assert _told(_daemon(ABSENT), _daemon(ABSENT)) == []
    assert _told(_daemon(DIED)) == []


def test_a_restart_between_two_connections_is_a_death_and_a_start() -> None:
    found = _told(_daemon(RUNNING), _daemon(RUNNING), _daemon(RUNNING, "2-9"))
    assert found == [
        # Dated back to when the meter was last heard: probes that were answered since then know better.
        DaemonDied(backend=7, daemon="charon", at=1.0),
        DaemonStarted(backend=7, daemon="charon", at=2.0),
    ]


def test_a_daemon_that_is_found_dead_after_a_reconnect_has_died_now() -> None:
    found = _told(_daemon(RUNNING), _daemon(RUNNING), _daemon(DIED, "2-9"))
    assert found == [DaemonDied(backend=7, daemon="charon", at=2.0)]


def test_symptoms_are_told_when_they_appear_and_not_while_they_last() -> None:
    found: list[MeterEvent] = []
    events = MeterEvents(7, found.append)
    for at, shown in enumerate(((), (Symptom.LINK_DROPS,), (Symptom.LINK_DROPS,), (), (Symptom.LINK_DROPS,))):
        events.measured(replace(EMPTY, symptoms=shown), float(at))
    assert [event.at for event in found if isinstance(event, Overloaded)] == [1.0, 4.0]
    assert sum(isinstance(event, LoadSample) for event in found) == 5
    assert events.latest == Heard(snapshot=replace(EMPTY, symptoms=(Symptom.LINK_DROPS,)), at=4.0)
