"""Text of the kernel, as real hosts print it, and text that is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from popctl.model.meter import CpuTicks, L2tpCount
from popctl.wire import proc_text, xl2tpd_control
from popctl.wire.errors import WireError

STAT = """\
cpu  217877 4055 25305 501236 722 0 542 111 0 0
cpu0 95209 1839 10956 266364 68 0 256 55 0 0
cpu1 122667 2215 14348 234872 654 0 285 56 0 0
intr 1744291 0 0
ctxt 3549811
"""
NET_DEV = """\
Inter-|   Receive                                      |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 80612572 1012029    0    0    0     0          0         0 80612572 1012029    0    0    0     0       0    0
  eth0:543006099   16812    0    3    0     0          0         0  1100683    9701    0    5    0     0       0    0
"""
CONNTRACK = """\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error
0000000a  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000002 00000001 00000000 00000000
0000000a  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000010 00000000 00000003 00000000
"""
PPPOL2TP = """\
PPPoL2TP driver info, V2.0
TUNNEL name, user-data-ok session-count
 debug tx-pkts/bytes/errs rx-pkts/bytes/errs
  SESSION name, addr/port src-tid/sid dest-tid/sid state user-data-ok
   mtu/mru/rcvseq/sendseq/lns debug reorderto
   nr/ns tx-pkts/bytes/errs rx-pkts/bytes/errs

TUNNEL 'tunl 7', Y 2
 00000000 5/60/0 5/60/0
  SESSION '' C0000201/1701 0007/0001 -> 0001/0001 1 Y
   0/0/-/-/LNS 00000000 0
   0/0 5/60/0 5/60/0
   interface ppp0
  SESSION '' C0000201/1701 0007/0002 -> 0001/0002 1 Y
   0/0/-/-/LNS 00000000 0
   0/0 5/60/0 5/60/0
"""


def test_cpu_time_is_read_of_all_cores_and_of_each() -> None:
    found = proc_text.cpu(STAT)
    assert found.all == CpuTicks(user=221932, system=25305, irq=0, softirq=542, idle=501958, steal=111)
    assert [core.softirq for core in found.cores] == [256, 285]


def test_a_link_is_read_even_when_its_counter_touches_the_colon() -> None:
    found = proc_text.links(NET_DEV)
    assert set(found) == {"lo", "eth0"}
    assert (found["eth0"].rx_bytes, found["eth0"].rx_drops, found["eth0"].tx_drops) == (543006099, 3, 5)


def test_conntrack_failures_are_added_over_the_cores_by_the_name_of_their_column() -> None:
    found = proc_text.conntrack(CONNTRACK, "10\n", "65536\n")
    assert (found.entries, found.limit, found.insert_failed, found.drops, found.early_drops) == (10, 65536, 18, 1, 3)


def test_esp_for_no_sa_is_read_among_the_other_counters() -> None:
    text = "XfrmInError             \t0\nXfrmInNoStates          \t17\nXfrmInStateProtoError   \t3\n"
    assert proc_text.no_state(text) == 17


@pytest.mark.parametrize("text", ["", "XfrmInNoStates", "XfrmInNoStates x", "XfrmInError 1"])
def test_a_kernel_that_tells_no_such_counter_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        proc_text.no_state(text)


def test_tracked_flows_are_counted_by_the_address_of_either_end() -> None:
    text = (
        "ipv4     2 udp      17 29 src=203.0.113.2 dst=198.51.100.1 sport=500 dport=500 [UNREPLIED] "
        "src=10.0.0.1 dst=203.0.113.2 sport=500 dport=500 mark=0 use=1\n"
        "ipv4     2 tcp      6 300 ESTABLISHED src=10.0.0.9 dst=10.0.0.1 sport=1 dport=179 "
        "src=10.0.0.1 dst=10.0.0.9 sport=179 dport=1 [ASSURED] mark=0 use=1\n"
        "ipv6     10 udp      17 9 src=2001:0db8:0000:0000:0000:0000:0000:0002 "
        "dst=2001:0db8:ffff:0000:0000:0000:0000:0001 sport=1 dport=4500 use=1\n"
    )
    vips = {"198.51.100.1", "2001:0db8:ffff:0000:0000:0000:0000:0001"}
    assert (
        proc_text.flows_of(text, vips),
        proc_text.flows_of(text, {"198.51.100.2"}),
        proc_text.flows_of("", vips),
    ) == (
        2,
        0,
        0,
    )


def test_kernel_l2tp_is_counted_without_the_lines_of_the_heading() -> None:
    assert proc_text.pppol2tp(PPPOL2TP) == L2tpCount(tunnels=1, sessions=2)


def test_the_start_of_a_process_is_found_whatever_its_name_holds() -> None:
    rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"
    assert proc_text.start_ticks(f"42 (a) b) {rest}") == 4711


def test_a_process_that_has_ended_and_waits_for_its_parent_has_no_start() -> None:
    assert proc_text.start_ticks("42 (charon) Z " + " ".join("1" * 20)) is None


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (proc_text.cpu, ""),
        (proc_text.cpu, "cpu 1 2 3\ncpu0 1 2 3\n"),
        (proc_text.cpu, STAT.replace("217877", "x")),
        (proc_text.links, "a\nb\nno colon here\n"),
        (proc_text.links, "a\nb\neth0: 1 2 3\n"),
        (lambda text: proc_text.conntrack(text, "1", "1"), "entries found\n"),
        (lambda text: proc_text.conntrack(text, "1", "1"), CONNTRACK.replace("00000010", "zz")),
        (lambda text: proc_text.conntrack(CONNTRACK, text, "1"), "-1"),
        (proc_text.pppol2tp, "something else"),
        (proc_text.start_ticks, "42 (x) S 1"),
    ],
)
def test_text_that_is_something_else_is_a_wire_error(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(WireError):
        read(text)


STATUS = b"""\
00 OK
00 STATUS tunnels.count=2
00 STATUS tunnels.0.id=4711
00 STATUS tunnels.0.peer=192.0.2.2:1701
00 STATUS tunnels.0.calls.count=3
00 STATUS tunnels.0.calls.0.id=1
00 STATUS tunnels.0.calls.0.tx_bytes=0
00 STATUS tunnels.1.calls.count=1
"""


def test_xl2tpds_status_adds_up_the_calls_of_all_tunnels() -> None:
    assert xl2tpd_control.status(STATUS) == L2tpCount(tunnels=2, sessions=4)
    assert xl2tpd_control.status(b"00 OK\n00 STATUS tunnels.count=0\n") == L2tpCount(tunnels=0, sessions=0)


@pytest.mark.parametrize(
    "answer", [b"", b"01 Error: no such LNS\n", b"00 OK\n", b"00 OK\n00 STATUS tunnels.count=x\n", b"\xff"]
)
def test_an_answer_of_xl2tpd_that_tells_nothing_is_a_wire_error(answer: bytes) -> None:
    with pytest.raises(WireError):
        xl2tpd_control.status(answer)


def test_a_request_to_xl2tpd_is_one_word_each() -> None:
    assert xl2tpd_control.status_request("/run/x", "default") == b"@/run/x y default"
    for answer, lns in (("/run/a b", "default"), ("/run/x", "a\nb"), ("/run/x", ""), ("/" + "a" * 2000, "default")):
        with pytest.raises(ValueError, match=r"xl2tpd's control|longer"):
            xl2tpd_control.status_request(answer, lns)
