"""`explain` and the kernel must name the same backend, for the same reason, packet by packet."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from popctl.core.affinity import remember
from popctl.core.steer import steer
from popctl.lb.libnft import Nft
from popctl.lb.nft import compile_tables
from popctl.model.balancer import AffinityKey, HashKey, SpiPlan, Steering, Tables, Unmatched
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.nft import ALL_SLOT, REASON_CODES
from popctl.wire.nft_text import transaction
from popctl.wire.packet import parse
from popctl.wire.spi import labels
from tests.balancers import NARROW_PLAN, PLAN, POP, WIDE_PLAN, draining, rows, tables, without
from tests.eventually import eventually
from tests.lb_corpus import Corpus
from tests.peers.lb_net import Net, needs_nft, net

__all__ = ["net"]
pytestmark = [pytest.mark.peer, needs_nft]

ETHERNET_IPV4, ETHERNET_IPV6 = b"\x08\x00", b"\x86\xdd"
BATCH = 400
"""Below the kernel's backlog (1000), beyond which a busy machine drops what was sent."""
RECORDER = """
table inet recorder {
  counter arrived { }
  set four { typeof ip id . meta mark; size 65536; flags dynamic; }
  set six { typeof ip6 flowlabel . meta mark; size 65536; flags dynamic; }
  chain first {
    type filter hook prerouting priority -301; policy accept;
    meta iifname "l0" counter name arrived
  }
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    add @four { ip id . meta mark }
    add @six { ip6 flowlabel . meta mark }
  }
}
"""


class Kernel:
    """A namespace with the balancer's rules; packets go in on one link, and every mark that comes out is kept."""

    def __init__(self, net: Net, wanted: Tables) -> None:
        self.net = net
        net.add("lb", "in")
        net.link("in", "i0", "192.0.2.2/24", "lb", "l0", "192.0.2.1/24 10.77.0.1/24 2001:db8:77::1/64")
        # Of two hooks with one priority the younger comes first: the recorder sees what the balancer marked.
        net.inside("lb", "nft", "-f", "-", stdin=RECORDER)
        text = "".join(transaction(t, None) for t in compile_tables(wanted).whole)
        net.inside("lb", "nft", "-f", "-", stdin=text)
        self.header = net.mac("lb", "l0") + net.mac("in", "i0")
        self.socket = net.packet_socket("in", "i0")

    def send(self, number: int, network: bytes) -> None:
        """Send one packet, its number in the IPv4 id or the IPv6 flow label."""
        if network[0] >> 4 == 4:
            header = network[:4] + number.to_bytes(2, "big") + network[6:10] + bytes(2) + network[12:20]
            total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, 20, 2))
            total = (total & 0xFFFF) + (total >> 16)
            checksum = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
            self.socket.send(self.header + ETHERNET_IPV4 + header[:10] + checksum + header[12:] + network[20:])
        else:
            label = (6 << 28 | number).to_bytes(4, "big")
            self.socket.send(self.header + ETHERNET_IPV6 + label + network[4:])

    def marks(self) -> dict[int, int]:
        """Return number -> mark of what was not dropped."""
        found = {}
        for name in ("four", "six"):
            listing = json.loads(self.net.inside("lb", "nft", "-j", "list", "set", "inet", "recorder", name))
            for element in listing["nftables"][1]["set"].get("elem", []):
                number, mark = element["concat"]
                found[number] = mark
        return found

    def counters(self) -> dict[str, int]:
        """Return packets by counter."""
        listing = json.loads(self.net.inside("lb", "nft", "-j", "list", "counters"))
        return {c["counter"]["name"]: c["counter"]["packets"] for c in listing["nftables"][1:]}


def expected(wanted: Tables, packets: dict[int, bytes]) -> dict[int, Steering]:
    """Steer in Python, remembering what is learnt."""
    memory: dict[AffinityKey, int] = {}
    found = {}
    for number, network in packets.items():
        steering = steer(wanted, parse(network), memory)
        memory = remember(memory, steering.learns)
        found[number] = steering
    return found


