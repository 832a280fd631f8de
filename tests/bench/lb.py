"""The balancer's figures: rows, spread, a health flap, and what steering costs per packet over plain forwarding."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import shake_256
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from popctl.core.jhash import row_of
from popctl.core.rendezvous import build
from popctl.core.rows import eligible
from popctl.lb.nft import NftBalancer, compile_tables
from popctl.lb.watch import Watch
from popctl.model.balancer import BalancerActual, Tables
from popctl.wire import packet
from popctl.wire.nft import TABLE
from popctl.wire.nft_text import Table, transaction
from popctl.wire.packet import UDP
from tests.balancers import CLIENT4, VIP4, esp_spi, tables, without
from tests.peers.lb_net import Net

if TYPE_CHECKING:
    from tests.bench.__main__ import Figure

Until: TypeAlias = Callable[[Callable[[BalancerActual], bool]], Awaitable[BalancerActual]]
"""Waits for a report of the balancer that has some property."""

COMMAND = "python -m tests.bench lb"
FLAPS = 200
MOVED_ROWS = 4096
POPS = 60
WEIGHT = 64
BATCH = 256
BATCHES = 400
ROUNDS = 7
PATH_BOUND = 2.0
"""Nobody promised one; twice the cost of forwarding is where somebody should look."""


def measure() -> list[Figure]:
    """Measure everything; what needs root and nft is left out without them, and said to be."""
    figures = [_rows(), _spread(), _moved()]
    if os.geteuid() == 0 and shutil.which("nft"):
        return [*figures, *_flap(), *_repairs(), *_path()]
    print("skip health flap, repairs, cost per packet: they need root and nft")
    return figures


def _figure(name: str, value: float, unit: str, bound: float | None, note: str = "") -> Figure:
    ok = bound is None or value <= bound
    return {"name": name, "value": value, "unit": unit, "bound": bound, "ok": ok, "command": COMMAND, "note": note}


def _rows() -> Figure:
    weights = dict.fromkeys(range(64), WEIGHT)
    before = time.process_time()
    took = [_timed(lambda: build(weights, b"seed")) for _ in range(7)]
    note = f"{(time.process_time() - before) / len(took) * 1e3:.0f} ms of processor time"
    return _figure("rows of 64 backends x 65,536", median(took) * 1e3, "ms", 150.0, note)


def _spread() -> Figure:
    peaks = []
    for pop in range(POPS):
        rows = build(dict.fromkeys(range(8), WEIGHT), b"pop %d" % pop)
        spis = shake_256(b"spis %d" % pop).digest(80000)
        keys = (spis[i : i + 8] for i in range(0, 80000, 8))
        owners = Counter(rows.order[rows.width * row_of(key, 0xC0FFEE + pop, rows.count)] for key in keys)
        peaks.append(max(owners.values()) / 1250)
    within = sum(p <= 1.06 for p in peaks)
    note = (
        f"median of {POPS} keys; p95 {sorted(peaks)[POPS * 95 // 100]:.3f}, worst {max(peaks):.3f}; {within} of {POPS} "
        "within the bound (chance alone, on perfect rows: median 1.038, p95 1.066, 91 %)"
    )
    return _figure("10,000 SAs of one CGNAT address over 8: peak/mean", median(peaks), "", 1.06, note)


def _moved() -> Figure:
    """Let each of 64 backends flap, and count the rows that others lost or won by it."""
    rows = build(dict.fromkeys(range(64), WEIGHT), b"seed", MOVED_ROWS)
    everybody = frozenset(range(64))
    homes = [eligible(rows, number, everybody) for number in range(rows.count)]
    excess = 0
    for down in everybody:
        left = everybody - {down}
        for number, home in enumerate(homes):
            excess += home is not None and home[0] != down and eligible(rows, number, left) != home
    return _figure("rows moved by a flap of one of 64 that were not its own", excess, "rows", 0.0)


def _flap() -> list[Figure]:
    net = Net()
    try:
        net.add("lb", "in")
        net.link("in", "i0", "192.0.2.2/24", "lb", "l0", "192.0.2.1/24 10.77.0.1/24 2001:db8:77::1/64")
        took, changed = asyncio.run(_flaps(net.name("lb"), tables(64)))
    finally:
        net.close()
    note, p99 = f"median {median(took) * 1e3:.2f} ms", sorted(took)[FLAPS - 3]
    return [
        _figure("health flap of one of 64 in the kernel, p99 of 200", p99 * 1e3, "ms", 10.0, note),
        _figure("elements changed by a health flap of one of 64, most", changed, "elements", 1.0),
    ]


def _repairs() -> list[Figure]:
    net = Net()
    try:
        net.add("lb", "in")
        net.link("in", "i0", "192.0.2.2/24", "lb", "l0", "192.0.2.1/24 10.77.0.1/24 2001:db8:77::1/64")
        chain = asyncio.run(_repair(net, ("flush", "chain", "inet", TABLE, "vpn.v4.ike500")))
        whole = asyncio.run(_repair(net, ("flush", "ruleset")))
    finally:
        net.close()
    name = "the whole rule set flushed by hand"
    return [
        _figure("a chain flushed by hand: seen and put right", median(one.all_s for one in chain) * 1e3, "ms", None),
        _figure(f"{name}: labelled packets steered again", median(one.labels_s for one in whole) * 1e3, "ms", None),
        _figure(f"{name}: rows loaded too", median(one.all_s for one in whole) * 1e3, "ms", None),
    ]


class _Repair(NamedTuple):
    """How long after the damage."""

    labels_s: float
    """Until there are rules again."""
    all_s: float
    """Until all was read back."""


async def _repair(net: Net, damage: tuple[str, ...]) -> list[_Repair]:
    took = []
    loop = asyncio.get_running_loop()
    with net.thread("lb") as observer:
        watch = await loop.run_in_executor(observer, Watch, TABLE)
        try:
            async with _running(net.name("lb"), tables(8)) as (_, until):
                for turn in range(5):
                    net.inside("lb", "nft", *damage)
                    start = time.perf_counter()
                    labels = loop.run_in_executor(observer, _until_there, watch)
                    await until(lambda a, turn=turn: a.in_force and a.drift_repairs > turn)  # type: ignore[misc]  # mypy cannot infer defaults
                    took.append(_Repair(await labels - start, time.perf_counter() - start))
        finally:
            watch.close()
    return took


def _until_there(watch: Watch) -> float:
    while watch.bones(("inet",))["inet"] is None:
        pass
    return time.perf_counter()


@asynccontextmanager
async def _running(namespace: str, wanted: Tables) -> AsyncIterator[tuple[NftBalancer, Until]]:
    """Run a balancer with these tables in force."""
    balancer = NftBalancer(netns=namespace)
    last = BalancerActual()
    told = asyncio.Event()

    def hear(actual: BalancerActual) -> None:
        nonlocal last
        last = actual
        told.set()

    async def until(holds: Callable[[BalancerActual], bool]) -> BalancerActual:
        while not holds(last):
            told.clear()
            await told.wait()
        return last

    try:
        await balancer.set(wanted)
        task = asyncio.create_task(balancer.run(hear))
        await until(lambda a: a.in_force)
        yield balancer, until
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        await balancer.close()


async def _flaps(namespace: str, wanted: Tables) -> tuple[list[float], int]:
    """Return how long each flap took, and the most elements that one changed."""
    took, changed = [], [0]
    async with _running(namespace, wanted) as (balancer, until):
        for turn in range(FLAPS):
            state = without(wanted, turn % 64) if turn % 2 == 0 else wanted
            start = time.perf_counter()
            await balancer.set(state)
            last = await until(lambda a, alive=state.alive: a.alive == alive)  # type: ignore[misc]  # mypy cannot infer defaults
            took.append(time.perf_counter() - start)
            changed.append(last.elements_changed)
    return took, max(after - before for before, after in pairwise(changed))


def _path() -> list[Figure]:
    """Send the same packets through plain forwarding and through rules, in turns, on one processor."""
    shipped = compile_tables(tables(2)).whole
    rules = {
        "plain": (),
        "steered": shipped,
        "without reassembly": tuple(map(_without_reassembly, shipped)),
    }
    net = Net()
    before = os.sched_getaffinity(0)
    try:
        net.add("in", "b")
        senders = {way: _way(net, number, each) for number, (way, each) in enumerate(rules.items(), start=1)}
        os.sched_setaffinity(0, {min(before)})
        took: dict[str, list[float]] = {way: [] for way in senders}
        for _ in range(ROUNDS):
            for way, burst in senders.items():
                took[way].append(_timed(burst.send) / (BATCH * BATCHES) * 1e9)
    finally:
        os.sched_setaffinity(0, before)
        net.close()
    least = {way: min(each) for way, each in took.items()}
    plain = least.pop("plain")
    note = f"plain {plain:.0f} ns, steered {least['steered']:.0f} ns per packet, sender included"
    return [
        _figure(
            "ESP in UDP through the rules over plain forwarding", least["steered"] / plain, "ratio", PATH_BOUND, note
        ),
        *(
            _figure(f"what rules add per packet, {way}", value - plain, "ns", None, note)
            for way, value in least.items()
        ),
    ]


def _way(net: Net, number: int, rules: tuple[Table, ...]) -> _Burst:
    """Raise a router with these rules between sender and backend; without any it forwards by address."""
    lb = f"lb{number}"
    net.add(lb)
    net.link("in", f"i{number}", f"192.0.2.{number * 4}/30", lb, "l0", f"192.0.2.{number * 4 + 1}/30")
    net.link(lb, "e0", "10.77.0.1/24", "b", f"b{number}", "10.77.0.10/24")
    mac = ":".join(f"{byte:02x}" for byte in net.mac("b", f"b{number}"))
    net.ip(lb, f"neigh replace 10.77.0.10 lladdr {mac} dev e0")
    for one in rules:
        net.inside(lb, "nft", "-f", "-", stdin=transaction(one, None))
    if rules:
        slot = tables(2).marks.base | 1
        net.ip(lb, f"rule add fwmark {slot:#x}/0xffff00ff lookup 5101")
        net.ip(lb, "route add default via 10.77.0.10 table 5101")
    else:
        net.ip(lb, f"route add {VIP4} via 10.77.0.10")
    return _Burst(net.packet_socket("in", f"i{number}"), net.mac(lb, "l0") + net.mac("in", f"i{number}"))


def _without_reassembly(table: Table) -> Table:
    """Leave out what makes the kernel put fragments together, and with it connection tracking."""
    return replace(table, chains=tuple(chain for chain in table.chains if chain.name != "reassembly"))


class _Message(ctypes.Structure):
    """struct mmsghdr with a single buffer."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vector", ctypes.c_void_p),
        ("vector_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    )


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Burst:
    """Many equal frames with one system call: Python must not be what is measured."""

    def __init__(self, raw: socket.socket, addresses: bytes) -> None:
        body = packet.udp(40000, 4500, packet.esp(esp_spi(0)) + bytes(40))
        frame = addresses + b"\x08\x00" + packet.ip(CLIENT4, VIP4, UDP, body)
        self._raw = raw
        self._frame = ctypes.create_string_buffer(frame, len(frame))
        self._vector = _Vector(ctypes.addressof(self._frame), len(frame))
        message = _Message(vector=ctypes.addressof(self._vector), vector_length=1)
        self._messages = (_Message * BATCH)(*[message] * BATCH)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def send(self) -> None:
        """Send all batches."""
        for _ in range(BATCHES):
            left = BATCH
            while left > 0:
                sent = self._libc.sendmmsg(self._raw.fileno(), self._messages, left, 0)
                if sent < 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                left -= sent


def _timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
