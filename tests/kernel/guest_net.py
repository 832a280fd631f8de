"""The network inside the guest: two backends behind a balancer, a client of its own address, a client behind NAT.

    c1 (native ESP) ---+                 +--- b0 ---+
                       r --- lb --- LAN -+          +--- r    replies go straight back: direct return
    c3 --- n (NAT) ----+                 +--- b1 ---+

Programs are slow to start in the guest, so few of them raise it all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.balancers import VIP4
from tests.peers.lb_net import Net, run

CLIENTS = ("c1", "c3")
BACKENDS = ("b0", "b1")
_NAMES = ("r", "lb", "b0", "b1", "c1", "n", "c3")
_LINKS = (
    ("r", "r0", "lb", "l0"),
    ("lb", "p0", "b0", "e0"),
    ("lb", "p1", "b1", "e0"),
    ("r", "rb0", "b0", "e1"),
    ("r", "rb1", "b1", "e1"),
    ("r", "rc1", "c1", "e0"),
    ("r", "rn", "n", "e1"),
    ("n", "e0", "c3", "e0"),
)
_ADDRESSES = {
    "r": "r0 203.0.113.254/24 rb0 10.1.0.1/24 rb1 10.1.1.1/24 rc1 192.0.2.1/30 rn 192.0.2.9/30",
    "lb": "l0 203.0.113.1/24 br0 10.77.0.1/24",
    "b0": f"e0 10.77.0.10/24 e1 10.1.0.2/24 lo {VIP4}/32",
    "b1": f"e0 10.77.0.11/24 e1 10.1.1.2/24 lo {VIP4}/32",
    "c1": "e0 192.0.2.2/30",
    "n": "e1 192.0.2.10/30 e0 192.168.3.1/24",
    "c3": "e0 192.168.3.2/24",
}
_ROUTES = {
    "r": f"{VIP4} via 203.0.113.1",
    "lb": "default via 203.0.113.254",
    "b0": "default via 10.1.0.1",
    "b1": "default via 10.1.1.1",
    "c1": "default via 192.0.2.1",
    "n": "default via 192.0.2.9",
    "c3": "default via 192.168.3.1",
}
_NETWORK_PRIORITY = 20
# What crosses the wire between a client and the VIP, by direction: IKE and ESP, not what comes out of ESP.
_SEEN = f"""\
table ip seen {{
    counter to_vip {{ }}
    counter from_vip {{ }}
    chain count {{
        ip daddr {VIP4} meta l4proto esp counter name to_vip
        ip daddr {VIP4} udp dport {{ 500, 4500 }} counter name to_vip
        ip saddr {VIP4} meta l4proto esp counter name from_vip
        ip saddr {VIP4} udp sport {{ 500, 4500 }} counter name from_vip
    }}
    chain arriving {{
        type filter hook prerouting priority -450
        jump count
    }}
    chain leaving {{
        type filter hook postrouting priority 450
        jump count
    }}
}}
"""


def network_first() -> None:
    """Let soft interrupts that were put off run before all programs; see `guest_pop`."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        if comm.read_text().startswith("ksoftirqd/"):
            os.sched_setscheduler(int(comm.parent.name), os.SCHED_FIFO, os.sched_param(_NETWORK_PRIORITY))


def build(net: Net) -> None:
    """Raise namespaces, links, addresses, routes, the NAT, and counters at both ends."""
    made = "".join(f"netns add {net.name(name)}\n" for name in _NAMES)
    net.names += _NAMES
    run("ip", "-batch", "-", stdin=made)
    for name in _NAMES:
        with net.thread(name) as executor:
            executor.submit(_forward).result()
    veth = "link add {1} netns {0} type veth peer name {3} netns {2}\n"
    links = [(net.name(a), a_if, net.name(b), b_if) for a, a_if, b, b_if in _LINKS]
    run("ip", "-batch", "-", stdin="".join(veth.format(*link) for link in links))
    for name in _NAMES:
        lines = ["link add br0 type bridge", "link set p0 master br0", "link set p1 master br0"] if name == "lb" else []
        words = _ADDRESSES[name].split()
        lines += [f"addr add {address} dev {dev}" for dev, address in zip(words[::2], words[1::2], strict=True)]
        ends = [(link[0], link[1]) for link in _LINKS] + [(link[2], link[3]) for link in _LINKS] + [("lb", "br0")]
        lines += [f"link set {dev} up" for where, dev in (*ends, (name, "lo")) if where == name]
        lines += [f"route add {_ROUTES[name]}"]
        run("ip", "-n", net.name(name), "-batch", "-", stdin="\n".join(lines) + "\n")
    nat = "add table ip nat\nadd chain ip nat post { type nat hook postrouting priority 100; }\n"
    net.inside("n", "nft", "-f", "-", stdin=nat + 'add rule ip nat post oifname "e1" masquerade random\n')
    for name in (*CLIENTS, *BACKENDS):
        net.inside(name, "nft", "-f", "-", stdin=_SEEN)


def counters(net: Net, name: str, family: str, table: str) -> dict[str, int]:
    """Return packets by named counter of one table."""
    text = net.inside(name, "nft", "-j", "list", "counters", "table", family, table)
    found = [entry["counter"] for entry in json.loads(text)["nftables"][1:]]
    return {c["name"]: c["packets"] for c in found}


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for which in ("all", "default"):
        Path(f"/proc/sys/net/ipv4/conf/{which}/rp_filter").write_text("0")