def mark_of(wanted: Tables, steering: Steering) -> int | None:
    """Return the mark that a steering means; None for a drop."""
    if steering.reason is Reason.REPLICATED:
        return wanted.marks.base | REASON_CODES[Reason.REPLICATED] << 8 | ALL_SLOT
    if steering.backend is None:
        return None
    return wanted.marks.base | REASON_CODES[steering.reason] << 8 | (steering.backend + 1)


CASES: dict[str, dict[str, Any]] = {
    "as-shipped": {},
    "strict": {"unlabelled": Unmatched.DROP},
    "lenient": {"plain_l2tp": True, "other": Unmatched.SOURCE},
    "source-ip": {"key": HashKey.SOURCE_IP, "other": Unmatched.SOURCE},
    "source-ip-port": {"key": HashKey.SOURCE_IP_PORT, "other": Unmatched.SOURCE},
    "5-tuple": {"key": HashKey.FIVE_TUPLE, "other": Unmatched.SOURCE},
    "no-affinity": {"affinity": None, "other": Unmatched.SOURCE},
}


def health(backends: int) -> Iterator[tuple[str, Tables]]:
    """Yield named states of a PoP for the default service."""
    yield "some-down", draining(without(tables(backends), 1, 2), 4)
    yield "rows-ran-out", without(tables(backends), *range(1, backends - 1))
    yield "none", without(tables(backends), *range(backends))


@contextmanager
def one_processor() -> Iterator[None]:
    """Stay on one CPU, so that packets keep their order and what is learnt is learnt in turn."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("wanted", "plans"),
    [
        *(
            pytest.param(tables(6, rows=rows(6, size=4096), **fields), (PLAN,), id=name)
            for name, fields in CASES.items()
        ),
        *(pytest.param(wanted, (PLAN,), id=name) for name, wanted in health(8)),
        pytest.param(
            tables(6, labels=labels(WIDE_PLAN, POP, range(6), [NARROW_PLAN])), (WIDE_PLAN, NARROW_PLAN), id="two-plans"
        ),
    ],
)
def test_the_kernel_and_explain_agree_on_a_corpus_of_packets(
    net: Net, wanted: Tables, plans: tuple[SpiPlan, ...]
) -> None:
    kernel = Kernel(net, wanted)
    packets = {}
    corpus = Corpus(seed=len(wanted.alive), backends=8, plans=plans)
    for number, network in enumerate(corpus.packets(2400), start=1):
        with suppress(WireError):
            parse(network)
            packets[number] = network
    with one_processor():
        for sent, (number, network) in enumerate(packets.items(), start=1):
            kernel.send(number, network)
            if sent % BATCH == 0:
                eventually(lambda: kernel.counters()["arrived"] >= sent)  # noqa: B023 - called before the next turn
    want = expected(wanted, packets)
    forwarded = {n: m for n, s in want.items() if (m := mark_of(wanted, s)) is not None}
    eventually(lambda: kernel.counters()["arrived"] >= len(packets))
    seen = kernel.marks()
    wrong = {n: (want[n], hex(seen.get(n, 0))) for n in packets if seen.get(n) != forwarded.get(n)}
    assert not wrong, next(iter(wrong.items()))
    assert len(packets) >= 2000

    drops = Counter(f"drop.vpn.{s.reason}" for s in want.values() if s.backend is None)
    del drops[f"drop.vpn.{Reason.REPLICATED}"]
    counted = kernel.counters()
    assert {name: counted[name] for name in drops} == drops
    assert sum(n for name, n in counted.items() if name.startswith("drop.")) == sum(drops.values())


def test_the_library_changes_one_element_and_no_rule(net: Net) -> None:
    Kernel(net, tables(6))
    before = net.inside("lb", "nft", "list", "chains")
    with net.thread("lb") as executor:
        nft = executor.submit(Nft).result()
        executor.submit(nft.change_elements, "delete element inet popctl alive { 3 }\n").result()
        executor.submit(nft.close).result()
    assert net.inside("lb", "nft", "list", "chains") == before
    assert "0x00000003" not in net.inside("lb", "nft", "list", "set", "inet", "popctl", "alive")
